"""The only way out for LiteLLM: every request that it makes passes a `Wire`, which belongs to one exchange.

Theory of operation
-------------------
LiteLLM opens connections in many places: its own handlers, the OpenAI SDK, fetchers of images that a message links to.
All of them are given one transport without a network of its own, the `Gate`, which looks up the wire of the running
exchange in a context variable and refuses when there is none. The wire then decides what LiteLLM would leave open:

- a request may go to the target's own origin only, so no URL in a request body is ever fetched;
- what the policy sets for the target is set in the body that leaves;
- redirects cannot be followed: the `location` header is taken off before any client sees it;
- after a network failure, a 429 or a 5xx nothing more is sent: retries belong to the relay;
- replies are asked for, and accepted, uncompressed, and are bounded in size;
- `close()` ends every read in progress, also in tasks that LiteLLM has started to drain a stream by itself.

The wire also keeps what LiteLLM's exceptions lose: the true status, the headers, the error body, and how the connection
failed. Those, and not an exception's text, are what the relay is told.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextvars import ContextVar
from enum import Enum
from typing import cast

import httpx
import msgspec

from proxy.policy.model import Timeouts
from proxy.upstream.errors import ConnectFailed, ConnectionBroken, ConnectTimedOut, ProtocolViolated, UpstreamError
from proxy.upstream.parameters import Members, set_in

MAX_REPLY_BYTES = 64 * 1024 * 1024
MAX_ERROR_BODY_BYTES = 64 * 1024

_END_OF_BODY_S = 0.05

Origin = tuple[str, str, int]
"""Scheme, host and port."""


def origin_of(url: str | httpx.URL) -> Origin:
    """The origin of `url`, default ports filled in."""
    parsed = httpx.URL(url)
    return parsed.scheme, parsed.host, parsed.port or {"https": 443, "http": 80}.get(parsed.scheme, 0)


class Refused(Enum):
    """Why a request of LiteLLM's did not leave."""

    FETCH = "it would have fetched something that the body names by URL"
    ORIGIN = "it was not for the target's url"
    BLOCKING = "it would have blocked the event loop"


class Wire:
    """One exchange's network: what it may reach, what came of it, and how to end it.

    `origin` None means that the policy names no URL, so the provider's own is LiteLLM's to know. `parameters` are
    members of every body. `sent` counts requests that went out, `refused` says why the last one kept back was;
    `failure` is the first way in which the network failed; `error_body` is the body of a bad answer, or the piece of a
    stream that reports an error.
    """

    __slots__ = (
        "_parameters", "_streams", "_tasks", "_timeouts", "_transport", "closed", "error_body", "failure", "headers",
        "origin", "refused", "sent", "status",
    )  # fmt: skip

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        origin: Origin | None,
        timeouts: Timeouts,
        parameters: Members | None = None,
    ) -> None:
        self._transport = transport
        self._parameters = parameters
        self._timeouts = timeouts
        self._tasks: set[asyncio.Task[object]] = set()
        self._streams: set[_Reply] = set()
        self.origin = origin
        self.sent = 0
        self.status: int | None = None
        self.headers: httpx.Headers = httpx.Headers()
        self.error_body = b""
        self.failure: UpstreamError | None = None
        self.refused: Refused | None = None
        self.closed = False

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send one request, or refuse to.

        Raises only plain `httpx.NetworkError`: LiteLLM answers `ConnectError` and `RemoteProtocolError` with a retry.
        """
        self._admit(request)
        if self._parameters:
            request = self._with_parameters(request, await request.aread())
        request.headers["accept-encoding"] = "identity"
        request.extensions = {**request.extensions, "timeout": self._httpx_timeouts()}
        self.sent += 1
        self.error_body = b""
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        try:
            response = await self._transport.handle_async_request(request)
        except httpx.HTTPError as error:
            raise self._fail(_connect_failure(error)) from error
        finally:
            if task is not None:
                self._tasks.discard(task)
        return self._receive(response)

    def note(self, data: bytes) -> None:
        """Keep what says why: the body of a bad answer, the piece of a good one that reports an error.

        Generated text cannot look like the latter: inside a JSON string the quotes are escaped.
        """
        if self.status is not None and self.status >= 300:
            self.error_body = (self.error_body + data)[:MAX_ERROR_BODY_BYTES]
        elif b'"error"' in data:
            self.error_body = data[-MAX_ERROR_BODY_BYTES:]

    async def finish(self) -> None:
        """Close what LiteLLM has left open after a good end."""
        for stream in tuple(self._streams):
            await stream.aclose()

    def close(self) -> None:
        """End every request and read in progress; nothing is sent or read afterwards. Idempotent."""
        self.closed = True
        for task in tuple(self._tasks):
            task.cancel()
        for stream in tuple(self._streams):
            stream.kill()

    def _admit(self, request: httpx.Request) -> None:
        if self.closed:
            raise httpx.NetworkError("the exchange is over")
        if request.method != "POST":
            self.refused = Refused.FETCH
            raise httpx.NetworkError("nothing is fetched")
        if self.origin is not None and origin_of(request.url) != self.origin:
            self.refused = Refused.ORIGIN
            raise httpx.NetworkError("not the target's origin")
        if self.failure is not None or self.status == 429 or (self.status or 0) >= 500:
            raise httpx.NetworkError("retries are the relay's")

    def _with_parameters(self, request: httpx.Request, body: bytes) -> httpx.Request:
        """A form is no prompt: some providers have a token asked for first."""
        if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return request
        try:
            body = set_in(body, self._parameters or {})
        except msgspec.MsgspecError as error:
            raise self._fail(
                ProtocolViolated("the target's `parameters` cannot be set in what litellm sends")
            ) from error
        headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"content-length"]
        return httpx.Request(request.method, request.url, headers=headers, content=body, extensions=request.extensions)

    def _httpx_timeouts(self) -> dict[str, float | None]:
        """Only connecting and writing are timed here: waiting for tokens is the relay's to time."""
        connect_s = self._timeouts.connect_s
        return {"connect": connect_s, "pool": connect_s, "write": self._timeouts.idle_s, "read": None}

    def _receive(self, response: httpx.Response) -> httpx.Response:
        self.status = response.status_code
        self.headers = httpx.Headers(response.headers)
        for name in ("location", "set-cookie"):
            response.headers.pop(name, None)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise self._fail(ProtocolViolated("compressed reply to a request for an uncompressed one"))
        reply = _Reply(cast("httpx.AsyncByteStream", response.stream), self)
        self._streams.add(reply)
        return httpx.Response(
            response.status_code, headers=response.headers, stream=reply, extensions=response.extensions
        )

    def _fail(self, failure: UpstreamError) -> httpx.NetworkError:
        if self.failure is None:
            self.failure = failure
        return httpx.NetworkError(failure.detail)


class _Reply(httpx.AsyncByteStream):
    """A reply's body on its way to LiteLLM: counted, noted when it breaks, ended when the exchange is.

    Readers of events stop at the last event and leave the end of the body unread, which would cost the connection: what
    is left is read, for a moment, before a body is closed.
    """

    __slots__ = ("_closing", "_inner", "_reading", "_wire")

    def __init__(self, inner: httpx.AsyncByteStream, wire: Wire) -> None:
        self._inner = inner
        self._reading = aiter(inner)
        self._wire = wire
        self._closing: asyncio.Task[None] | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        wire, size = self._wire, 0
        try:
            async for data in self._reading:
                if wire.closed:
                    raise httpx.ReadError("the exchange is over")
                size += len(data)
                if size > MAX_REPLY_BYTES:
                    raise wire._fail(ProtocolViolated(f"reply of more than {MAX_REPLY_BYTES} bytes"))
                wire.note(data)
                yield data
        except httpx.HTTPError as error:
            if not wire.closed:
                wire._fail(_read_failure(error))
            raise httpx.ReadError("the reply broke off") from error

    async def aclose(self) -> None:
        self._wire._streams.discard(self)
        if not self._wire.closed:
            with contextlib.suppress(TimeoutError, httpx.HTTPError, StopAsyncIteration):
                async with asyncio.timeout(_END_OF_BODY_S):
                    await anext(self._reading)
        await self._inner.aclose()

    def kill(self) -> None:
        """Close from outside, without waiting."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close_quietly())

    async def _close_quietly(self) -> None:
        with contextlib.suppress(httpx.HTTPError, RuntimeError):
            await self.aclose()


CURRENT: ContextVar[Wire | None] = ContextVar("wire", default=None)
"""The wire of the exchange that the running task, or the thread working for it, belongs to."""


class Gate(httpx.AsyncBaseTransport):
    """The transport under every asynchronous client inside LiteLLM. Closing such a client closes nothing."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send by the running exchange's wire; without one, refuse."""
        wire = CURRENT.get()
        if wire is None:
            raise httpx.NetworkError("no exchange is open")
        return await wire.send(request)

    async def aclose(self) -> None:
        """Nothing: the connections are the engine's."""


class ClosedGate(httpx.BaseTransport):
    """The transport under every synchronous client inside LiteLLM: nothing blocking leaves this process."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Refuse."""
        wire = CURRENT.get()
        if wire is not None:
            wire.refused = Refused.BLOCKING
        raise httpx.NetworkError("blocking requests are not allowed")


def _connect_failure(error: httpx.HTTPError) -> UpstreamError:
    if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout):
        return ConnectTimedOut("no connection in time")
    if isinstance(error, httpx.ConnectError):
        return ConnectFailed(f"cannot connect: {type(error.__cause__ or error).__name__}")
    return _read_failure(error)


def _read_failure(error: httpx.HTTPError) -> UpstreamError:
    if isinstance(error, httpx.RemoteProtocolError) and not _is_disconnect(error):
        return ProtocolViolated("not HTTP/1.1")
    return ConnectionBroken(f"closed before the reply was complete: {type(error).__name__}")


def _is_disconnect(error: httpx.RemoteProtocolError) -> bool:
    """h11 reports an early close and a malformed reply by one exception; only its text tells them apart."""
    text = str(error)
    return "closed connection" in text or "disconnected" in text
