"""Many clients at once, as a process: each asks, reads its answer to the end, and asks again.

    python -m tests.faults.crowd CLIENTS SECONDS SEED LONGEST MANNERS PORT [PORT ...]

A client stays with its proxy. `MANNERS` is a comma-separated list to draw from: those of `upstream.py`, and `leave`,
when the client goes half-way. After a refusal it waits a quarter of a second. At the end all requests go to standard
output, one JSON list a line: `[id, begun_at, ended_at, first_at, planned, manner, got, status, end]`, where `end` is
`done`, `cut` (an error event), `broken`, `left` or, for a refusal, its code. Times are monotonic.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
import time
from typing import cast

import orjson
import uvloop

REFUSED_PAUSE_S = 0.25
PADDING = " and then some words more, as people write them" * 8


class Exchange(asyncio.Protocol):
    """One request on a connection of its own."""

    transport: asyncio.Transport

    def __init__(self, request: bytes, leave_after: int) -> None:
        self.request, self.leave_after = request, leave_after
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.events = 0
        self.first_at = 0.0
        self.tail = self.head = b""
        self.left = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if not self.head:
            self.head = data[:400]
        count = data.count(b'"content":"word ')
        if count and not self.first_at:
            self.first_at = time.monotonic()
        self.events += count
        self.tail = (self.tail + data)[-400:]
        if self.leave_after and self.events >= self.leave_after:
            self.left = True
            self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    @property
    def status(self) -> int:
        return int(self.head[9:12] or b"0")

    @property
    def end(self) -> str:
        if self.left:
            return "left"
        if self.status == 200:
            return "done" if b"[DONE]" in self.tail else "cut" if b'"error"' in self.tail else "broken"
        code = self.tail.rpartition(b'"code":"')[2].partition(b'"')[0]
        return code.decode() or "broken"


class Crowd:
    """The clients, and what became of their requests."""

    def __init__(self, seed: int, longest: int, manners: list[str], ports: list[int]) -> None:
        self.random, self.longest, self.manners, self.ports = random.Random(seed), longest, manners, ports
        self.numbers = itertools.count()
        self.seed = seed
        self.rows: list[list[object]] = []

    async def client(self, number: int, until: float) -> None:
        port = self.ports[number % len(self.ports)]
        await asyncio.sleep(self.random.random())
        while time.monotonic() < until:
            if not await self.ask(port):
                await asyncio.sleep(REFUSED_PAUSE_S)

    async def ask(self, port: int) -> bool:
        planned = max(2, int(self.longest * self.random.random() ** 2))
        manner = self.random.choice(self.manners)
        name = f"r{self.seed}-{next(self.numbers)}"
        leave_after = max(1, planned // 2) if manner == "leave" else 0
        begun_at = time.monotonic()
        request = _request(name, prompt(planned, manner))
        try:
            _, one = await asyncio.get_running_loop().create_connection(
                lambda: Exchange(request, leave_after), "127.0.0.1", port
            )
        except OSError:
            self.rows.append([name, begun_at, time.monotonic(), 0.0, planned, manner, 0, 0, "unreachable"])
            return False
        await one.ended
        now = time.monotonic()
        self.rows.append([name, begun_at, now, one.first_at, planned, manner, one.events, one.status, one.end])
        return one.status == 200


def prompt(planned: int, manner: str) -> str:
    """What a client writes."""
    return f"{planned} {'usage' if manner == 'leave' else manner}{PADDING}"


def _request(name: str, text: str) -> bytes:
    body = orjson.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": text}]})
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n"
        b"x-request-id: %b\r\ncontent-length: %d\r\n\r\n%b" % (name.encode(), len(body), body)
    )


async def main(clients: int, seconds: float, crowd: Crowd) -> None:
    until = time.monotonic() + seconds
    await asyncio.gather(*[crowd.client(number, until) for number in range(clients)])
    for row in crowd.rows:
        sys.stdout.write(orjson.dumps(row).decode() + "\n")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    people = Crowd(int(arguments[2]), int(arguments[3]), arguments[4].split(","), [*map(int, arguments[5:])])
    uvloop.run(main(int(arguments[0]), float(arguments[1]), people))
