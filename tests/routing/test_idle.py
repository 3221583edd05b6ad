"""What an idle GPU is to a request that has time, and how much time serving it takes."""

from __future__ import annotations

import pytest
from proxy.policy.model import Lane, Target
from proxy.routing.idle import ASSUMED_SERVICE_S, NOT_IDLE, only_idle, service_s
from proxy.routing.plan import Attempt, Cause, Estimate, Plan
from proxy.routing.readings import Load, Reading

GPU = Target(name="gpu", lane=Lane.DEDICATED, model="up", region="eu", urls=("http://a/v1", "http://b/v1"))
API = Target(name="api", lane=Lane.SHARED, model="up", region="us")
IDLE, BUSY, CALM = Load(), Load(waiting=1, queued_tokens=900), Load(decoding=4, context_tokens=4000)


def estimate(ttft_s: float = 0.1, itl_s: float = 0.02, ttft_factor: float = 1.0, itl_aim_s: float = 0.05) -> Estimate:
    return Estimate(
        ttft_s=ttft_s,
        itl_s=itl_s,
        saturated=False,
        ttft_factor=ttft_factor,
        itl_factor=1.5,
        ttft_aim_s=2.0,
        itl_aim_s=itl_aim_s,
        hit_tokens=0,
        output_tokens=100.0,
    )


def attempt(target: Target, replica: int = 0, predicted: Estimate | None = None) -> Attempt:
    if predicted is None and target is GPU:
        predicted = estimate()
    return Attempt(
        target=target, replica=replica, model="up", ordinal=0, cause=Cause.FALLBACK, reason="r", estimate=predicted
    )


def plan(*attempts: Attempt) -> Plan:
    return Plan(route="r", attempts=attempts)


def seen(*loads: Load) -> dict[str, tuple[Reading, ...]]:
    return {
        "gpu": tuple(Reading(target="gpu", replica=index, as_of=0.0, load=load) for index, load in enumerate(loads))
    }


def test_a_replica_where_no_prompt_waits_is_idle_enough() -> None:
    first = plan(attempt(GPU), attempt(API))
    assert only_idle(first, seen(IDLE, IDLE)) is first
    assert only_idle(first, seen(CALM, IDLE)) is first
    assert only_idle(first, seen(BUSY, IDLE)) is NOT_IDLE


@pytest.mark.parametrize(
    ("predicted", "idle"),
    [
        (estimate(ttft_s=0.99), True),
        (estimate(ttft_s=1.01), False),
        (estimate(ttft_s=0.6, ttft_factor=2.0), False),
        (estimate(itl_s=0.024), True),
        (estimate(itl_s=0.026), False),
        (estimate(itl_s=9.0, itl_aim_s=float("inf")), True),
    ],
)
def test_the_others_keep_their_part_of_the_objectives(predicted: Estimate, idle: bool) -> None:
    decision = only_idle(plan(attempt(GPU, predicted=predicted)), seen(CALM, IDLE))
    assert isinstance(decision, Plan) is idle


def test_the_first_that_is_idle_leads_and_the_others_stay_in_case_that_it_fails() -> None:
    decision = only_idle(plan(attempt(API), attempt(GPU, 0), attempt(GPU, 1)), seen(BUSY, IDLE))
    assert isinstance(decision, Plan)
    assert [(one.target.name, one.replica, one.ordinal) for one in decision.attempts] == [
        ("gpu", 1, 0),
        ("api", 0, 1),
        ("gpu", 0, 2),
    ]
    assert (decision.attempts[0].cause, decision.attempts[0].reason) == (Cause.PREFERRED, "preferred: gpu is idle")
    assert {one.cause for one in decision.attempts[1:]} == {Cause.FALLBACK}


def test_a_provider_is_no_gpu_and_a_refusal_stays_one() -> None:
    assert only_idle(plan(attempt(API)), {}) is NOT_IDLE
    assert only_idle(NOT_IDLE, {}) is NOT_IDLE


def test_serving_takes_what_is_predicted_of_it() -> None:
    assert service_s(plan(attempt(API), attempt(GPU))) == pytest.approx(0.1 + 100 * 0.02 * 1.5)
    assert service_s(plan(attempt(API))) == ASSUMED_SERVICE_S
    assert service_s(NOT_IDLE) == ASSUMED_SERVICE_S
