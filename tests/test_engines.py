"""What engines say beside what clients see: on the admin port, in the metrics, and for whoever reconciles."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from proxy.engines import Engines
from proxy.policy.model import Engine
from proxy.routing.outcome import Failure
from proxy.signals.engine_metrics import EngineReading
from proxy.signals.scrape import metrics_url

from tests.signals import engine_pages as pages
from tests.telemetry.requests import API, GPU, outcome, record

PATIENCE_S = 10.0
VLLM = replace(GPU, engine=Engine.VLLM)
SECOND = pages.VLLM.replace(b'"+Inf",model_name="llama"} 4.0', b'"+Inf",model_name="llama"} 14.0').replace(
    b'_sum{engine="0",model_name="llama"} 3.05', b'_sum{engine="0",model_name="llama"} 13.05'
)
"""Ten more first tokens, at a second each, of ten more requests that did not queue."""


class Told:
    """Stands for the HTTP client: each page once, and then no more answers."""

    def __init__(self, *pages: bytes) -> None:
        self._pages = list(pages)
        self.connect_s = 0.001
        self.done = asyncio.Event()

    async def get(self, url: str, key: str | None, feed: Callable[[bytes], None]) -> int:
        if not self._pages:
            self.done.set()
            await asyncio.Event().wait()
        assert url == metrics_url(VLLM.urls[0], "/metrics")
        feed(self._pages.pop(0))
        return 200

    async def aclose(self) -> None:
        pass


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 0.5
        return self.now


async def watched(*told: bytes, seen: list[EngineReading] | None = None) -> Engines:
    """Engines that have been read so often."""
    fetch = Told(*told)
    kept = [] if seen is None else seen
    engines = Engines(
        [VLLM, API], lambda *one: kept.append(one[2]), open_fetch=lambda: fetch, every_s=0.001, clock=Clock()
    )
    engines.start()
    async with asyncio.timeout(PATIENCE_S):
        await fetch.done.wait()
    return engines


def samples(engines: Engines, name: str) -> dict[tuple[str, ...], float]:
    families = {family.name: family for family in engines.metrics()}
    return {tuple(one.labels.values()): one.value for one in families[f"spillway_{name}"].samples}


async def test_each_reading_goes_to_whoever_reconciles() -> None:
    seen: list[EngineReading] = []
    engines = await watched(pages.VLLM, SECOND, seen=seen)
    await engines.aclose()
    assert [one.requests for one in seen] == [9, 9]


async def test_both_ends_of_a_target_are_compared() -> None:
    engines = await watched(pages.VLLM, SECOND)
    for _ in range(6):
        engines.note(record(outcome(VLLM, ttft_s=1.6, total_s=2.0), overhead_s=0.4), 1001.0)
    report = engines.report()
    await engines.aclose()
    (target,) = report.targets
    assert (target.target, target.engine, target.region) == ("gpu", "vllm", "eu-west-1")
    assert target.told.ttft is not None
    assert (target.told.ttft.mean_s, target.told.ttft.samples) == (pytest.approx(1.0), 10)
    assert target.gap.ttft is not None
    assert target.gap.ttft.client_s == pytest.approx(2.0)
    assert target.gap.ttft.outside_s == pytest.approx(0.6)
    assert target.gap.hint == (
        "600 ms of 2.0 s outside the engine: its HTTP server or tokenizer is busy, a round trip takes 1.0 ms"
    )
    (replica,) = target.replicas
    assert (replica.running, replica.waiting, replica.kv_use, replica.preemptions) == (5, 4, 0.375, 3)
    assert replica.age_s is not None
    assert replica.age_s > 0


async def test_what_was_tried_elsewhere_or_failed_says_nothing_of_a_target() -> None:
    engines = Engines([VLLM, API])
    engines.note(record(outcome(VLLM, ttft_s=1.0), outcome(VLLM, ttft_s=1.0)), 1000.0)
    engines.note(record(outcome(VLLM, failure=Failure.BROKEN)), 1000.0)
    engines.note(record(outcome(API, ttft_s=1.0)), 1000.0)
    engines.note(record(), 1000.0)
    (target,) = engines.report().targets
    assert target.seen.e2e is None


async def test_prometheus_is_told() -> None:
    engines = await watched(pages.VLLM, SECOND)
    for _ in range(6):
        engines.note(record(outcome(VLLM, ttft_s=1.5), overhead_s=0.5), 1001.0)
    seen = {name: samples(engines, name) for name in ("engine_requests", "engine_kv_use", "engine_preemptions")}
    ttft, parts = samples(engines, "engine_ttft_seconds"), samples(engines, "ttft_part_seconds")
    age = samples(engines, "engine_metrics_age_seconds")
    await engines.aclose()
    assert seen["engine_requests"] == {("gpu", "0", "running"): 5.0, ("gpu", "0", "waiting"): 4.0}
    assert (seen["engine_kv_use"], seen["engine_preemptions"]) == ({("gpu", "0"): 0.375}, {("gpu", "0"): 3.0})
    assert ttft["gpu", "mean"] == pytest.approx(1.0)
    assert set(ttft) == {("gpu", "mean"), ("gpu", "p50"), ("gpu", "p99")}
    assert sum(parts.values()) == pytest.approx(2.0)
    assert age["gpu", "0"] > 0


async def test_an_engine_without_known_metrics_is_named_as_such() -> None:
    engines = Engines([replace(GPU, engine=Engine.OPENAI)])
    (target,) = engines.report().targets
    assert target.gap.hint == "engine `openai` publishes no metrics that are known here"
    assert target.replicas == ()
    assert samples(engines, "engine_requests") == {}


async def test_why_an_engine_was_not_read_is_said() -> None:
    engines = await watched(b"<html>\n")
    (target,) = engines.report().targets
    await engines.aclose()
    assert target.gap.hint.startswith(f"{metrics_url(VLLM.urls[0], '/metrics')}: it tells of no requests (hint: ")
    assert target.replicas[0].trouble == target.gap.hint


async def test_another_policy_is_followed() -> None:
    engines = Engines([VLLM])
    engines.note(record(outcome(VLLM, ttft_s=1.0)), 1000.0)
    engines.adopt([replace(VLLM, region="us-1"), replace(VLLM, name="more")])
    assert [(one.target, one.region) for one in engines.report().targets] == [("gpu", "us-1"), ("more", "eu-west-1")]
    engines.adopt([API])
    assert engines.report().targets == ()
