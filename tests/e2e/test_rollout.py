"""How a proxy ends that an orchestrator stops: stage by stage, as a process. Under load: faults/test_rollout."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from proxy.simulator.engine import EngineSimulator
from tests.e2e.processes import CHAT, Served, ask, engine, eventually, left_nothing, serving, spawn, write_policy
from tests.harness import Reply, read_reply, request_bytes

COMPLETIONS, RESPONSES, MESSAGES = "/v1/completions", "/v1/responses", "/v1/messages"
PROMPT = [{"role": "user", "content": "hi"}]
LONG = 5000
STREAMS: dict[str, dict[str, Any]] = {
    CHAT: {"messages": PROMPT, "max_tokens": LONG},
    COMPLETIONS: {"prompt": "hi", "max_tokens": LONG},
    RESPONSES: {"input": "hi", "max_output_tokens": LONG},
    MESSAGES: {"messages": PROMPT, "max_tokens": LONG},
}


def talker() -> EngineSimulator:
    """An engine that has much to say, at its natural pace."""
    return engine(speed=1.0, natural_tokens=LONG)


async def metered(served: Served, requests: int) -> bool:
    return bool((await served.meters()).get("gpu", {}).get("requests") == requests)


class Line:
    """A connection that is kept alive."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, body: Any = None, path: str = CHAT) -> Reply:
        await self.send(body, path)
        return await read_reply(self.reader)

    async def send(self, body: Any = None, path: str = CHAT) -> None:
        content = json.dumps(ask() if body is None else {"model": "m", **body}).encode()
        self.writer.write(request_bytes("POST", path, content))
        await self.writer.drain()


@contextlib.asynccontextmanager
async def line(served: Served) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    try:
        yield Line(reader, writer)
    finally:
        writer.close()


async def is_draining(served: Served, *, admin: bool = True) -> bool:
    got = await served.request("GET", "/readyz", admin=admin)
    return (got.status, got.json["status"]) == (503, "draining")


async def refuses(served: Served) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", served.port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_for_the_delay_it_serves_whoever_comes_and_says_that_it_leaves(workers: str, tmp_path: Path) -> None:
    options = ("--workers", workers, "--drain-delay", "2s")
    async with talker() as gpu, serving(write_policy(tmp_path, gpu=gpu.url), *options) as served:
        async with line(served) as before, line(served) as within, line(served) as streaming:
            assert "connection" not in (await before.ask()).headers
            assert "connection" not in (await streaming.ask()).headers
            served.process.send_signal(signal.SIGTERM)
            await eventually(lambda: is_draining(served))
            assert await is_draining(served, admin=False)
            await streaming.send(ask(200, stream=True))
            for one in (before, within):
                got = await one.ask()
                assert (got.status, got.headers["connection"]) == (200, "close")
                assert await one.reader.read() == b""
            assert (await served.request("GET", "/v1/models")).headers["connection"] == "close"
            await eventually(lambda: refuses(served))
            assert await is_draining(served)
            assert [one.output_tokens for one in gpu.ledger.entries if one.ended_s is None] != []
            whole = await read_reply(streaming.reader)
            assert (whole.headers["connection"], whole.events[-1], whole.complete) == ("close", "[DONE]", True)
            assert await served.ended() == 0
    assert gpu.ledger.totals.left == 0


async def test_what_outlasts_the_drain_is_ended_by_its_own_protocols_error_and_charged(tmp_path: Path) -> None:
    async with talker() as gpu:
        policy = write_policy(tmp_path, gpu=gpu.url)
        async with serving(policy, "--drain", "1s") as served, contextlib.AsyncExitStack() as stack:
            lines = {path: await stack.enter_async_context(line(served)) for path in STREAMS}
            for path, body in STREAMS.items():
                await lines[path].send({**body, "stream": True}, path)
            await gpu.ledger.until(lambda: gpu.ledger.totals.output_tokens > 4 * 5)
            served.process.send_signal(signal.SIGTERM)
            sent_at = time.monotonic()
            replies = {path: await read_reply(one.reader) for path, one in lines.items()}
            took_s = time.monotonic() - sent_at
            assert await served.ended() == 0
        async with serving(policy, tag="-again") as again:
            await eventually(lambda: metered(again, 4))
            held = (await again.meters())["gpu"]
            assert await again.stop() == 0
    assert 1.0 <= took_s < 4.0
    assert {(got.status, got.complete) for got in replies.values()} == {(200, True)}
    last = {path: json.loads(got.events[-1]) for path, got in replies.items()}
    for path in (CHAT, COMPLETIONS):
        assert (last[path]["error"]["code"], last[path]["error"]["type"]) == ("shutting_down", "server_error")
    assert (last[RESPONSES]["type"], last[RESPONSES]["code"]) == ("error", "shutting_down")
    assert (last[MESSAGES]["type"], last[MESSAGES]["error"]["type"]) == ("error", "overloaded_error")
    truth = gpu.ledger.totals
    assert held["requests"] == truth.left == 4
    assert 4 * 5 < held["output_tokens"] <= truth.output_tokens


async def test_a_second_sigterm_hurries(tmp_path: Path) -> None:
    async with talker() as gpu:
        options = ("--drain", "60s", "--drain-delay", "60s")
        async with serving(write_policy(tmp_path, gpu=gpu.url), *options) as served, line(served) as one:
            await one.send(ask(LONG, stream=True))
            await one.reader.readuntil(b'"content":')
            served.process.send_signal(signal.SIGTERM)
            served.process.send_signal(signal.SIGTERM)  # the same one, told twice
            await asyncio.sleep(1.5)
            assert not await refuses(served)
            served.process.send_signal(signal.SIGTERM)
            sent_at = time.monotonic()
            rest = await one.reader.read()
            assert await served.ended() == 0
    assert b'"code":"shutting_down"' in rest
    assert time.monotonic() - sent_at < 8


async def test_several_workers_hurry_too(tmp_path: Path) -> None:
    async with talker() as gpu:
        options = ("--drain", "60s", "--workers", "2")
        async with serving(write_policy(tmp_path, gpu=gpu.url), *options) as served, line(served) as one:
            await one.send(ask(LONG, stream=True))
            await one.reader.readuntil(b'"content":')
            served.process.send_signal(signal.SIGTERM)
            await eventually(lambda: is_draining(served))
            served.process.send_signal(signal.SIGINT)
            sent_at = time.monotonic()
            rest = await one.reader.read()
            assert await served.ended() == 0
    assert b'"code":"shutting_down"' in rest
    assert time.monotonic() - sent_at < 8


async def test_whoever_has_connected_or_asked_by_then_is_served(tmp_path: Path) -> None:
    """All that happens in a moment in which the process is not running: it hears of the signal first."""
    async with engine() as gpu:
        async with serving(write_policy(tmp_path, gpu=gpu.url)) as served, contextlib.AsyncExitStack() as stack:
            async with line(served) as kept:
                assert (await kept.ask()).status == 200
                served.process.send_signal(signal.SIGSTOP)
                served.process.send_signal(signal.SIGTERM)
                new = [await stack.enter_async_context(line(served)) for _ in range(50)]
                for one in (kept, *new):
                    await one.send()
                served.process.send_signal(signal.SIGCONT)
                got = [await read_reply(one.reader) for one in (kept, *new)]
                assert await served.ended() == 0
    assert {(one.status, one.headers["connection"]) for one in got} == {(200, "close")}


async def test_a_store_that_does_not_answer_keeps_nobody_from_ending(tmp_path: Path) -> None:
    """It takes connections and says nothing, as when a network falls apart; what was counted stays on the disk."""
    async with engine() as gpu:
        policy = write_policy(tmp_path, gpu=gpu.url)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
            async with serving(policy, "--redis-url", url) as served:
                assert (await served.post(ask())).status == 200
                sent_at = time.monotonic()
                assert await served.stop() == 0
                took_s = time.monotonic() - sent_at
        async with serving(policy, tag="-again") as again:
            await eventually(lambda: metered(again, 1))
            assert await again.stop() == 0
    assert took_s < 11


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("sign", ["data", "spillway serves"])
async def test_a_signal_that_comes_before_it_serves_ends_it_in_order(sign: str, workers: str, tmp_path: Path) -> None:
    """While the store starts, or just after; the first process of a container hears none that it does not ask for."""
    served = await spawn(
        write_policy(tmp_path, gpu="http://127.0.0.1:1/v1"), "--port", "0", "--admin-port", "0", "--workers", workers
    )

    await eventually(lambda: has_come_to(served, sign))
    served.process.send_signal(signal.SIGTERM)
    assert await served.ended() == 0
    assert "Traceback" not in served.said
    await left_nothing(tmp_path)


async def has_come_to(served: Served, sign: str) -> bool:
    """Whether it has said so, or made a folder of that name."""
    return sign in served.said or await asyncio.to_thread((served.folder.parent / sign).exists)
