"""How many replicas a target needs, with all that left it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.policy.engine_profile import LLAMA_70B_FP8_2XH100
from proxy.policy.model import ANONYMOUS, Candidate, Endpoint, Lane, Match, Objective, Route, Rules, Snapshot, Target
from proxy.routing.facts import Facts
from proxy.routing.outcome import Failure, Outcome, Usage
from proxy.routing.plan import Attempt, Cause, Exclusion, Plan, Refusal
from proxy.routing.readings import Load, Outlook
from proxy.routing.work import work_us
from proxy.signals.demand import LEAST_NEEDED, WANTED_S, WINDOW_S, Demand

OURS = Target(
    name="ours", lane=Lane.DEDICATED, model="llama", region="eu", urls=("http://one/v1",), profile=LLAMA_70B_FP8_2XH100
)
SECOND = replace(OURS, name="second")
SHARED = Target(name="shared", lane=Lane.SHARED, model="llama", region="us")
PACE = Rules(objectives=(Objective(rule="itl_p99", field="itl_p99_s", limit_s=0.08),))
CAPACITY = 1 - 0.016 / 0.05
FACTS = Facts(
    request_id="r", tenant=ANONYMOUS, model="llama", endpoint=Endpoint.CHAT, input_tokens=1000, max_output_tokens=200
)
WORK_S = work_us(Usage(input_tokens=1000, output_tokens=200)) / 1e6
FULL = (Exclusion("ours", "ttft", "predicted 2.3 s", "1.8 s", False),)


def snapshot(*targets: Target, want: Rules = Rules()) -> Snapshot:  # noqa: B008
    return Snapshot(
        digest="0" * 64,
        source="test",
        targets={target.name: target for target in targets},
        models={"llama": tuple(Candidate(target=target, model="llama") for target in targets)},
        routes=(
            Route(name="other", match=Match(models=frozenset({"other"})), want=Rules(objectives=(PACE.objectives[0],))),
            Route(name="default", want=want),
        ),
    )


def attempt(target: Target) -> Attempt:
    return Attempt(target=target, replica=0, model="llama", ordinal=0, cause=Cause.PREFERRED, reason="test")


def plan(target: Target, *excluded: Exclusion) -> Plan:
    return Plan(route="default", attempts=(attempt(target),), excluded=excluded)


def refused(*excluded: Exclusion) -> Refusal:
    return Refusal(status=503, code="at_capacity", message="full", rule="capacity", excluded=excluded)


POLICY = snapshot(OURS, SECOND, SHARED)


def test_a_target_that_nobody_wants_needs_none() -> None:
    demand = Demand(POLICY)
    assert demand.replicas_needed(0.0) == {"ours": 0.0, "second": 0.0}
    demand.look("ours", [Load(), Load()], 1.0)
    assert demand.replicas_needed(1.0)["ours"] == 0.0
    assert demand.gauges(1.0) == {}


def test_it_is_wanted_from_the_first_request_that_found_no_room_and_for_some_minutes() -> None:
    demand = Demand(POLICY)
    nothing = Exclusion("ours", "breaker", "open", "closed", False)
    assert demand.decided(refused(nothing), replace_input(1), 10.0) == "ours"
    assert demand.replicas_needed(10.0) == {"ours": LEAST_NEEDED, "second": 0.0}
    assert demand.replicas_needed(10.0 + WANTED_S - 1)["ours"] == LEAST_NEEDED
    assert demand.replicas_needed(10.0 + WANTED_S)["ours"] == 0.0


def replace_input(tokens: int) -> Facts:
    return Facts(request_id="r", tenant=ANONYMOUS, model="llama", endpoint=Endpoint.CHAT, input_tokens=tokens)


def test_work_that_spills_at_a_steady_rate_needs_as_many_replicas_as_it_would_keep_busy() -> None:
    demand, now = Demand(POLICY), 0.0
    while now < 6 * WINDOW_S:
        demand.decided(plan(SHARED, *FULL), FACTS, now)
        now += 0.1
    assert demand.replicas_needed(now)["ours"] == pytest.approx(10 * WORK_S / CAPACITY, rel=0.01)
    assert demand.spilled_work_s()["ours"] == pytest.approx(now * 10 * WORK_S, rel=0.01)


def test_answers_are_taken_to_be_as_long_as_expected() -> None:
    demand = Demand(POLICY)
    demand.decided(plan(SHARED, *FULL), FACTS, 0.0, Outlook(output_tokens=10.0))
    assert demand.spilled_work_s()["ours"] == pytest.approx(
        work_us(Usage(input_tokens=1000, output_tokens=10)) / 1e6, abs=2e-6
    )


@pytest.mark.parametrize(
    "decision",
    [
        plan(OURS),
        plan(SECOND, *FULL),
        plan(SHARED, Exclusion("ours", "require.region", "us", "eu", True)),
        plan(SHARED, Exclusion("shared", "capacity", "9 of 9", "9", False)),
        refused(Exclusion("", "tenant.rpm", "60", "60", True)),
    ],
)
def test_what_another_of_ours_serves_or_may_not_be_served_here_is_no_shortage(decision: Plan | Refusal) -> None:
    demand = Demand(POLICY)
    assert demand.decided(decision, FACTS, 0.0) is None
    assert demand.spilled_work_s() == {"ours": 0.0, "second": 0.0}


def test_a_request_counts_once_however_many_targets_were_full() -> None:
    demand = Demand(POLICY)
    both = (Exclusion("second", "capacity", "9 of 9", "9", False), *FULL)
    assert demand.decided(plan(SHARED, *both), FACTS, 0.0) == "second"
    assert demand.spilled_work_s()["ours"] == 0.0


def test_an_engine_that_said_that_it_is_full_was_wanted() -> None:
    demand = Demand(POLICY)
    full = Outcome(attempt=attempt(OURS), status=429, failure=Failure.FULL, committed=False, total_s=0.1)
    demand.ended(full, FACTS, 0.0)
    demand.ended(
        Outcome(attempt=attempt(SHARED), status=429, failure=Failure.FULL, committed=False, total_s=0.1), FACTS, 0.0
    )
    demand.ended(Outcome(attempt=attempt(OURS), status=200, failure=None, committed=True, total_s=0.1), FACTS, 0.0)
    assert demand.spilled_work_s() == {"ours": pytest.approx(WORK_S, abs=1e-6), "second": 0.0}


def test_a_replica_at_its_objective_is_one_replica() -> None:
    """Decoding as many streams as fit into 50 ms, with a little prompt each: all of the capacity, and no more."""
    demand = Demand(POLICY)
    streams = int((0.05 - 0.016) / (90e-6 + 30e-9 * 1500))
    demand.look("ours", [Load(decoding=streams, context_tokens=streams * 1500)], 0.0)
    for second in range(1, 300):
        demand.look("ours", [Load(decoding=streams, context_tokens=streams * 1500)], float(second))
    assert demand.replicas_needed(300.0)["ours"] == pytest.approx(1.0, abs=0.01)


def test_the_load_is_averaged_and_what_waits_counts() -> None:
    demand = Demand(POLICY)
    demand.look("ours", [Load()], 0.0)
    demand.look("ours", [Load(waiting=9, queued_tokens=450_000)], WINDOW_S)
    assert demand.replicas_needed(WINDOW_S)["ours"] == pytest.approx(
        450_000 * 70e-6 / WINDOW_S * 0.632 / CAPACITY, rel=0.01
    )


def test_a_route_that_allows_slower_answers_makes_a_replica_larger() -> None:
    quick, slow = Demand(POLICY), Demand(snapshot(OURS, SHARED, want=PACE))
    for demand in (quick, slow) * 50:
        demand.decided(refused(*FULL), FACTS, 0.0)
    ratio = quick.replicas_needed(0.0)["ours"] / slow.replicas_needed(0.0)["ours"]
    assert ratio == pytest.approx((1 - 0.016 / 0.08) / CAPACITY)


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0.0, 100.0)), max_size=40))
def test_every_proxy_says_the_same(spilled: list[tuple[int, float]]) -> None:
    proxies = [Demand(POLICY) for _ in range(3)]
    for who, at in sorted(spilled, key=lambda one: one[1]):
        proxies[who].decided(refused(*FULL), FACTS, at)
    told = [proxy.gauges(100.0) for proxy in proxies]
    for index, proxy in enumerate(proxies):
        others = [one for other, one in enumerate(told) if other != index]
        names = {name for one in others for name in one}
        proxy.absorb({name: sum(one.get(name, 0) for one in others) for name in names}, 100.0)
    said = [proxy.replicas_needed(100.0)["ours"] for proxy in proxies]
    assert said == pytest.approx([said[0]] * 3, abs=1e-5)
    assert (said[0] > 0.0) == bool(spilled)


def test_what_others_told_is_believed_for_a_while_only() -> None:
    demand = Demand(POLICY)
    demand.absorb({"spilled:ours": 680_000}, 0.0)
    assert demand.replicas_needed(4.9)["ours"] == pytest.approx(1.0)
    assert demand.replicas_needed(5.0)["ours"] == 0.0


def test_a_target_keeps_what_is_known_of_it_from_policy_to_policy() -> None:
    demand = Demand(POLICY)
    demand.decided(refused(*FULL), FACTS, 0.0)
    demand.adopt(snapshot(OURS, SHARED))
    assert demand.spilled_work_s() == {"ours": pytest.approx(WORK_S, abs=1e-6)}
    demand.look("gone", [], 0.0)
