"""What the two ways of answering a client have in common: refusals and keep-alives in the caller's protocol."""

from __future__ import annotations

from abc import ABC, abstractmethod

from proxy.api.errors import Dialect
from proxy.caller import FixedHeaders, Listener
from proxy.routing.plan import Refusal
from proxy.routing.trace_context import TraceContext
from proxy.upstream.base import RawHeaders


class BaseClient(ABC):
    """Half of the relay's `Client`; the other half puts bytes on a connection (`direct`) or into ASGI (`stream`)."""

    __slots__ = ("_dialect", "left", "listener", "name", "started", "trace")

    def __init__(self, dialect: Dialect, name: str) -> None:
        self._dialect = dialect
        self.name = name
        self.listener: Listener | None = None
        self.trace: TraceContext | None = None
        self.started = False
        self.left = False

    @abstractmethod
    def start(self, status: int, headers: RawHeaders, fixed: FixedHeaders = ()) -> None:
        """The status line and headers, and the request id with them; body bytes follow at once."""

    @abstractmethod
    def write(self, data: bytes) -> bool:
        """Send body bytes; False when the client is slow, and `listener.on_client_ready()` will follow."""

    @abstractmethod
    def end(self, data: bytes = b"") -> None:
        """Send the last bytes."""

    def ping(self) -> None:
        """Send a comment, after starting the reply if need be."""
        if not self.started:
            self.start(200, list(self._dialect.stream_headers))
        self.write(self._dialect.keep_alive)

    def refuse(self, refusal: Refusal) -> None:
        """Send an error in the caller's protocol: a JSON reply, or an error event once the reply has started."""
        if self.started:
            self.end(self._dialect.event(refusal))
            return
        body = refusal.verbatim or self._dialect.body(refusal, self.name)
        self.start(refusal.status, [*self._dialect.headers(refusal), (b"content-length", b"%d" % len(body))])
        self.end(body)

    def _lost(self) -> None:
        self.left = True
        if self.listener is not None:
            self.listener.on_client_left()
