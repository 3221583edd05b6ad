"""What vLLM says of itself under load agrees with what its clients see, and gives away who else is there."""

import asyncio
import json
import time
from typing import Any

import httpx
import pytest
from proxy.policy.model import Engine as Kind
from proxy.policy.model import Lane, Secret, Target
from proxy.signals.engine_metrics import EngineReading
from proxy.signals.foreign import Foreign, ForeignLoad
from proxy.signals.scrape import Scraper

from tests.engine import spillway as proxies
from tests.engine import vllm
from tests.engine.asks import of_length
from tests.engine.fixtures import ONE_ENGINE, StartSpillway
from tests.engine.spillway import Spillway, until
from tests.engine.vllm import Engine

PATH = "/chat/completions"
CLIENTS = 24
"""Half as many again as fit into the engine's batch of 16: the others queue."""
TOKENS = 200
OWN, OTHERS = 3, 6
PATIENCE_S = 60.0


def latency(spillway: Spillway) -> dict[str, Any]:
    (target,) = httpx.get(f"{spillway.admin}/admin/latency", timeout=10).json()["targets"]
    return dict(target)


async def timed(http: httpx.AsyncClient) -> tuple[float, float]:
    """Seconds to the first content, and to the end."""
    began, first = time.monotonic(), 0.0
    async with http.stream("POST", PATH, json=of_length(PATH, TOKENS, stream=True)) as reply:
        async for line in reply.aiter_lines():
            data = line.removeprefix("data: ")
            if not first and data.startswith("{") and json.loads(data)["choices"][0]["delta"].get("content"):
                first = time.monotonic()
    assert first
    return first - began, time.monotonic() - began


def http_of(url: str, key: str) -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=PATIENCE_S, trust_env=False)


async def load(spillway: Spillway) -> list[tuple[float, float]]:
    async with http_of(spillway.url, proxies.KEY) as http:
        return await asyncio.gather(*[timed(http) for _ in range(CLIENTS)])


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


async def test_both_ends_agree_under_load(engine: Engine, start_spillway: StartSpillway) -> None:
    spillway = start_spillway(ONE_ENGINE.format(url=engine.url))
    until(lambda: latency(spillway)["replicas"][0].get("age_s") is not None, "the engine was never read", 10)
    took = await load(spillway)
    until(lambda: (latency(spillway)["told"]["e2e"] or {}).get("samples") == CLIENTS, "not all were told of", 10)
    found = latency(spillway)
    told, seen, parts = found["told"], found["seen"], found["gap"]["ttft"]
    ttft_s, e2e_s = mean([first for first, _ in took]), mean([end for _, end in took])

    assert (told["ttft"]["samples"], seen["ttft"]["samples"], seen["e2e"]["samples"]) == (CLIENTS,) * 3
    # What the client measures itself has its own connection and its own lateness on top.
    assert seen["ttft"]["mean_s"] == pytest.approx(ttft_s, rel=0.15, abs=0.15)
    assert seen["e2e"]["mean_s"] == pytest.approx(e2e_s, rel=0.15, abs=0.15)
    for one in ("ttft", "e2e"):
        assert told[one]["mean_s"] <= seen[one]["mean_s"] + 0.01
        assert told[one]["mean_s"] == pytest.approx(seen[one]["mean_s"], rel=0.3, abs=0.3)
    assert told["e2e"]["p50_s"] / 2 <= seen["e2e"]["p50_s"] <= told["e2e"]["p50_s"] * 2
    assert parts["queue_s"] > 0
    whole_s = parts["proxy_s"] + parts["queue_s"] + parts["engine_s"] + parts["outside_s"]
    assert whole_s == pytest.approx(parts["client_s"])
    assert spillway.metric("spillway_engine_ttft_seconds", stat="mean") == pytest.approx(told["ttft"]["mean_s"])
    assert found["replicas"][0]["trouble"] == ""


async def test_requests_of_others_are_told_from_our_own(engine: Engine) -> None:
    target = Target(
        name="engine",
        lane=Lane.DEDICATED,
        model="tiny",
        region="eu-west-1",
        urls=(engine.url,),
        engine=Kind.VLLM,
        api_key=Secret(vllm.KEY),
    )
    foreign, ours, seen = ForeignLoad(), 0, list[Foreign | None]()
    moved = asyncio.Condition()

    async def tell() -> None:
        async with moved:
            moved.notify_all()

    def on_reading(name: str, url: str, reading: EngineReading) -> None:
        foreign.observe(reading, ours, 0, reading.as_of)
        seen.append(foreign.at(reading.as_of))
        telling.append(asyncio.create_task(tell()))

    async def seen_to_be(total: int, within_s: float) -> None:
        async with asyncio.timeout(within_s), moved:
            await moved.wait_for(lambda: bool(seen) and seen[-1] is not None and requests_of(seen[-1]) == total)

    telling: list[asyncio.Task[None]] = []
    scraper = Scraper([target], on_reading)
    async with http_of(engine.url, vllm.KEY) as http:

        async def ask() -> None:
            await http.post(PATH, json=of_length(PATH, 6000))

        scraper.start()
        await seen_to_be(0, within_s=10)
        ours, asked = OWN, [asyncio.create_task(ask()) for _ in range(OWN)]
        for _ in range(3):
            async with moved:
                await moved.wait()
            assert requests_of(seen[-1]) == 0
        asked += [asyncio.create_task(ask()) for _ in range(OTHERS)]
        await seen_to_be(OTHERS, within_s=4)  # three seconds, and one for a busy machine
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    ours = 0
    await seen_to_be(0, within_s=10)
    await scraper.aclose()
    await asyncio.gather(*telling)


def requests_of(one: Foreign | None) -> int:
    assert one is not None
    return one.waiting + one.decoding
