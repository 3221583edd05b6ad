"""Whose work a request is, by the policy alone."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from proxy.meters.work_pools import BINS_MS, MS_PER_HOUR, Pool, Pools, bin_ms
from proxy.policy.engine_profile import ASSUMED
from proxy.policy.model import (
    Candidate,
    Endpoint,
    Lane,
    Match,
    Objective,
    Price,
    Route,
    Rules,
    Snapshot,
    Target,
)
from proxy.routing.decide import Router
from proxy.routing.outcome import Usage
from tests.meters import examples
from tests.meters.examples import facts

LLAMA = replace(
    examples.LLAMA, native=frozenset({Endpoint.CHAT}), profile=replace(ASSUMED, name="ours", prefill_token_s=1e-5)
)
TOGETHER = replace(examples.TOGETHER, native=frozenset({Endpoint.CHAT}), region="eu")
UNPRICED = replace(TOGETHER, name="unpriced", price=None)


def at(input_usd: int, output_usd: int, name: str) -> Target:
    price = Price(input_nano_usd_per_mtok=input_usd * examples.USD, output_nano_usd_per_mtok=output_usd * examples.USD)
    return replace(TOGETHER, name=name, price=price, region="us")


MODELS = {
    "llama-70b": (LLAMA, TOGETHER),
    "support": (LLAMA,),
    "elsewhere": (at(1, 9, "reads"), at(9, 1, "writes"), at(9, 9, "never"), UNPRICED),
    "unknown": (UNPRICED,),
}
WITHIN_800_MS = Rules(objectives=(Objective(rule="ttft_p99", field="ttft_p99_s", limit_s=0.8),))
WITHIN_5_S = Rules(objectives=(Objective(rule="ttft_p99", field="ttft_p99_s", limit_s=5.0),))
SNAPSHOT = Snapshot(
    digest="0" * 64,
    source="test",
    targets={target.name: target for targets in MODELS.values() for target in targets},
    models={
        model: tuple(Candidate(target=target, model=model) for target in targets) for model, targets in MODELS.items()
    },
    routes=(
        Route(name="eu", match=Match(tags=frozenset({"eu"})), require=Rules(regions=("eu",))),
        Route(name="support", match=Match(models=frozenset({"support"})), want=WITHIN_800_MS),
        Route(name="elsewhere", match=Match(models=frozenset({"elsewhere"})), require=WITHIN_5_S),
        Route(name="default"),
    ),
)
POOLS = Pools(SNAPSHOT, Router(SNAPSHOT).lawful_set)


def test_models_that_share_an_engine_are_one_pool_with_one_length_of_bins() -> None:
    one, other = POOLS.of(facts("llama-70b"), "default"), POOLS.of(facts("support"), "support")
    assert one is not None and other is not None
    assert one.pool == other.pool == Pool(target="llama-eu")
    assert one.bin_ms == other.bin_ms == 1200
    assert one.profile == other.profile == LLAMA.profile
    assert (one.captive, other.captive) == (False, True)


def test_what_gates_keep_from_the_engines_is_not_their_work() -> None:
    kept = POOLS.of(msgspec.structs.replace(facts("llama-70b"), tags=frozenset({"eu"})), "eu")
    shared = POOLS.of(msgspec.structs.replace(facts("llama-70b"), lane_override=Lane.SHARED), "default")
    assert kept is not None and shared is not None
    assert kept.pool == shared.pool == Pool(model="llama-70b")
    assert kept.profile == ASSUMED


def test_the_tokens_are_worth_what_the_cheapest_that_is_lawful_asks() -> None:
    kind = POOLS.of(facts("elsewhere"), "elsewhere")
    assert kind is not None
    assert len(kind.prices) == 2
    assert kind.shared_nano_usd(Usage(input_tokens=100, output_tokens=1)) == 109_000
    assert kind.shared_nano_usd(Usage(input_tokens=1, output_tokens=100)) == 109_000
    unknown = POOLS.of(facts("unknown"), "default")
    assert unknown is not None
    assert unknown.shared_nano_usd(Usage(input_tokens=100)) is None
    assert not unknown.captive


def test_what_the_policy_does_not_know_any_more_is_no_kind() -> None:
    assert POOLS.of(facts("gone"), "default") is None


def test_callers_cannot_fill_the_memory_with_targets_that_there_are_not() -> None:
    pools = Pools(SNAPSHOT, Router(SNAPSHOT).lawful_set)
    for number in range(50):
        asked = msgspec.structs.replace(facts("llama-70b"), target_override=f"target-{number}")
        assert pools.of(asked, "default") is None
    assert not pools._kinds


@pytest.mark.parametrize(
    ("limit_s", "expected"), [(0.1, 500), (0.8, 1200), (2.0, 3000), (2.1, 3000), (5.0, 7500), (99.0, 60_000)]
)
def test_bins_are_as_long_as_the_objective_lets_a_burst_wait(limit_s: float, expected: int) -> None:
    rules = Rules(objectives=(Objective(rule="ttft_p90", field="ttft_p90_s", limit_s=limit_s),))
    assert bin_ms([Route(name="one", want=rules), Route(name="none")]) == expected


def test_bins_divide_the_hour() -> None:
    assert all(MS_PER_HOUR % ms == 0 for ms in BINS_MS)
    assert {1500, 2000, 2400, 3000} < set(BINS_MS)
    assert bin_ms([]) == 3000
