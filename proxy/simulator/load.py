"""A rising and falling load of streamed chat requests, as the apps of a company would send them.

Theory of operation
-------------------
Arrivals are open-loop: they follow the curve, whether or not earlier requests have been answered, which is what makes
an engine overflow. Each request has a connection of its own and reads the stream as it comes; what happened to it is a
`Visit`, told to a listener at its three turning points: answered (the head is here, so the lane is known), first token,
end. The reader is a plain OpenAI client: it believes a stream that ends in `[DONE]`, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from random import Random
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import httptools
import orjson

_PROMPT = "This prompt is part of a simulated load; nobody wrote it and nobody reads the answer. "


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadCurve:
    """Requests per second over one period: 20 % low, 25 % rising, 15 % high, 15 % falling, 25 % low again."""

    low: float
    high: float
    period_s: float

    def rate(self, at_s: float) -> float:
        """Requests per second at this time; the curve repeats."""
        part = at_s % self.period_s / self.period_s
        if part < 0.20:
            return self.low
        if part < 0.45:
            return self._between((part - 0.20) / 0.25)
        if part < 0.60:
            return self.high
        if part < 0.75:
            return self._between((0.75 - part) / 0.15)
        return self.low

    def arrivals(self, random: Random) -> Iterator[float]:
        """Times of arrival, in seconds since the start, for ever: spaced by the rate, half a gap more or less."""
        at_s = 0.0
        while True:
            at_s += random.uniform(0.5, 1.5) / self.rate(at_s)
            yield at_s

    def _between(self, share: float) -> float:
        return self.low + (self.high - self.low) * min(share, 1.0)


@dataclass(slots=True)
class Visit:
    """One request's story; times are `time.monotonic()` seconds. `headers` are the reply's, names in lower case."""

    sent_s: float
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    first_token_s: float | None = None
    ended_s: float | None = None
    tokens: int = 0
    usage: dict[str, Any] | None = None
    failure: str | None = None


class Turn(Enum):
    """What a `Visit` has come to."""

    ANSWERED = "answered"
    BEGUN = "begun"
    ENDED = "ended"


Listener = Callable[[Visit, Turn], None]


class Load:
    """Sends requests to `url`, an OpenAI base URL, for `model`."""

    def __init__(self, url: str, model: str, listener: Listener, *, api_key: str = "none", seed: int = 0) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or 80
        self._path = f"{parts.path}/chat/completions"
        self._model = model
        self._listener = listener
        self._api_key = api_key
        self._random = Random(seed)  # noqa: S311 (arrivals, not secrets)
        self._visits: set[asyncio.Task[None]] = set()

    @property
    def open(self) -> int:
        """Requests sent and not ended."""
        return len(self._visits)

    async def follow(self, curve: LoadCurve) -> None:
        """Send requests along the curve until cancelled; those on their way go on."""
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        for at_s in curve.arrivals(self._random):
            await asyncio.sleep(max(0.0, start_s + at_s - loop.time()))
            self.send()

    def send(self) -> None:
        """Send one request, of the size that a chat turn has."""
        prompt_tokens, answer_tokens = self._random.randint(150, 650), self._random.randint(40, 80)
        self.ask(_body(self._model, prompt_tokens, answer_tokens))

    def ask(self, body: bytes) -> Visit:
        """Send one request of the caller's own."""
        visit = Visit(monotonic())
        task = asyncio.create_task(self._pay(visit, body))
        self._visits.add(task)
        task.add_done_callback(self._visits.discard)
        return visit

    async def drain(self, within_s: float) -> None:
        """Wait for the requests on their way; after `within_s` seconds hang up on the rest."""
        if self._visits:
            await asyncio.wait(self._visits, timeout=within_s)
        for visit in tuple(self._visits):
            visit.cancel()
        await asyncio.gather(*self._visits, return_exceptions=True)

    async def _pay(self, visit: Visit, body: bytes) -> None:
        loop = asyncio.get_running_loop()
        reading = _Reading(visit, self._listener, loop.create_future())
        try:
            transport, _ = await loop.create_connection(lambda: reading, self._host, self._port)
        except OSError as error:
            reading.end(f"cannot connect: {error.strerror or error}")
            return
        try:
            transport.write(self._head(len(body)) + body)
            await reading.done
        except asyncio.CancelledError:
            reading.forget()
            raise
        finally:
            transport.close()

    def _head(self, length: int) -> bytes:
        return (
            f"POST {self._path} HTTP/1.1\r\nhost: {self._host}:{self._port}\r\n"
            f"authorization: Bearer {self._api_key}\r\ncontent-type: application/json\r\n"
            f"content-length: {length}\r\nconnection: close\r\n\r\n"
        ).encode("latin-1")


class _Reading(asyncio.Protocol):
    """Reads one streamed reply; httptools calls the `on_...` methods."""

    def __init__(self, visit: Visit, listener: Listener, done: asyncio.Future[None]) -> None:
        self.done = done
        self._visit = visit
        self._listener = listener
        self._parser = httptools.HttpResponseParser(self)
        self._rest = b""
        self._complete = False

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.end("the reply is not HTTP")

    def connection_lost(self, exc: Exception | None) -> None:
        self.end("the connection broke before the reply was complete")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._visit.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._visit.status = self._parser.get_status_code()
        self._listener(self._visit, Turn.ANSWERED)

    def on_body(self, body: bytes) -> None:
        *events, self._rest = (self._rest + body).split(b"\n\n")
        for event in events:
            if event.startswith(b"data: "):
                self._event(event[6:])

    def on_message_complete(self) -> None:
        if self._visit.status != 200:
            self.end(f"status {self._visit.status}")
        else:
            self.end(None if self._complete else "the stream ended without [DONE]")

    def forget(self) -> None:
        """This side hangs up: no fault of anybody's, and nothing more is told."""
        self._visit.ended_s = monotonic()

    def end(self, failure: str | None) -> None:
        """The visit is over; the first reason counts."""
        if self._visit.ended_s is not None:
            return
        self._visit.ended_s = monotonic()
        self._visit.failure = self._visit.failure or failure
        self._listener(self._visit, Turn.ENDED)
        if not self.done.done():
            self.done.set_result(None)

    def _event(self, data: bytes) -> None:
        if data == b"[DONE]":
            self._complete = True
            return
        event = orjson.loads(data)
        if "error" in event:
            self._visit.failure = "an error event in the stream"
        self._visit.usage = event.get("usage") or self._visit.usage
        for choice in event.get("choices", ()):
            if choice["delta"].get("content"):
                self._visit.tokens += 1
                if self._visit.first_token_s is None:
                    self._visit.first_token_s = monotonic()
                    self._listener(self._visit, Turn.BEGUN)


def _body(model: str, prompt_tokens: int, answer_tokens: int) -> bytes:
    prompt = (_PROMPT * (prompt_tokens * 4 // len(_PROMPT) + 1))[: prompt_tokens * 4]
    return orjson.dumps(
        {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": answer_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )
