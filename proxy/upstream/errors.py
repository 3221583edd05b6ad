"""The ways an upstream breaks a promise. Foreign exceptions are mapped to these once, where they are caught.

    UpstreamError                 failure          meaning
    ├── ConnectFailed             CONNECT          refused, unreachable, name not found, TLS not trusted
    ├── ConnectTimedOut           CONNECT_TIMEOUT  no connection within `Timeouts.connect_s`
    ├── ConnectionBroken          BROKEN           closed or reset before the reply was complete
    └── ProtocolViolated          PROTOCOL         not HTTP, or a reply that cannot be understood

An answer that is merely bad news (429, 500 ...) is a `Head`, not an error: the relay reads its status. `detail` is for
logs: it names the cause and holds no URL, header or body text.
"""

from __future__ import annotations

from typing import ClassVar

from proxy.routing.outcome import Failure


class UpstreamError(Exception):
    """Base of the tree; `failure` says what the relay may do about it."""

    failure: ClassVar[Failure]

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class ConnectFailed(UpstreamError):
    """No connection could be made."""

    failure = Failure.CONNECT


class ConnectTimedOut(UpstreamError):
    """No connection was made in time."""

    failure = Failure.CONNECT_TIMEOUT


class ConnectionBroken(UpstreamError):
    """The connection ended before the reply did."""

    failure = Failure.BROKEN


class ProtocolViolated(UpstreamError):
    """The reply cannot be read."""

    failure = Failure.PROTOCOL
