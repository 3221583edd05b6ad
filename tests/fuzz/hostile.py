"""Callers who mean no good: requests of every kind that the data port may meet, each made anew from random bytes.

The kinds come in turns, so that a few hundred requests have been through all of them; what varies from one request to
the next is what the caller chooses: names, keys, tags, paths, headers, bodies, and bytes that are no HTTP at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import string
from collections.abc import Callable, Iterator
from typing import Any

from tests.harness import read_reply, request_bytes

CHAT = "/v1/chat/completions"
PATHS = (
    CHAT,
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
    "/v1/models",
    "/healthz",
    "/readyz",
)
METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "PURGE")
LETTERS = string.ascii_letters + string.digits + "-_./:@ %~\u00e9"
PATIENCE_S, RUDE_S = 10.0, 0.02
Ask = tuple[str, str, bytes, dict[str, str]]
"""Method, path, body, headers."""


class Hostile:
    """Requests without end from one seed; `key` opens the door, `model` is served."""

    def __init__(self, seed: int, *, key: str, model: str) -> None:
        self._draw = random.Random(seed)
        self._key, self._model = {"authorization": f"Bearer {key}"}, model

    def requests(self) -> Iterator[Ask | bytes]:
        """Every kind in turn, for ever; bytes are sent as they are, on a connection of their own."""
        kinds: tuple[Callable[[], Ask | bytes], ...] = (
            self._served,
            self._prompt,
            self._unknown_model,
            self._wrong_key,
            self._tags,
            self._session,
            self._unknown_target,
            self._own_headers,
            self._foreign_headers,
            self._path,
            self._method,
            self._not_json,
            self._wrong_types,
            self._many_members,
            self._garbage,
        )
        while True:
            for kind in kinds:
                yield kind()

    def visits(self) -> Iterator[Ask]:
        """Each in a session of its own."""
        while True:
            yield self._session()

    def _word(self, most: int = 40) -> str:
        return "".join(self._draw.choices(LETTERS, k=self._draw.randint(1, most)))

    def _token(self, most: int = 40) -> str:
        return "".join(self._draw.choices(string.ascii_lowercase + string.digits, k=self._draw.randint(1, most)))

    def _post(self, headers: dict[str, str] | None = None, **more: Any) -> Ask:
        body = {"model": self._model, "messages": [{"role": "user", "content": self._word()}], **more}
        return "POST", CHAT, json.dumps(body).encode(), {**self._key, **(headers or {})}

    def _served(self) -> Ask:
        return self._post(user=self._word(), metadata={self._word(): self._word()}, seed=self._draw.getrandbits(60))

    def _prompt(self) -> Ask:
        """Long and like no other: every block of it is news to the index of prompts."""
        return self._post(messages=[{"role": "user", "content": self._draw.randbytes(2_000).hex()}])

    def _unknown_model(self) -> Ask:
        return self._post(model=self._word(200))

    def _wrong_key(self) -> Ask:
        return self._post({"authorization": f"Bearer sk-{self._token()}"})

    def _tags(self) -> Ask:
        return self._post({"x-spillway-tags": ",".join(self._token() for _ in range(self._draw.randint(1, 20)))})

    def _session(self) -> Ask:
        return self._post({"x-spillway-session": self._token(64)})

    def _unknown_target(self) -> Ask:
        return self._post({"x-spillway-target": self._token()})

    def _own_headers(self) -> Ask:
        names = ("lane", "priority", "traffic", "tags", "session", "target", self._token())
        return self._post({f"x-spillway-{name}": self._token() for name in self._draw.sample(names, 2)})

    def _foreign_headers(self) -> Ask:
        return self._post({self._token(): self._token(80) for _ in range(self._draw.randint(1, 30))})

    def _path(self) -> Ask:
        path = "/" + self._word(80).replace(" ", "+").encode("ascii", "replace").decode()
        return self._draw.choice(METHODS[:2]), path, b"", self._key

    def _method(self) -> Ask:
        return self._draw.choice(METHODS), self._draw.choice(PATHS), b"", self._key

    def _not_json(self) -> Ask:
        return "POST", self._draw.choice(PATHS[:5]), self._draw.randbytes(self._draw.randint(0, 400)), self._key

    def _wrong_types(self) -> Ask:
        value = self._draw.choice((None, True, -1, 1e300, [], {}, [[[]]], self._word(), {self._word(): self._word()}))
        member = self._draw.choice(("model", "messages", "max_tokens", "n", "stream", "tools", "stop", self._word()))
        return self._post(**{member: value})

    def _many_members(self) -> Ask:
        depth = self._draw.randint(1, 300)
        deep = json.loads("[" * depth + "]" * depth)
        return self._post(**{**{self._token(): self._word() for _ in range(20)}, self._word(): deep})

    def _garbage(self) -> bytes:
        shape = self._draw.randrange(4)
        noise = self._draw.randbytes(self._draw.randint(1, 300))
        if shape == 0:
            return noise
        if shape == 1:
            return f"GET /{self._token()} HTTP/{self._draw.randint(0, 9)}.9\r\n\r\n".encode() + noise
        if shape == 2:
            return b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + noise
        return request_bytes("POST", CHAT, noise, {"content-length": str(self._draw.randint(0, 200))})


async def send(port: int, asks: Iterator[Ask | bytes], count: int, at_once: int = 16) -> int:
    """Send so many of them, some at once; how many were answered. An answer may be anything but silence."""
    left, answered = count, 0

    async def caller() -> None:
        nonlocal left, answered
        line: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while left > 0:
            left -= 1
            ask = next(asks)
            if isinstance(ask, bytes):
                await _throw(port, ask)
                continue
            if line is None:
                line = await asyncio.open_connection("127.0.0.1", port)
            status, keeps = await _ask(line, ask)
            answered += status > 0
            if not keeps:
                line[1].close()
                line = None
        if line is not None:
            line[1].close()

    async with asyncio.TaskGroup() as callers:
        for _ in range(at_once):
            callers.create_task(caller())
    return answered


async def _ask(line: tuple[asyncio.StreamReader, asyncio.StreamWriter], ask: Ask) -> tuple[int, bool]:
    """The status, 0 for a connection that was closed instead; and whether the connection goes on."""
    reader, writer = line
    method, path, body, headers = ask
    writer.write(request_bytes(method, path, body, headers))
    try:
        async with asyncio.timeout(PATIENCE_S):
            if method == "HEAD":  # whose answer has the length of a body that does not come
                return int((await reader.readuntil(b"\r\n\r\n")).split()[1]), False
            got = await read_reply(reader)
    except (OSError, asyncio.IncompleteReadError):
        return 0, False
    return got.status, got.complete and got.headers.get("connection") != "close"


async def _throw(port: int, data: bytes) -> None:
    """Bytes, and no word more; whoever sends them does not wait long for an answer either."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(OSError):
        writer.write(data)
        await asyncio.wait_for(reader.read(1), RUDE_S)
    writer.close()
