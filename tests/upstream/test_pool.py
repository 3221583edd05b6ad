"""The pool, over real sockets: reuse, age, dead connections, and dialling that fails or is given up."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import pytest
from proxy.upstream import pool as pool_module
from proxy.upstream.connection import Connection
from proxy.upstream.errors import ConnectFailed, ConnectionBroken, ConnectTimedOut
from proxy.upstream.pool import IDLE_S, Origin, Pool
from tests.scripted import CHAT_REPLY, CLOSE, HOLD, RESET, reply, scripted
from tests.upstream.transcript import Transcript

ASK = b"POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
ANSWER = reply(CHAT_REPLY)


@contextlib.asynccontextmanager
async def pool_to(port: int, host: str = "127.0.0.1", *, connect_s: float = 5.0) -> AsyncIterator[Pool]:
    pool = Pool(Origin(host, port, None), connect_s=connect_s)
    try:
        yield pool
    finally:
        pool.close()


async def asked(pool: Pool, sink: Transcript | None = None) -> Transcript:
    sink = sink or Transcript()
    pool.exchange(ASK, sink)
    await sink.finished()
    return sink


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The pool's clock, to be moved by hand."""
    now = [1000.0]

    class Clock:
        monotonic = staticmethod(lambda: now[0])

    monkeypatch.setattr(pool_module, "time", Clock)
    return iter([now]).__next__()


async def test_one_connection_serves_one_request_after_another() -> None:
    async with scripted([ANSWER]) as up, pool_to(up.port) as pool:
        for _ in range(3):
            assert (await asked(pool)).steps == ["head", "data", "end"]
    assert (up.connections, len(up.requests)) == (1, 3)


async def test_requests_at_once_have_connections_of_their_own() -> None:
    go = asyncio.Event()
    async with scripted([go, ANSWER]) as up, pool_to(up.port) as pool:
        sinks = [Transcript() for _ in range(3)]
        for sink in sinks:
            pool.exchange(ASK, sink)
        for _ in sinks:
            await asyncio.wait_for(up.arrived.get(), 5)
        go.set()
        await asyncio.gather(*[sink.finished() for sink in sinks])
    assert up.connections == 3


async def test_the_connection_used_last_is_used_next(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[Connection] = []
    send = Connection.send
    monkeypatch.setattr(Connection, "send", lambda self, *rest: used.append(self) or send(self, *rest))
    first, second = asyncio.Event(), asyncio.Event()
    async with scripted([first, ANSWER], [second, ANSWER], [ANSWER]) as up, pool_to(up.port) as pool:
        sinks = [Transcript(), Transcript()]
        for sink in sinks:
            pool.exchange(ASK, sink)
            await asyncio.wait_for(up.arrived.get(), 5)
        second.set()
        await sinks[1].finished()
        first.set()
        await sinks[0].finished()
        for _ in range(3):
            await asked(pool)
    assert used[2:] == [used[0]] * 3
    assert up.connections == 2


async def test_a_connection_is_not_used_beyond_its_age(clock: list[float]) -> None:
    async with scripted([ANSWER]) as up, pool_to(up.port) as pool:
        await asked(pool)
        clock[0] += IDLE_S - 0.1
        await asked(pool)
        assert up.connections == 1
        clock[0] += IDLE_S + 0.1
        await asked(pool)
        assert up.connections == 2


@pytest.mark.parametrize("ending", [CLOSE, RESET])
async def test_a_request_on_a_dead_connection_is_sent_again_unseen(ending: object) -> None:
    async with scripted([ANSWER], [ending], [ANSWER]) as up, pool_to(up.port) as pool:  # type: ignore[list-item]
        await asked(pool)
        second = await asked(pool)
    assert second.steps == ["head", "data", "end"]
    assert (up.connections, len(up.requests)) == (2, 3)


async def test_a_request_is_sent_again_once_only() -> None:
    async with scripted([ANSWER], [CLOSE]) as up, pool_to(up.port) as pool:
        await asked(pool)
        second = await asked(pool)
    assert second.steps == ["failure"]
    assert isinstance(second.error, ConnectionBroken)
    assert len(up.requests) == 3


async def test_a_reply_that_has_begun_is_not_asked_for_again() -> None:
    async with scripted([ANSWER], [ANSWER[:9], CLOSE]) as up, pool_to(up.port) as pool:
        await asked(pool)
        second = await asked(pool)
    assert isinstance(second.error, ConnectionBroken)
    assert len(up.requests) == 2


async def test_an_exchange_aborted_on_a_dead_connection_is_not_sent_again() -> None:
    async with scripted([ANSWER], [HOLD]) as up, pool_to(up.port) as pool:
        await asked(pool)
        sink = Transcript()
        pooled = pool.exchange(ASK, sink)
        await up.arrived.get()
        await asyncio.wait_for(up.arrived.get(), 5)
        gone = asyncio.Event()
        pooled.abort(gone.set)
        await asyncio.wait_for(up.closed_at.get(), 5)
        await asyncio.wait_for(gone.wait(), 5)
    assert sink.steps == []
    assert len(up.requests) == 2


async def test_an_exchange_aborted_while_it_connects_is_gone_at_once() -> None:
    async with scripted([HOLD]) as up, pool_to(up.port) as pool:
        gone, sink = asyncio.Event(), Transcript()
        pool.exchange(ASK, sink).abort(gone.set)
        await asyncio.wait_for(gone.wait(), 5)
    assert (sink.steps, up.requests) == ([], [])


# dialling


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_refused_connection_is_told_to_the_sink() -> None:
    async with pool_to(free_port()) as pool:
        sink = Transcript()
        pool.exchange(ASK, sink)
        assert sink.steps == []
        await sink.finished()
    assert isinstance(sink.error, ConnectFailed)
    assert sink.error.detail == "ConnectionRefusedError"


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 64 + ".invalid", "a..b", ""])
async def test_a_name_that_leads_nowhere_is_told_to_the_sink(host: str) -> None:
    """A label that is too long fails in the encoding of names, before any network."""
    async with pool_to(1, host) as pool:
        sink = await asked(pool)
    assert isinstance(sink.error, ConnectFailed)
    assert "invalid" not in sink.error.detail


async def test_a_connection_that_takes_too_long_is_given_up() -> None:
    """A listener whose queue is full answers no more handshakes."""
    with socket.socket() as listener, contextlib.ExitStack() as callers:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(3):
            caller = callers.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(("127.0.0.1", port))
        async with pool_to(port, connect_s=0.05) as pool:
            sink = await asked(pool)
    assert isinstance(sink.error, ConnectTimedOut)
    assert sink.error.detail == "no connection within 0.05 s"


@pytest.mark.parametrize("turns", range(8))
async def test_an_abort_while_dialling_leaves_no_connection_behind(turns: int) -> None:
    """However far the dialling has come when it is given up."""
    ended: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            ended.put_nowait(await reader.read())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, pool_to(server.sockets[0].getsockname()[1]) as pool:
        dialled = asyncio.all_tasks()
        sink = Transcript()
        pooled = pool.exchange(ASK, sink)
        for _ in range(turns):
            await asyncio.sleep(0)
        pooled.abort()
        pooled.abort()
        await asyncio.wait(asyncio.all_tasks() - dialled | {asyncio.create_task(asyncio.sleep(0))}, timeout=5)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"last")
        writer.close()
        # Accepted in order: once the last caller has been heard out, whatever was left open before it would hang.
        while await asyncio.wait_for(ended.get(), 5) != b"last":
            pass
        async with asyncio.timeout(5):
            while len(asyncio.all_tasks()) > len(dialled):
                await asyncio.sleep(0.001)
    assert sink.steps == []


# handles


async def test_an_abort_closes_the_connection_at_once_and_the_sink_hears_nothing() -> None:
    async with scripted([ANSWER[:-5], HOLD]) as up, pool_to(up.port) as pool:
        sink = Transcript()
        pooled = pool.exchange(ASK, sink)
        await asyncio.wait_for(sink.begun.wait(), 5)
        pooled.abort()
        await asyncio.wait_for(up.closed_at.get(), 5)
    assert sink.steps == ["head", "data"]


async def test_a_handle_that_is_over_cannot_touch_the_connections_next_exchange() -> None:
    go = asyncio.Event()
    async with scripted([ANSWER], [go, ANSWER]) as up, pool_to(up.port) as pool:
        first = Transcript()
        over = pool.exchange(ASK, first)
        await first.finished()
        second = Transcript()
        pool.exchange(ASK, second)
        await up.arrived.get()
        await asyncio.wait_for(up.arrived.get(), 5)
        over.abort()
        over.pause()
        over.resume()
        go.set()
        await second.finished()
    assert second.steps == ["head", "data", "end"]
    assert up.connections == 1


async def test_a_paused_exchange_reads_nothing_until_it_is_resumed() -> None:
    rest = asyncio.Event()
    async with scripted([ANSWER[:-5], rest, ANSWER[-5:]]) as up, pool_to(up.port) as pool:
        sink = Transcript()
        pooled = pool.exchange(ASK, sink)
        await asyncio.wait_for(sink.begun.wait(), 5)
        pooled.pause()
        rest.set()
        other = await asked(pool)  # played by the same script, after the rest has long been sent
        assert other.steps[-1] == "end"
        assert sink.steps == ["head", "data"]
        pooled.resume()
        await sink.finished()
    assert sink.steps == ["head", "data", "data", "end"]


async def test_a_pause_in_the_last_read_does_not_stop_the_next_reply() -> None:
    async with scripted([ANSWER]) as up, pool_to(up.port) as pool:
        sink = Transcript()
        pooled = pool.exchange(ASK, sink)
        sink.on["data"] = pooled.pause
        await sink.finished()
        assert (await asked(pool)).steps == ["head", "data", "end"]
    assert up.connections == 1


async def test_closing_the_pool_closes_what_is_idle_and_what_is_not() -> None:
    async with scripted([ANSWER], [HOLD]) as up, pool_to(up.port) as pool:
        await asked(pool)
        sink = Transcript()
        pool.exchange(ASK, sink)
        await up.arrived.get()
        await asyncio.wait_for(up.arrived.get(), 5)
        pool.close()
        await asyncio.wait_for(up.closed_at.get(), 5)
        assert sink.steps == []


# retirement


async def test_a_retired_pool_closes_what_is_idle_at_once() -> None:
    async with scripted([ANSWER, HOLD]) as up, pool_to(up.port) as pool:
        await asked(pool)
        pool.retire()
        await asyncio.wait_for(up.closed_at.get(), 5)


async def test_a_retired_pool_closes_what_is_in_use_once_it_has_been_answered() -> None:
    go = asyncio.Event()
    async with scripted([go, ANSWER, HOLD]) as up, pool_to(up.port) as pool:
        sink = Transcript()
        pool.exchange(ASK, sink)
        await asyncio.wait_for(up.arrived.get(), 5)
        pool.retire()
        go.set()
        await sink.finished()
        await asyncio.wait_for(up.closed_at.get(), 5)
    assert sink.steps == ["head", "data", "end"]


async def test_a_retired_pool_still_serves_and_keeps_nothing() -> None:
    async with scripted([ANSWER, HOLD]) as up, pool_to(up.port) as pool:
        pool.retire()
        for _ in range(3):
            assert (await asked(pool)).steps == ["head", "data", "end"]
            await asyncio.wait_for(up.closed_at.get(), 5)
    assert up.connections == 3
