"""A deployment that sleeps: served by shared meanwhile, woken once, and given little at first; all on real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from prometheus_client.parser import text_string_to_metric_families
from proxy.policy.model import Lane, Route
from proxy.policy.wake import HttpWake
from proxy.simulator.engine import EngineSimulator
from proxy.simulator.profile import PROFILES

from tests.harness import Proxy, Reply, dedicated, proxy, shared, snapshot_of
from tests.scripted import reply, scripted

CHAT = "/v1/chat/completions"
ANSWER = reply({"id": "c", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}})
LONG = {"model": "m", "max_tokens": 8, "messages": [{"role": "user", "content": "word " * 2000}]}
PATIENCE_S = 15.0
GPU = "gpu"


@pytest.fixture
def port() -> Iterator[int]:
    """A port that nobody listens on, and nobody else is given."""
    with closing(socket.socket()) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


async def asked(spillway: Proxy, times: int) -> list[Reply]:
    return list(await asyncio.gather(*(spillway.post(CHAT, LONG) for _ in range(times))))


def served_by(replies: list[Reply]) -> list[str]:
    assert {one.status for one in replies} == {200}
    return [one.headers["x-spillway-lane"] for one in replies]


async def metrics(spillway: Proxy) -> dict[str, float]:
    """The metrics of this concern, those of target `gpu`."""
    text = (await spillway.get("/metrics", admin=True)).body.decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {one.name.removeprefix("spillway_"): one.value for one in samples if one.labels.get("target") == GPU}


async def woken(spillway: Proxy) -> list[str]:
    """Ask until the engine serves somebody; who served before."""
    async with asyncio.timeout(PATIENCE_S):
        lanes: list[str] = []
        while Lane.DEDICATED not in lanes:
            lanes += served_by(await asked(spillway, 1))
            await asyncio.sleep(0.05)
        return lanes


async def test_a_target_at_zero_is_bridged_by_shared_woken_once_and_ramped_up(port: int) -> None:
    async with scripted([ANSWER]) as api, scripted([reply(b"", "202 Accepted")]) as hook:
        wake = HttpWake(url=f"http://127.0.0.1:{hook.port}/wake")
        gpu = dedicated(GPU, f"http://127.0.0.1:{port}/v1", wake=wake)
        async with proxy(snapshot_of(gpu, shared("api", api.url))) as spillway:
            assert (await metrics(spillway))["replicas_needed"] == 0.0
            assert set(served_by(await asked(spillway, 10))) == {Lane.SHARED}
            await asyncio.wait_for(hook.arrived.get(), PATIENCE_S)
            assert set(served_by(await asked(spillway, 10))) == {Lane.SHARED}
            asleep = await metrics(spillway)
            async with EngineSimulator(PROFILES["70b-fp8-2xh100"], model="up", port=port):
                assert await woken(spillway)
                burst = served_by(await asked(spillway, 20))
    assert 1 <= burst.count(Lane.DEDICATED) <= 4
    assert [request.line for request in hook.requests] == ["POST /wake HTTP/1.1"]
    assert asleep["replicas_needed"] > 0.0
    assert asleep["spilled_work_seconds_total"] > 10 * 2000 * 70e-6
    assert asleep["wake_calls_total"] == 1.0


async def test_a_request_that_waits_for_room_wakes_it_at_once_and_is_served_when_it_is_up(port: int) -> None:
    async with scripted([reply(b"", "202 Accepted")]) as hook:
        gpu = dedicated(GPU, f"http://127.0.0.1:{port}/v1", wake=HttpWake(url=f"http://127.0.0.1:{hook.port}/wake"))
        routes = (Route(name="patient", wait_s=PATIENCE_S),)
        async with proxy(snapshot_of(gpu, routes=routes)) as spillway:
            first = await spillway.post(CHAT, LONG)  # finds out that nobody is there
            await asyncio.wait_for(hook.arrived.get(), PATIENCE_S)
            waiting = asyncio.create_task(spillway.post(CHAT, LONG))
            await asyncio.sleep(0)
            async with EngineSimulator(PROFILES["70b-fp8-2xh100"], model="up", port=port):
                served = await waiting
    assert (first.status, served.status) == (502, 200)
    assert served.headers["x-spillway-lane"] == Lane.DEDICATED
    assert len(hook.requests) == 1


async def test_without_a_hook_the_need_is_only_told(port: int) -> None:
    async with scripted([ANSWER]) as api:
        gpu = dedicated(GPU, f"http://127.0.0.1:{port}/v1")
        async with proxy(snapshot_of(gpu, shared("api", api.url))) as spillway:
            served_by(await asked(spillway, 8))
            served_by(await asked(spillway, 8))
            told = await metrics(spillway)
    assert told["replicas_needed"] > 0.0
    assert "wake_calls_total" not in told


async def test_what_serves_is_not_unmet() -> None:
    async with scripted([ANSWER]) as engine, scripted([ANSWER]) as api:
        gpu = dedicated(GPU, engine.url, wake=HttpWake(url=f"http://127.0.0.1:{api.port}/wake"))
        async with proxy(snapshot_of(gpu, shared("api", api.url))) as spillway:
            assert set(served_by(await asked(spillway, 1))) == {Lane.DEDICATED}
            told = await metrics(spillway)
    assert told["spilled_work_seconds_total"] == 0.0
    assert api.requests == []
