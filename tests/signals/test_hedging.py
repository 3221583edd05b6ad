"""When a copy is due, and how many there may be."""

from __future__ import annotations

import pytest
from proxy.policy.hedge import Hedge, Quantile
from proxy.policy.model import Lane, Target
from proxy.routing.plan import Attempt, Cause, Estimate
from proxy.signals.hedging import LEAST_SAMPLES, LEAST_WAIT_S, MOST_TOKENS, SAMPLES, Hedging

GPU = Target(name="gpu", lane=Lane.DEDICATED, model="up", region="eu", urls=("http://gpu/v1",))


def attempt(predicted_s: float | None = None, factor: float = 1.0, name: str = "gpu") -> Attempt:
    estimate = None
    if predicted_s is not None:
        estimate = Estimate(
            ttft_s=predicted_s,
            itl_s=0.02,
            saturated=False,
            ttft_factor=factor,
            itl_factor=1.0,
            ttft_aim_s=2.0,
            itl_aim_s=0.05,
            hit_tokens=0,
            output_tokens=100.0,
        )
    target = Target(name=name, lane=Lane.DEDICATED, model="up", region="eu", urls=("http://gpu/v1",))
    return Attempt(target=target, replica=0, model="up", ordinal=0, cause=Cause.PREFERRED, reason="", estimate=estimate)


def test_nothing_is_due_where_nothing_is_known() -> None:
    assert Hedging().due_s(attempt(), Quantile.P95) is None


def test_at_first_the_replicas_own_factor_stands_in() -> None:
    assert Hedging().due_s(attempt(0.5, factor=1.4), Quantile.P95) == pytest.approx(0.7)


@pytest.mark.parametrize(("after", "ratio"), [(Quantile.P50, 51), (Quantile.P95, 96), (Quantile.P99, 100)])
def test_it_is_the_quantile_of_what_was_observed_by_what_was_predicted(after: Quantile, ratio: int) -> None:
    hedging = Hedging()
    for percent in range(100, 0, -1):
        # Long prompts and short ones: what differs is the prediction, and not what it is out by.
        predicted_s = 0.1 if percent % 2 else 2.0
        hedging.observe(attempt(predicted_s), percent / 100 * predicted_s)
    assert hedging.due_s(attempt(0.4), after) == pytest.approx(0.4 * ratio / 100)
    assert hedging.due_s(attempt(4.0, factor=9.0), after) == pytest.approx(4.0 * ratio / 100)


def test_of_a_provider_its_own_times_are_taken() -> None:
    hedging = Hedging()
    for _ in range(LEAST_SAMPLES - 1):
        hedging.observe(attempt(), 0.3)
    assert hedging.due_s(attempt(), Quantile.P95) is None
    hedging.observe(attempt(), 0.3)
    assert hedging.due_s(attempt(), Quantile.P95) == pytest.approx(0.3)
    assert hedging.due_s(attempt(name="other"), Quantile.P95) is None


def test_old_times_are_forgotten_and_nothing_is_slow_at_once() -> None:
    hedging = Hedging()
    for _ in range(SAMPLES):
        hedging.observe(attempt(), 9.0)
    for _ in range(SAMPLES):
        hedging.observe(attempt(), 0.001)
    assert hedging.due_s(attempt(), Quantile.P99) == LEAST_WAIT_S


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5, 1.0])
def test_of_n_requests_no_more_than_the_share_and_one_are_copied(share: float) -> None:
    hedging, copied, requests = Hedging(), 0, 1000
    for _ in range(requests):
        hedging.deposit("r", Hedge(budget_share=share))
        if hedging.affords("r"):
            hedging.withdraw("r")
            copied += 1
    assert share * requests <= copied <= share * requests + 1


def test_a_quiet_hour_does_not_save_up_for_a_storm() -> None:
    hedging, copied = Hedging(), 0
    for _ in range(100_000):
        hedging.deposit("r", Hedge())
    while hedging.affords("r"):
        hedging.withdraw("r")
        copied += 1
    assert copied == MOST_TOKENS


def test_routes_do_not_share() -> None:
    hedging = Hedging()
    hedging.deposit("a", Hedge())
    hedging.withdraw("a")
    assert not hedging.affords("a")
    assert hedging.affords("b")
