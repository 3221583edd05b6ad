"""The caller of a request, as those see it who answer it: whatever server it came in by."""

from __future__ import annotations

from typing import Protocol

from proxy.routing.plan import Refusal
from proxy.upstream.base import RawHeaders

FixedHeaders = tuple[tuple[bytes, bytes], ...]


class Listener(Protocol):
    """Who is told what becomes of the caller."""

    def on_client_left(self) -> None: ...

    def on_client_ready(self) -> None: ...


class Client(Protocol):
    """The caller, whatever server it came in by. Bytes are accepted at once and sent in order."""

    listener: Listener | None

    @property
    def started(self) -> bool:
        """Whether the status line has been sent."""

    @property
    def left(self) -> bool:
        """Whether the caller is gone."""

    def start(self, status: int, headers: RawHeaders, fixed: FixedHeaders = ()) -> None:
        """The status line and headers; body bytes follow at once. `fixed` are those that many replies share."""

    def write(self, data: bytes) -> bool:
        """Send body bytes; False when the client is slow, and `listener.on_client_ready()` will follow."""
        ...

    def end(self, data: bytes = b"") -> None:
        """Send the last bytes."""

    def ping(self) -> None:
        """Send a comment, after starting the reply if need be."""

    def refuse(self, refusal: Refusal) -> None:
        """Send an error in the caller's protocol: a JSON reply, or an error event once the reply has started."""
