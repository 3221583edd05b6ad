"""Every kind of rule, required, wanted and in shadow, on real processes: what is called, answered, logged and counted.

Each test writes one policy whose two targets differ in what the rule is about. `require` never calls the one that
breaks it, not even when the other fails. `want` calls it last, and says so. In shadow the plan is as if the rule were
not there, and the log and a metric say what it would have done.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from proxy.simulator.provider import ProviderSimulator, Terms
from tests.e2e.processes import Served, ask, eventually, serving
from tests.harness import Reply
from tests.scripted import CHAT_REPLY, Script, ScriptedUpstream, reply, scripted

OK: Script = [reply(CHAT_REPLY)]
DOWN: Script = [reply({"error": {"message": "down"}}, "500 Internal Server Error")]
MANNERS = ("require", "want", "shadow")


@dataclass
class Pair:
    """A proxy in front of two upstreams: `keeps` keeps the rule, `breaks`, which is listed first, does not."""

    served: Served
    keeps: ScriptedUpstream
    breaks: ScriptedUpstream

    async def ask(self, **more: Any) -> Reply:
        return await self.served.post(ask(**more))

    async def line(self, got: Reply) -> dict[str, Any]:
        """The request's line in the log."""

        async def find() -> Any:
            lines = (self.served.folder / "out").read_text().splitlines()
            return [one for one in map(json.loads, lines) if one["request_id"] == got.headers["x-request-id"]]

        return (await eventually(find))[0]

    async def turned(self) -> dict[str, Any] | None:
        """The line of a request that went to the target that keeps the rule."""
        got = await self.ask()
        return await self.line(got) if got.headers["x-spillway-target"] == "keeps" else None

    async def noted(self, rule: str) -> dict[str, Any] | None:
        """The line of a request for which the shadow rule said something of the target that breaks it."""
        line = await self.line(await self.ask())
        found = [(one["target"], one["rule"]) for one in line.get("shadow", ())]
        return line if ("breaks", f"require.{rule}") in found else None


def rule_of(manner: str, rule: str) -> str:
    return f"want: {{{rule}}}" if manner == "want" else f"require: {{{rule}{', mode: shadow' * (manner == 'shadow')}}}"


@contextlib.asynccontextmanager
async def pair(
    folder: Path, rule: str, *, keeps: str = "", breaks: str = "", breaks_url: str = ""
) -> AsyncIterator[Pair]:
    """`rule` is the inside of the route; `keeps` and `breaks` are what the targets say of themselves."""
    async with scripted(OK) as good, scripted(OK) as bad:
        text = "version: 1\ntargets:\n"
        text += f"  breaks: {{lane: shared, url: '{breaks_url or bad.url}', model: up, {breaks}}}\n"
        text += f"  keeps: {{lane: shared, url: '{good.url}', model: up, {keeps}}}\n"
        text += f"models:\n  m: [breaks, keeps]\nroutes:\n  - {{name: r, prefer: latency, {rule}}}\n"
        path = folder / "policy.yaml"
        path.write_text(text)
        async with serving(path) as served:
            yield Pair(served, good, bad)


async def shadow_counted(served: Served, rule: str) -> None:
    async def counted() -> bool:
        metrics = await served.metrics()
        return any(row.startswith("spillway_shadow_total{") and f'rule="{rule}"' in row for row in metrics.splitlines())

    await eventually(counted)


async def check(both: Pair, manner: str, name: str, called: Callable[[], int] | None = None) -> None:
    """What holds for every rule that tells two targets apart; `called` counts the requests that `breaks` has had."""
    called = called or (lambda: len(both.breaks.requests))
    if manner == "shadow":
        line = await eventually(lambda: both.noted(name))  # a measurement is looked at a few times a second
        assert line["attempts"][0]["target"] == "breaks"
        assert "excluded" not in line or line["excluded"] == []
        await shadow_counted(both.served, f"require.{name}")
        return
    line = await eventually(both.turned)
    assert ("breaks", f"{manner}.{name}", manner == "require") in [
        (one["target"], one["rule"], one["hard"]) for one in line["excluded"]
    ]
    before = called()
    both.keeps.scripts = [DOWN]
    second = await both.ask()
    if manner == "require":
        assert second.status >= 500
        assert called() == before
    else:
        assert (second.status, second.headers["x-spillway-target"]) == (200, "breaks")


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize(
    ("rule", "name"),
    [("usd_per_mtok: 1.00", "usd_per_mtok"), ("max_usd_per_request: 0.002", "max_usd_per_request")],
    ids=["per-mtok", "per-request"],
)
async def test_cost(rule: str, name: str, manner: str, tmp_path: Path) -> None:
    dear, cheap = "price: {input: 50, output: 500}", "price: {input: 0.5, output: 1}"
    async with pair(tmp_path, rule_of(manner, rule), keeps=cheap, breaks=dear) as both:
        await check(both, manner, name)


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize(
    ("rule", "keeps", "breaks"),
    [
        ("region: eu-*", "region: eu-west-1", "region: us"),
        ("retention: zero", "retention: zero", "retention: 30d"),
        ("training: false", "training: false", "training: true"),
        ("tags: [hipaa]", "tags: [hipaa]", "tags: [soc2]"),
    ],
    ids=["region", "retention", "training", "certification"],
)
async def test_residency(rule: str, keeps: str, breaks: str, manner: str, tmp_path: Path) -> None:
    name = rule.partition(":")[0]
    async with pair(tmp_path, rule_of(manner, rule), keeps=keeps, breaks=breaks) as both:
        await check(both, manner, name)


@pytest.mark.parametrize("manner", MANNERS)
async def test_uptime(manner: str, tmp_path: Path) -> None:
    """One answer in four is a failure: not enough for the breaker, too much for the rule."""
    flaky: list[Script] = [DOWN if n % 4 == 3 else OK for n in range(40)]
    async with pair(tmp_path, rule_of(manner, "uptime: 99%")) as both:
        both.breaks.scripts = flaky
        assert {(await both.ask()).status for _ in range(28)} == {200}  # what fails is tried elsewhere
        both.breaks.scripts = [OK]
        await check(both, manner, "uptime")


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize(
    ("rule", "stream"),
    [("ttft_p99: 150ms", True), ("itl_p50: 20ms", True), ("perceived_tps: 50", True), ("e2e_p90: 300ms", False)],
    ids=["ttft", "itl", "perceived-tps", "e2e"],
)
async def test_latency(rule: str, stream: bool, manner: str, tmp_path: Path) -> None:
    terms = Terms(ttft_median_s=0.3, ttft_p99_s=0.35, tokens_per_s=25.0)
    async with ProviderSimulator(terms, model="up", natural_tokens=20) as slow:
        async with pair(tmp_path, rule_of(manner, rule), breaks_url=slow.url) as both:
            got = await asyncio.gather(*[both.ask(tokens=20, stream=stream) for _ in range(30)])
            assert {one.headers["x-spillway-target"] for one in got} == {"breaks"}
            await check(both, manner, rule.partition(":")[0], lambda: slow_count(slow))


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize(
    ("rule", "used"), [("rpm: 5", 5), ("tpm: 500", 5), ("concurrency: 5", 5)], ids=["rpm", "tpm", "concurrency"]
)
async def test_rate(rule: str, used: int, manner: str, tmp_path: Path) -> None:
    """The route's own rate: five requests pass, and the sixth does not, or is only noted."""
    name = rule.partition(":")[0]
    held = asyncio.Event()
    async with pair(tmp_path, rule_of(manner, rule)) as both:
        both.breaks.scripts = [[held, *OK]]
        tokens = 100 - len(json.dumps(ask())) // 4
        waiting = [asyncio.create_task(both.ask(tokens=tokens)) for _ in range(used)]
        for _ in range(used):
            await both.breaks.arrived.get()
        over = asyncio.create_task(both.ask(tokens=tokens))
        if manner == "require":
            last = await over
            held.set()
        else:
            await both.breaks.arrived.get()
            held.set()
            last = await over
        line = await both.line(last)
        assert {one.status for one in await asyncio.gather(*waiting)} == {200}
    if manner == "require":
        assert (last.status, last.json["error"]["code"]) == (429, "rate_limit_exceeded")
        assert last.json["error"]["message"].startswith("route `r` ")
        assert float(last.headers["retry-after"]) > 0
        assert last.headers["x-should-retry"] == "true"
        assert line["refusal"]["rule"] == f"require.{name}"
    else:
        assert last.status == 200
        noted = line["excluded" if manner == "want" else "shadow"]
        assert [one["rule"] for one in noted] == [f"{'want' if manner == 'want' else 'require'}.{name}"]
        assert line["relaxed"] is (manner == "want")


def slow_count(slow: ProviderSimulator) -> int:
    """How many requests the slow provider has had."""
    return len(slow.ledger.entries)
