"""What `explain` says is what the relay did: a random load through a running proxy, line by line of its log.

Each decision's arguments are written down as the proxy takes it; afterwards every line of the log is compared with the
explanation of the same arguments, and with the explanation that can be had from the line alone.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from proxy.cases.given import read_given
from proxy.cli.policy_explain_log import lines_of, rates_words, readings_words, request_words
from proxy.meters.embedded import EmbeddedStore
from proxy.policy.engine_profile import EngineProfile
from proxy.policy.model import (
    Capability,
    Limits,
    Match,
    Modality,
    Objective,
    Prefer,
    Route,
    Rules,
    Snapshot,
    Tenant,
    Traffic,
)
from proxy.routing.decide import Router
from proxy.routing.explain.explain import explain
from proxy.routing.explain.explained import Explanation
from proxy.routing.facts import Facts
from proxy.routing.plan import Cause, Decision
from proxy.routing.readings import NO_FUNDS, NO_OUTLOOK, NO_RATES, Funds, Outlook, Rates, Readings
from proxy.telemetry.log import Line

from tests.harness import Proxy, dedicated, proxy, shared, snapshot_of
from tests.scripted import CHAT_REPLY, RESET, Script, reply, scripted

REQUESTS, AT_ONCE = 400, 12

BANK = Tenant(name="bank", tags=frozenset({"gdpr"}), limits=Limits(rpm=40))
GROWTH = Tenant(name="growth", request_tags=frozenset({"eval", "tight", "hasty"}), limits=Limits(concurrency=9))
ROUTES = (
    Route(name="gdpr", match=Match(tags=frozenset({"gdpr"})), require=Rules(regions=("eu-*",))),
    Route(name="eval", match=Match(tags=frozenset({"eval"})), target_override=True, max_failovers=0),
    Route(name="tight", match=Match(tags=frozenset({"tight"})), require=Rules(limits=Limits(rpm=8))),
    Route(
        name="hasty",
        match=Match(tags=frozenset({"hasty"})),
        want=Rules(objectives=(Objective(rule="ttft_p99", field="ttft_p99_s", limit_s=0.03),)),
    ),
    Route(name="pictures", match=Match(modalities=frozenset({Modality.IMAGE})), shadow_require=Rules(no_training=True)),
    Route(
        name="night",
        match=Match(traffic=Traffic.OFFLINE),
        require=Rules(uptime=0.7),
        lane_override=False,
        prefer=Prefer.SHARED,
    ),
    Route(
        name="rest",
        want=Rules(objectives=(Objective(rule="e2e_p99", field="e2e_p99_s", limit_s=0.002),), uptime=0.9),
        shadow_want=Rules(regions=("eu-*",)),
    ),
)


class Witness(Router):
    """A router that writes down what it is asked and what it answers."""

    __slots__ = ("seen",)

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__(snapshot)
        self.seen: dict[str, tuple[Any, ...]] = {}

    def decide(
        self,
        facts: Facts,
        readings: Readings,
        now: float,
        draw: float,
        rates: Rates = NO_RATES,
        funds: Funds = NO_FUNDS,
        outlook: Outlook = NO_OUTLOOK,
    ) -> Decision:
        self.seen[facts.request_id] = (facts, dict(readings), now, draw, dict(rates), dict(funds), outlook)
        return super().decide(facts, readings, now, draw, rates, funds, outlook)


def scripts(rng: random.Random) -> list[Script]:
    """An upstream that mostly answers, and is sometimes full, broken or gone."""
    ways: list[Script] = [
        [reply(CHAT_REPLY)],
        [reply(b"{}", "429 Too Many Requests", "retry-after-ms: 20")],
        [reply(b"{}", "500 Internal Server Error")],
        [RESET],
    ]
    return rng.choices(ways, weights=(60, 1, 1, 2), k=REQUESTS)


def question(rng: random.Random, number: int) -> tuple[dict[str, Any], dict[str, str]]:
    """A random request: its body and its headers."""
    content: Any = "Hello" * rng.choice((1, 200, 2000))
    if rng.random() < 0.15:
        content = [{"type": "image_url", "image_url": {"url": "data:,"}}]
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": content}]}
    if rng.random() < 0.2:
        body["tools"] = [{"type": "function", "function": {"name": "f"}}]
    if rng.random() < 0.3:
        body["max_tokens"] = rng.choice((10, 3000))
    headers = {"authorization": f"Bearer sk-{rng.choice(('bank', 'growth', 'growth'))}", "x-request-id": f"r{number}"}
    for name, values, share in (
        ("x-spillway-tags", ("eval", "tight", "hasty", "hasty"), 0.4),
        ("x-spillway-lane", ("dedicated", "shared"), 0.2),
        ("x-spillway-target", ("gpu", "api", "other"), 0.1),
        ("x-spillway-traffic", ("offline",), 0.2),
    ):
        if rng.random() < share and not (name == "x-spillway-tags" and headers["authorization"].endswith("bank")):
            headers[name] = rng.choice(values)
    return body, headers


async def load(spillway: Proxy, rng: random.Random) -> None:
    questions = iter([question(rng, number) for number in range(REQUESTS)])

    async def caller() -> None:
        for body, headers in questions:
            await spillway.post("/v1/chat/completions", body, headers)

    await asyncio.gather(*[caller() for _ in range(AT_ONCE)])


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_over_a_random_load(seed: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(seed)
    async with scripted(*scripts(rng)) as gpu, scripted(*scripts(rng)) as pool, scripted(*scripts(rng)) as api:
        policy = snapshot_of(
            dedicated("gpu", gpu.url, max_in_flight=2, context_window=4000),
            dedicated("pool", pool.url, f"{pool.url}/", max_in_flight=2, supports=frozenset({Capability.TOOLS})),
            shared("api", api.url, trains=True),
            routes=ROUTES,
            bank=BANK,
            growth=GROWTH,
        )
        named = {digest: replace(key, name=f"{key.tenant.name}/main") for digest, key in policy.keys.items()}
        witness = Witness(replace(policy, keys=named))
        with EmbeddedStore(tmp_path) as store:
            async with proxy(policy, store_url=store.url) as spillway:
                spillway.spillway.adopt(witness)
                await load(spillway, rng)
    text = capfd.readouterr().out.encode().splitlines()
    lines = [msgspec.json.decode(line, type=Line) for line in text]
    decided = [line for line in lines if line.request_id in witness.seen]
    assert len(lines) == REQUESTS
    assert len(decided) > REQUESTS * 0.9
    for line in decided:
        arguments = witness.seen[line.request_id]
        assert_says(explain(witness, *arguments), line)
        assert_says_as_much(witness, line, text)
    assert_was_worth_it(decided)


def assert_says(found: Explanation, line: Line) -> None:
    """The explanation of the same request, readings, rates and draw."""
    planned = sorted((place.ordinal, one.target) for one in found.targets for place in one.places)
    assert (found.route.name if found.route else "") == line.route
    assert [name for _, name in planned] == (line.plan or [])
    if line.attempts:
        assert found.first is not None
        first = found.first.places[0]
        tried = line.attempts[0]
        assert (found.first.target, first.replica, first.reason) == (tried.target, tried.replica, tried.reason)
    left_out = {
        one
        for standing in found.targets
        for one in (standing.out, *standing.wants, *standing.despite)
        if one is not None
    }
    assert left_out == {one for one in line.excluded if one.target}
    over = {one.rule for one in found.rates if one.over and one.mode != "shadow"}
    assert {one.rule for one in line.excluded if not one.target} <= over
    assert (found.relaxed, found.shadow) == (line.relaxed, line.shadow)
    if line.plan is None:
        assert line.refusal is not None
        assert found.refusal is not None
        refused = found.refusal
        assert (refused.status, refused.code, refused.rule) == (
            line.refusal.status,
            line.refusal.code,
            line.refusal.rule,
        )
    else:
        assert found.refusal is None


def assert_says_as_much(router: Router, line: Line, text: list[bytes]) -> None:
    """The explanation from the line alone, as `policy explain --request` finds it."""
    (found,) = lines_of(text, line.request_id)
    assert found == line
    snapshot = router.snapshot
    readings, rates = readings_words(line, snapshot.targets), rates_words(line)
    if line.target_override is not None and line.target_override not in snapshot.targets:
        return
    given = read_given(snapshot, request_words(line), readings, rates)
    again = explain(router, given.facts, given.readings, given.now, given.draw, given.rates)
    assert (again.route.name if again.route else "") == line.route
    assert (again.first.target if again.first else None) == (line.plan[0] if line.plan else None)
    if line.plan is None:
        assert line.refusal is not None
        assert again.refusal is not None
        assert (again.refusal.status, again.refusal.code) == (line.refusal.status, line.refusal.code)


def assert_was_worth_it(lines: list[Line]) -> None:
    """The load met enough of what there is to explain."""
    rules = Counter(one.rule for line in lines for one in line.excluded)
    routes = Counter(line.route for line in lines)
    refused = Counter(line.refusal.code for line in lines if line.refusal is not None and line.plan is None)
    assert set(routes) >= {route.name for route in ROUTES}, routes
    assert len(rules) >= 7, rules
    assert rules["capacity"] >= 1, rules
    assert rules["ttft"] >= 1, rules
    assert len(refused) >= 4, refused
    assert any(len(line.attempts) > 1 for line in lines)


async def test_header_log_and_explanation_give_the_same_numbers(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """An engine that is far too slow for the route: a step of it takes longer than the first token may."""
    slow = EngineProfile(
        name="slow", step_s=3.0, sequence_s=0.0, context_token_s=0.0, prefill_token_s=70e-6, attention_s=0.0
    )
    async with scripted([reply(CHAT_REPLY)]) as api:
        policy = snapshot_of(replace(dedicated("gpu", "http://127.0.0.1:9/v1"), profile=slow), shared("api", api.url))
        with EmbeddedStore(tmp_path) as store:
            async with proxy(policy, store_url=store.url) as spillway:
                body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
                answer = await spillway.post("/v1/chat/completions", body)
                asked = b'{"request": {"model": "m"}}'
                found = await spillway.send("POST", "/admin/explain", asked, port=spillway.admin_port)
    (line,) = [msgspec.json.decode(one, type=Line) for one in capfd.readouterr().out.encode().splitlines()]
    reason = line.attempts[0].reason
    assert reason.startswith("spilled: predicted ttft 3")
    assert reason.endswith(" s > 1.8 s (queue 0 tokens, 0 streams) on gpu")
    assert answer.headers["x-spillway-reason"] == reason
    explanation = msgspec.json.decode(found.body, type=Explanation)
    assert explanation.first is not None
    assert explanation.first.places[0].cause is Cause.SPILLOVER
    (gpu,) = [one for one in explanation.targets if one.target == "gpu"]
    assert [one.work.ttft_s >= 3.0 for one in gpu.observed if one.work is not None] == [True]
