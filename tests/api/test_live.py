"""`GET /admin/live`: the view once, or as events, for as many as are welcome and as long as there are ticks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from proxy.api.live import MAX_LISTENERS, LiveFeed, wants_events
from proxy.api.server import ReceivingLimits, guarded_protocol
from proxy.deadlines import Deadlines
from starlette.applications import Starlette
from starlette.routing import Route
from tests.harness import listening, request_bytes
from tests.wire import Wire, wire

EVENTS = request_bytes("GET", "/admin/live", headers={"accept": "text/event-stream"})


class Board:
    """A board that ticks when it is told to."""

    def __init__(self, size: int = 2) -> None:
        self.ticks = self.views = 0
        self.closed = False
        self._size = size
        self._ticked = asyncio.Event()

    def view(self) -> bytes:
        self.views += 1
        return b'{"tick":%d,"pad":"%b"}' % (self.ticks, b"x" * self._size)

    async def freshened(self) -> bytes:
        return self.view()

    async def next(self) -> bool:
        if not self.closed:
            await self._ticked.wait()
        return not self.closed

    def tick(self, *, last: bool = False) -> None:
        self.ticks += 1
        self.closed = last
        self._ticked.set()
        self._ticked = asyncio.Event()


@contextlib.asynccontextmanager
async def served(board: Board, **limits: float) -> AsyncIterator[tuple[LiveFeed, int]]:
    feed = LiveFeed(board)
    deadlines = Deadlines()
    deadlines.start()
    protocol = guarded_protocol(deadlines, ReceivingLimits(**limits))  # type: ignore[arg-type]
    try:
        async with listening(Starlette(routes=[Route("/admin/live", feed.answer)]), protocol) as port:
            yield feed, port
    finally:
        board.tick(last=True)
        deadlines.stop()


@contextlib.asynccontextmanager
async def listener(port: int) -> AsyncIterator[Wire]:
    async with wire(port) as client:
        await client.send(EVENTS)
        yield client


async def test_the_view_once() -> None:
    async with served(Board()) as (_, port), wire(port) as client:
        await client.send(request_bytes("GET", "/admin/live"))
        got = await client.reply()
    assert (got.status, got.headers["content-type"], got.json["tick"]) == (200, "application/json", 0)


async def test_an_event_at_once_and_one_for_each_tick() -> None:
    board = Board()
    async with served(board) as (feed, port), listener(port) as client:
        head = await client.until(b"\r\n\r\n")
        assert b"content-type: text/event-stream" in head
        assert b"retry: 1000\n" in await client.until(b"retry: 1000\n")
        assert b'id: 1\ndata: {"tick":0,' in await client.until(b"}\n\n")
        for number in (1, 2, 3):
            board.tick()
            assert b'id: %d\ndata: {"tick":%d,' % (number + 1, number) in await client.until(b"}\n\n")
        assert feed.listeners == 1


async def test_a_stream_ends_in_order_when_there_are_no_more_ticks() -> None:
    board = Board()
    async with served(board) as (feed, port), listener(port) as client:
        await client.until(b"}\n\n")
        board.tick(last=True)
        assert (await client.until(b"0\r\n\r\n")).endswith(b"0\r\n\r\n")
        assert feed.listeners == 0


async def test_who_leaves_is_forgotten() -> None:
    board = Board()
    async with served(board) as (feed, port):
        async with listener(port) as client:
            await client.until(b"}\n\n")
            assert feed.listeners == 1
        async with asyncio.timeout(5):
            while feed.listeners:
                await asyncio.sleep(0.005)


async def test_more_than_enough_are_refused() -> None:
    async with served(Board()) as (feed, port), wire(port) as client:
        feed.listeners = MAX_LISTENERS
        await client.send(EVENTS)
        got = await client.reply()
        assert (got.status, got.json["error"]["code"]) == (503, "too_many_listeners")
        await client.send(request_bytes("GET", "/admin/live"))
        assert (await client.reply()).status == 200


async def test_a_crowd_that_comes_at_once_is_not_let_in_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.api.live.MAX_LISTENERS", 3)
    async with served(Board()) as (feed, port), contextlib.AsyncExitStack() as stack:
        crowd = [await stack.enter_async_context(listener(port)) for _ in range(12)]
        heads = await asyncio.gather(*[client.until(b"\r\n\r\n") for client in crowd])
        assert feed.listeners <= 3
        assert [b" 200 " in head or b" 503 " in head for head in heads] == [True] * 12


async def test_a_question_for_the_head_is_not_followed_for_ever() -> None:
    async with served(Board()) as (feed, port), wire(port) as client:
        await client.send(EVENTS.replace(b"GET", b"HEAD", 1) + request_bytes("GET", "/admin/live"))
        assert b"application/json" in await client.until(b"\r\n\r\n")
        assert (await client.reply()).status == 200
        assert feed.listeners == 0


async def test_who_does_not_read_holds_up_nobody_and_is_cut() -> None:
    """The first does not read a byte; views are large enough to fill every buffer between the two soon."""
    board = Board(size=48 << 10)
    async with served(board, stalled_s=0.3) as (feed, port), contextlib.AsyncExitStack() as stack:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 10)
        stack.callback(writer.close)
        writer.write(EVENTS)
        await reader.readuntil(b"\r\n\r\n")  # and from here on the window fills up
        client = await stack.enter_async_context(listener(port))
        async with asyncio.timeout(10):
            while feed.listeners < 2:
                await asyncio.sleep(0.005)
            while feed.listeners == 2:
                board.tick()
                await client.until(b"}\n\n")
        board.tick()
        assert b'"tick":%d,' % board.ticks in await client.until(b"}\n\n")


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("text/event-stream", True),
        ("text/html, Text/Event-Stream;q=0.9", True),
        ("*/*", False),
        ("application/json", False),
        ("", False),
    ],
)
def test_who_wants_events_says_so(accept: str, wanted: bool) -> None:
    assert wants_events(accept) is wanted
