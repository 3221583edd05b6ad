"""A request goes where it should be served in time, spills with the numbers, and is refused before it is late."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.policy.discovery import DnsService
from proxy.policy.engine_profile import LLAMA_70B_FP8_2XH100
from proxy.policy.model import Lane, Match, Prefer, Priority, Route, Rules, Snapshot, Traffic
from proxy.routing.choose import AS_EVER, PATIENCE, spill_reason
from proxy.routing.decide import Router, decide
from proxy.routing.facts import Facts
from proxy.routing.place import expected_output_tokens
from proxy.routing.plan import Cause, Decision, Exclusion, Plan, Refusal
from proxy.routing.predict import MARGIN, PROBE_S, Steps
from proxy.routing.readings import NO_OUTLOOK, Breaker, Load, Outlook, Reading
from tests.routing.policies import (
    NOW,
    dedicated,
    facts,
    itl_p99,
    loads,
    price,
    reading,
    readings,
    replaced,
    shared,
    snapshot,
    ttft_p99,
)

EU = dedicated(max_in_flight=None, profile=LLAMA_70B_FP8_2XH100)
TWO = replace(EU, urls=("http://a/v1", "http://b/v1"))
US = shared(price=price(0.72))
STEPS = Steps(EU)
WISHED = Route(name="chat", want=Rules(objectives=ttft_p99(2.0)))
REQUIRED = Route(name="chat", require=Rules(objectives=ttft_p99(2.0)))
SILENT = Route(name="chat")

IDLE = Load(begun_at=NOW)
BUSY = Load(waiting=5, queued_tokens=8000, decoding=20, context_tokens=30_000, begun_at=NOW)
HASTY = Load(waiting=9, queued_tokens=21_000, decoding=38, context_tokens=60_000, begun_at=NOW)
"""1.79 s to the first token of a prompt of a thousand: just in time for two seconds, margin and all."""
LATE = replaced(HASTY, queued_tokens=22_000)
"""1.87 s: past the margin, and still within two seconds."""
DROWNED = replaced(HASTY, waiting=20, queued_tokens=40_000)


def asked_for(**given: object) -> Facts:
    return facts(**({"input_tokens": 1000, "max_output_tokens": 200} | given))


def chosen(policy: Snapshot, *given: Load, outlook: Outlook = NO_OUTLOOK, **asked: object) -> Decision:
    """The decision while the replicas of the dedicated target have these loads."""
    seen = [reading(EU.name, replica, load=load) for replica, load in enumerate(given)]
    return decide(policy, asked_for(**asked), readings(*seen), NOW, 0.0, outlook=outlook)


def plan(decision: Decision) -> Plan:
    assert isinstance(decision, Plan), decision
    return decision


def refusal(decision: Decision) -> Refusal:
    assert isinstance(decision, Refusal), decision
    return decision


def order(decision: Decision) -> list[str]:
    return [f"{attempt.target.name}/{attempt.replica}" for attempt in plan(decision).attempts]


def wait_s(load: Load) -> float:
    return STEPS.predict(load, 1000, 0, 200.0).ttft_s


class TestSpilling:
    def test_a_dedicated_replica_serves_while_it_is_in_time_and_says_what_was_predicted(self) -> None:
        decision = plan(chosen(snapshot([US, EU], [WISHED]), HASTY))
        assert order(decision) == ["llama-eu/0", "together/0"]
        first, second = decision.attempts
        assert (first.cause, first.reason) == (Cause.PREFERRED, "preferred: cost")
        assert first.estimate is not None
        assert first.estimate.ttft_s == wait_s(HASTY)
        assert second.estimate is None
        assert (decision.excluded, decision.relaxed) == ((), False)

    def test_it_spills_with_the_numbers_when_the_first_token_would_be_late(self) -> None:
        decision = plan(chosen(snapshot([US, EU], [WISHED]), DROWNED))
        assert order(decision) == ["together/0"]
        assert decision.attempts[0].cause is Cause.SPILLOVER
        said = "spilled: predicted ttft 3.32 s > 1.8 s (queue 40k tokens, 38 streams) on llama-eu"
        assert decision.attempts[0].reason == said
        assert [str(one) for one in decision.excluded] == [
            "llama-eu: ttft predicted 3.32 s (queue 40k tokens, 38 streams) against 1.8 s"
        ]

    def test_it_spills_with_the_numbers_when_the_gaps_would_be_too_long(self) -> None:
        route = Route(name="chat", want=Rules(objectives=itl_p99(0.02)))
        decision = plan(chosen(snapshot([US, EU], [route]), BUSY))
        assert decision.attempts[0].reason == (
            "spilled: predicted itl 20 ms > 17 ms (queue 8.0k tokens, 20 streams) on llama-eu"
        )

    def test_it_spills_when_the_memory_has_no_room_for_the_context(self) -> None:
        decision = plan(chosen(snapshot([US, EU], [WISHED]), Load(decoding=9, context_tokens=470_000)))
        assert decision.attempts[0].reason == ("kv: 470k tokens of context on llama-eu against 447k tokens in memory")

    def test_another_replica_that_is_in_time_is_better_than_spilling(self) -> None:
        decision = plan(chosen(snapshot([US, TWO], [WISHED]), DROWNED, BUSY))
        assert order(decision) == ["llama-eu/1", "together/0"]
        assert decision.excluded == ()

    def test_the_second_best_replica_comes_after_another_target(self) -> None:
        decision = chosen(snapshot([US, TWO], [WISHED]), BUSY, IDLE)
        assert order(decision) == ["llama-eu/1", "together/0", "llama-eu/0"]

    def test_a_late_replica_comes_last_and_only_while_it_keeps_the_objective_itself(self) -> None:
        assert MARGIN * 2.0 < wait_s(LATE) < 2.0
        decision = plan(chosen(snapshot([US, EU], [WISHED]), LATE))
        assert order(decision) == ["together/0", "llama-eu/0"]
        assert [one.cause for one in decision.attempts] == [Cause.SPILLOVER, Cause.FALLBACK]
        assert order(chosen(snapshot([US, EU], [WISHED]), DROWNED)) == ["together/0"]

    def test_without_an_objective_two_seconds_spill(self) -> None:
        assert order(chosen(snapshot([US, EU], [SILENT]), HASTY)) == ["llama-eu/0", "together/0"]
        assert order(chosen(snapshot([US, EU], [SILENT]), DROWNED)) == ["together/0", "llama-eu/0"]

    def test_nobody_waits_for_offline_traffic_so_it_does_not_spill(self) -> None:
        offline = chosen(snapshot([US, EU], [SILENT]), DROWNED, traffic=Traffic.OFFLINE)
        assert order(offline) == ["llama-eu/0", "together/0"]
        hurried = chosen(snapshot([US, EU], [WISHED]), DROWNED, traffic=Traffic.OFFLINE)
        assert order(hurried) == ["together/0"]

    def test_a_probe_goes_to_a_replica_that_only_its_factors_condemn_and_no_second_one_in_the_same_moment(self) -> None:
        condemned = replaced(IDLE, ttft_factor=30.0, begun_at=NOW - PROBE_S)
        policy = snapshot([US, EU], [WISHED])
        assert order(chosen(policy, condemned)) == ["llama-eu/0", "together/0"]
        assert order(chosen(policy, replaced(condemned, begun_at=NOW))) == ["together/0"]

    def test_where_work_is_known_there_is_no_limit_to_how_many_a_replica_takes_but_the_policys(self) -> None:
        many = reading(EU.name, load=IDLE, in_flight=2000)
        assert order(decide(snapshot([EU]), asked_for(), readings(many), NOW, 0.0)) == ["llama-eu/0"]
        limited = snapshot([replace(EU, max_in_flight=64)])
        assert refusal(decide(limited, asked_for(), readings(many), NOW, 0.0)).code == "at_capacity"


class TestRefusing:
    """Where no shared target can take the request."""

    def test_nobody_is_queued_past_an_objective_that_is_stated(self) -> None:
        found = refusal(chosen(snapshot([EU], [WISHED]), DROWNED))
        assert (found.status, found.code) == (503, "at_capacity")
        assert found.retryable
        assert found.retry_after_s == pytest.approx(wait_s(DROWNED) - 2.0)
        assert "ttft predicted 3.32 s (queue 40k tokens, 38 streams)" in found.message
        insisted = refusal(chosen(snapshot([US, EU], [WISHED]), DROWNED, lane_override=Lane.DEDICATED))
        assert (insisted.status, insisted.code) == (429, "dedicated_at_capacity")

    def test_the_default_only_spills_and_never_refuses(self) -> None:
        decision = plan(chosen(snapshot([EU], [SILENT]), DROWNED))
        assert order(decision) == ["llama-eu/0"]
        assert not decision.relaxed

    def test_within_the_objective_it_waits_rather_than_being_refused(self) -> None:
        route = Route(name="chat", want=Rules(objectives=ttft_p99(2.0)))
        late = replaced(HASTY, queued_tokens=21_600)
        assert MARGIN * 2.0 < wait_s(late) < PATIENCE[Priority.NORMAL] * 2.0
        decision = plan(chosen(snapshot([EU], [route]), late))
        assert order(decision) == ["llama-eu/0"]
        assert decision.relaxed

    def test_the_low_are_refused_before_the_normal_and_those_before_the_high(self) -> None:
        policy, waits = snapshot([EU], [WISHED]), {}
        for priority in Priority:
            for queued in range(0, 30_000, 100):
                load = replaced(HASTY, queued_tokens=queued)
                if isinstance(chosen(policy, load, priority=priority), Refusal):
                    waits[priority] = wait_s(load)
                    break
        assert waits[Priority.LOW] == pytest.approx(0.5 * 2.0, abs=0.02)
        assert waits[Priority.NORMAL] == pytest.approx(0.95 * 2.0, abs=0.02)
        assert waits[Priority.HIGH] == pytest.approx(2.0, abs=0.02)

    def test_the_low_leave_the_others_their_half_only_where_they_cannot_spill(self) -> None:
        assert order(chosen(snapshot([US, EU], [WISHED]), HASTY, priority=Priority.LOW))[0] == "llama-eu/0"
        assert refusal(chosen(snapshot([EU], [WISHED]), HASTY, priority=Priority.LOW)).retry_after_s is not None

    def test_an_idle_replica_always_serves_where_only_a_wish_would_be_missed(self) -> None:
        slow = replaced(IDLE, ttft_factor=90.0)
        assert wait_s(slow) > 2.0
        for priority in Priority:
            decision = plan(chosen(snapshot([EU], [WISHED]), slow, priority=priority))
            assert order(decision) == ["llama-eu/0"]
            assert decision.relaxed

    def test_a_wish_that_no_replica_could_meet_alone_lets_few_wait_and_not_many(self) -> None:
        slow, policy = replaced(IDLE, ttft_factor=90.0, waiting=1), snapshot([EU], [WISHED])
        queued = next(
            n for n in range(0, 30_000, 100) if wait_s(replaced(slow, queued_tokens=n)) > AS_EVER * wait_s(slow)
        )
        assert plan(chosen(policy, replaced(slow, queued_tokens=queued - 100))).relaxed
        assert isinstance(chosen(policy, replaced(slow, queued_tokens=queued)), Refusal)
        attainable = replaced(HASTY, waiting=1, queued_tokens=30_000)
        assert wait_s(replaced(attainable, waiting=0, queued_tokens=0)) < 2.0 < wait_s(attainable)
        assert isinstance(chosen(policy, attainable), Refusal)

    def test_one_that_is_idle_serves_though_another_would_be_less_late(self) -> None:
        other = replace(EU, name="llama-b")
        slow = replaced(IDLE, ttft_factor=90.0)
        assert 2.0 < wait_s(DROWNED) < wait_s(slow)
        seen = readings(reading(EU.name, load=DROWNED), reading(other.name, load=slow))
        decision = decide(snapshot([EU, other], [WISHED]), asked_for(), seen, NOW, 0.0)
        assert order(decision) == ["llama-b/0"]

    def test_a_required_objective_is_not_given_up_for_an_idle_replica(self) -> None:
        slow = replaced(IDLE, ttft_factor=90.0)
        assert refusal(chosen(snapshot([EU], [REQUIRED]), slow)).code == "at_capacity"
        assert order(chosen(snapshot([US, EU], [REQUIRED]), slow)) == ["together/0"]

    def test_a_required_gap_is_not_given_up_either(self) -> None:
        route = Route(name="chat", require=Rules(objectives=itl_p99(0.02)))
        crowd = Load(decoding=100, context_tokens=100_000, begun_at=NOW)
        assert isinstance(chosen(snapshot([EU], [route]), crowd), Refusal)
        assert order(chosen(snapshot([US, EU], [route]), crowd)) == ["together/0"]
        wished = Route(name="chat", want=Rules(objectives=itl_p99(0.02)), require=Rules(objectives=ttft_p99(2.0)))
        assert plan(chosen(snapshot([EU], [wished]), crowd)).relaxed

    def test_a_full_shared_target_leaves_the_request_to_the_replica_that_is_just_in_time(self) -> None:
        late = replaced(HASTY, queued_tokens=21_600)
        full = reading(US.name, full_until=NOW + 9)
        seen = readings(full, reading(EU.name, load=late))
        decision = plan(decide(snapshot([US, EU], [WISHED]), asked_for(), seen, NOW, 0.0))
        assert order(decision) == ["llama-eu/0"]


class TestBid:
    def test_a_request_that_is_worth_less_than_others_spills_and_says_so(self) -> None:
        policy = snapshot([US, EU], [WISHED])
        decision = plan(chosen(policy, IDLE, outlook=Outlook(bid_nano_usd_per_s=1e12)))
        assert order(decision) == ["together/0", "llama-eu/0"]
        assert decision.attempts[0].cause is Cause.SPILLOVER
        assert decision.attempts[0].reason.startswith("bid: worth $")
        assert [one.rule for one in decision.excluded] == ["bid"]
        assert order(chosen(policy, IDLE, outlook=Outlook(bid_nano_usd_per_s=1.0))) == ["llama-eu/0", "together/0"]

    def test_whoever_cannot_go_elsewhere_is_not_outbid(self) -> None:
        outlook = Outlook(bid_nano_usd_per_s=1e12)
        assert order(chosen(snapshot([EU], [WISHED]), IDLE, outlook=outlook)) == ["llama-eu/0"]
        assert order(chosen(snapshot([shared(), EU], [WISHED]), IDLE, outlook=outlook))[0] == "llama-eu/0"

    def test_a_route_that_prefers_dedicated_does_not_count_the_money(self) -> None:
        route = replace(WISHED, prefer=Prefer.DEDICATED)
        decision = chosen(snapshot([US, EU], [route]), IDLE, outlook=Outlook(bid_nano_usd_per_s=1e12))
        assert order(decision)[0] == "llama-eu/0"


@pytest.mark.parametrize(
    ("rule", "observed", "limit", "words"),
    [
        (
            "ttft",
            "predicted 2.3 s (queue 21k tokens, 38 streams)",
            "1.8 s",
            "spilled: predicted ttft 2.3 s > 1.8 s (queue 21k tokens, 38 streams) on llama-eu",
        ),
        (
            "itl",
            "predicted 61 ms (queue 900 tokens, 70 streams)",
            "43 ms",
            "spilled: predicted itl 61 ms > 43 ms (queue 900 tokens, 70 streams) on llama-eu",
        ),
        ("kv", "470k tokens", "447k tokens", "kv: 470k tokens on llama-eu against 447k tokens"),
        ("capacity", "64 of 64 in flight", "64 in flight", "dedicated at capacity: 64 of 64 in flight on llama-eu"),
        ("engine_full", "said so 0.4 s ago", "not full", "engine full: llama-eu said so 0.4 s ago"),
        ("breaker", "open", "closed", "out of rotation: llama-eu is open"),
        ("asleep", "no replica is ready", "one replica", "asleep: no replica is ready of llama-eu"),
    ],
)
def test_the_reason_for_spilling_names_the_numbers(rule: str, observed: str, limit: str, words: str) -> None:
    assert spill_reason(Exclusion("llama-eu", rule, observed, limit, False)) == words


# Properties, over loads at random.

GDPR = Match(tags=frozenset({"gdpr"}))
ROUTES = st.sampled_from(
    [
        Route(
            name="gdpr",
            match=GDPR,
            require=Rules(regions=("eu-*",), objectives=objectives),
            want=Rules(objectives=want),
        )
        for objectives in ((), ttft_p99(1.0), itl_p99(0.04))
        for want in ((), ttft_p99(2.0), ttft_p99(0.5) + itl_p99(0.03))
    ]
)
READ = st.lists(
    st.builds(dict, load=loads, breaker=st.sampled_from((Breaker.CLOSED, Breaker.CLOSED, Breaker.OPEN))),
    min_size=2,
    max_size=2,
)
ASKED = st.builds(
    asked_for,
    input_tokens=st.sampled_from((0, 30, 1000, 20_000)),
    tags=st.sampled_from((frozenset[str](), frozenset({"gdpr"}))),
    priority=st.sampled_from(Priority),
    traffic=st.sampled_from(Traffic),
)
OUTLOOKS = st.builds(
    Outlook,
    output_tokens=st.sampled_from((None, 20.0, 2000.0)),
    hits=st.sampled_from(({}, {"llama-eu": (900, 0)})),
    bid_nano_usd_per_s=st.sampled_from((0.0, 1e3, 1e12)),
)


@given(ROUTES, READ, READ, ASKED, OUTLOOKS)
def test_whatever_is_predicted_no_attempt_is_unlawful_unable_or_required_to_be_faster(
    route: Route, near: list[dict[str, object]], far: list[dict[str, object]], asked: Facts, outlook: Outlook
) -> None:
    away = replace(TWO, name="llama-us", region="us")
    policy = snapshot([US, away, TWO], [route, SILENT])
    seen = readings(
        *[reading(TWO.name, replica, **told) for replica, told in enumerate(near)],
        *[reading(away.name, replica, **told) for replica, told in enumerate(far)],
    )
    decision = Router(policy).decide(asked, seen, NOW, 0.5, outlook=outlook)
    lawful = {TWO.name} if "gdpr" in asked.tags else {US.name, TWO.name, away.name}
    if isinstance(decision, Refusal):
        # Only of an objective that is stated, or when everything is out of rotation, is anybody refused.
        assert decision.retry_after_s is not None
        assert "gdpr" in asked.tags
        usable = [one for one in seen[TWO.name] if one.breaker is not Breaker.OPEN]
        assert not usable or route.require.objectives or route.want.objectives
        return
    assert len({(one.target.name, one.replica) for one in decision.attempts}) == len(decision.attempts)
    for one in decision.attempts:
        assert one.target.name in lawful
        if one.target.lane is Lane.DEDICATED:
            assert_able(seen[one.target.name][one.replica], asked, decision, route, outlook)
    excluded = {one.target for one in decision.excluded}
    assert {one.target.name for one in decision.attempts} | excluded == {US.name, TWO.name, away.name}


def assert_able(seen: Reading, asked: Facts, decision: Plan, route: Route, outlook: Outlook) -> None:
    assert seen.breaker is not Breaker.OPEN
    required = route.require.objectives if decision.route == "gdpr" else ()
    if seen.load is None or not required or NOW - seen.load.begun_at >= PROBE_S:
        return
    hit = min(outlook.hits.get(seen.target, (0, 0))[seen.replica], max(asked.input_tokens - 1, 0))
    said = STEPS.predict(seen.load, asked.input_tokens, hit, expected_output_tokens(asked, outlook))
    limits = {one.field[:3]: one.limit_s for one in required}
    assert said.ttft_s <= limits.get("ttf", inf)
    assert said.itl_s <= limits.get("itl", inf)


@given(st.lists(loads, min_size=2, max_size=2), ASKED)
def test_nobody_waits_behind_others_for_longer_than_a_stated_objective(given: list[Load], asked: Facts) -> None:
    seen = readings(*[reading(TWO.name, replica, load=load) for replica, load in enumerate(given)])
    decision = decide(snapshot([TWO], [WISHED]), asked, seen, NOW, 0.0)
    for one in decision.attempts if isinstance(decision, Plan) else ():
        load = given[one.replica]
        assert one.estimate is not None
        predicted_s = one.estimate.ttft_s * one.estimate.ttft_factor
        probed = NOW - load.begun_at >= PROBE_S and one.estimate.ttft_s <= MARGIN * 2.0
        alone = replaced(load, waiting=0, queued_tokens=0, overdue=0.0)
        alone_s = STEPS.predict(alone, asked.input_tokens, one.estimate.hit_tokens, one.estimate.output_tokens).ttft_s
        hopeless = alone_s > PATIENCE[asked.priority] * 2.0 and predicted_s <= AS_EVER * alone_s
        assert predicted_s <= 2.0 or not load.waiting or probed or hopeless


@given(loads, ASKED)
def test_a_better_replica_is_never_left_for_a_worse_one(load: Load, asked: Facts) -> None:
    worse = replaced(load, queued_tokens=load.queued_tokens + 500, waiting=load.waiting + 1)
    policy = snapshot([TWO], [SILENT])
    for pair, best in (((load, worse), 0), ((worse, load), 1)):
        seen = readings(*[reading(TWO.name, replica, load=one) for replica, one in enumerate(pair)])
        assert plan(decide(policy, asked, seen, NOW, 0.0)).attempts[0].replica == best


ASLEEP = replace(EU, urls=(), discovery=DnsService(host="llama.svc", port=8000))


@pytest.mark.parametrize("seen", [{EU.name: ()}, {}], ids=["found to be none", "never read"])
def test_a_target_without_a_replica_is_spilled_from(seen: dict[str, tuple[Reading, ...]]) -> None:
    plan = decide(snapshot([ASLEEP, US], [WISHED]), asked_for(), seen, NOW, 0.0)
    assert isinstance(plan, Plan)
    (only,) = plan.attempts
    assert (only.target, only.cause) == (US, Cause.SPILLOVER)
    assert only.reason == "asleep: no replica is ready of llama-eu"


def test_where_nothing_else_is_lawful_nobody_is_there() -> None:
    refusal = decide(snapshot([ASLEEP], [WISHED]), asked_for(), {EU.name: ()}, NOW, 0.0)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code, refusal.retryable) == (503, "no_target_available", True)
    assert "asleep no replica is ready" in refusal.message
    assert refusal.retry_after_s is not None
