"""What the relay asks of an upstream, and what an upstream tells the relay.

Theory of operation
-------------------
An upstream pushes: it calls a `Sink` from its own read callback, so a streamed token costs no task switch between the
upstream's socket and the client's. `Upstream.open()` returns at once with an `Exchange`; everything that happens later,
failure to connect included, arrives at the sink. A sink sees either one `on_failure`, or one `on_head`, any number of
`on_data`, then `on_end` or `on_failure`; nothing arrives after the end, nor after `Exchange.abort()`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from proxy.policy.model import Endpoint
from proxy.routing.plan import Attempt
from proxy.routing.trace_context import TraceContext
from proxy.upstream.errors import UpstreamError

RawHeaders = list[tuple[bytes, bytes]]


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One client request, ready to be sent to any target.

    `body` holds the top-level members of the client's JSON object as undecoded bytes, keys unique. `headers` are the
    client's, already through the allow-list, lower-case names. `usage_wanted` says that the client itself asked for the
    usage chunk of a stream; upstreams always ask for it. `trace` is for those upstreams that are told of it.
    """

    request_id: str
    endpoint: Endpoint
    body: dict[str, msgspec.Raw]
    headers: RawHeaders
    stream: bool
    usage_wanted: bool = False
    trace: TraceContext | None = None


class Head(msgspec.Struct, frozen=True, gc=False):
    """Status and headers of an upstream's reply; header names are lower-case."""

    status: int
    headers: RawHeaders

    def get(self, name: bytes) -> bytes | None:
        """The first value of the header `name` (lower-case), or None."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


class Sink(Protocol):
    """The receiving end of one exchange: the relay."""

    def on_head(self, head: Head) -> None: ...

    def on_data(self, data: bytes) -> None: ...

    def on_end(self) -> None: ...

    def on_failure(self, error: UpstreamError) -> None: ...


class Exchange(Protocol):
    """The sending end's handle on one exchange in progress."""

    def pause(self) -> None:
        """Stop reading from the upstream: the client is slow."""

    def resume(self) -> None:
        """Read again."""

    def abort(self, closed: Callable[[], None] | None = None) -> None:
        """Close the upstream's connection now and forget the sink. Idempotent, and harmless after the end.

        `closed` is called when the connection is gone; never, if it was not the exchange's any more.
        """


class Upstream(Protocol):
    """One way of reaching targets."""

    def open(self, attempt: Attempt, call: Call, sink: Sink) -> Exchange:
        """Start the exchange; never waits and never raises for what the network does."""
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...
