"""The decision, case by case and over random policies, requests and readings."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.policy.model import Endpoint, Lane, Match, Prefer, Require, Route, Snapshot, Target, Tenant, Want
from proxy.routing.decide import Router, decide, spill_reason
from proxy.routing.facts import Facts
from proxy.routing.plan import Cause, Decision, Exclusion, Plan, Refusal
from proxy.routing.readings import Breaker, Reading, Readings
from tests.routing import policies
from tests.routing.policies import MODEL, NOW, dedicated, facts, price, reading, readings, shared, snapshot

EU = dedicated()
US = shared()
GDPR = Route(name="gdpr", match=Match(tags=frozenset({"gdpr"})), require=Require(regions=("eu-*",)))


def plan(decision: Decision) -> Plan:
    assert isinstance(decision, Plan), decision
    return decision


def refusal(decision: Decision) -> Refusal:
    assert isinstance(decision, Refusal), decision
    return decision


def order(decision: Decision) -> list[str]:
    return [f"{attempt.target.name}/{attempt.replica}" for attempt in plan(decision).attempts]


def choose(policy: Snapshot, *observed: Reading, draw: float = 0.0, **asked: object) -> Decision:
    return decide(policy, facts(**asked), readings(*observed), NOW, draw)


class TestOrder:
    def test_a_free_dedicated_slot_is_preferred_and_shared_falls_back(self) -> None:
        decision = plan(choose(snapshot([US, EU])))
        assert order(decision) == ["llama-eu/0", "together/0"]
        assert [attempt.cause for attempt in decision.attempts] == [Cause.PREFERRED, Cause.FALLBACK]
        assert [attempt.ordinal for attempt in decision.attempts] == [0, 1]
        assert decision.attempts[0].reason == "preferred: cost"
        assert decision.attempts[0].model == "llama-eu-model-upstream"
        assert decision.excluded == ()
        assert not decision.relaxed

    def test_cost_orders_shared_by_price_with_unknown_last_and_ties_as_listed(self) -> None:
        listed = [shared("unknown"), shared("dear", price=price(3)), shared("b", price=price(1)), EU]
        listed.append(shared("a", price=price(1)))
        assert order(choose(snapshot(listed))) == ["llama-eu/0", "b/0", "a/0", "dear/0", "unknown/0"]

    @pytest.mark.parametrize(("prefer", "first"), [(Prefer.DEDICATED, "llama-eu/0"), (Prefer.SHARED, "together/0")])
    def test_a_route_may_prefer_a_lane(self, prefer: Prefer, first: str) -> None:
        for listed in ([EU, US], [US, EU]):
            decision = plan(choose(snapshot(listed, [Route(name="r", prefer=prefer)])))
            assert order(decision)[0] == first
            assert decision.attempts[0].cause is Cause.PREFERRED

    def test_latency_orders_by_measured_ttft_with_unknown_after_known(self) -> None:
        policy = snapshot([shared("unknown"), shared("slow"), shared("fast")], [Route(name="r", prefer=Prefer.LATENCY)])
        decision = choose(policy, reading("slow", ttft_p99_s=0.9), reading("fast", ttft_p99_s=0.2))
        assert order(decision) == ["fast/0", "slow/0", "unknown/0"]

    def test_latency_puts_unknown_before_what_misses_the_want(self) -> None:
        route = Route(name="r", prefer=Prefer.LATENCY, want=Want(ttft_p99_s=0.5))
        policy = snapshot([shared("unknown"), shared("slow"), shared("fast")], [route])
        decision = choose(policy, reading("slow", ttft_p99_s=0.9), reading("fast", ttft_p99_s=0.2))
        assert order(decision) == ["fast/0", "unknown/0", "slow/0"]

    def test_the_least_loaded_replica_goes_first_and_the_next_best_comes_after_every_target(self) -> None:
        policy = snapshot([dedicated(replicas=3), US])
        observed = [reading("llama-eu", index, in_flight=load) for index, load in enumerate((5, 3, 4))]
        assert order(choose(policy, *observed)) == ["llama-eu/1", "together/0", "llama-eu/2"]

    def test_a_second_replica_that_is_not_able_is_no_later_attempt(self) -> None:
        policy = snapshot([dedicated(replicas=2)])
        observed = [reading("llama-eu", 0), reading("llama-eu", 1, breaker=Breaker.OPEN, open_until=NOW + 9)]
        assert order(choose(policy, *observed)) == ["llama-eu/0"]

    @pytest.mark.parametrize(("draw", "replica"), [(0.0, 0), (0.34, 1), (0.99, 2)])
    def test_the_draw_chooses_among_equally_loaded_replicas(self, draw: float, replica: int) -> None:
        policy = snapshot([dedicated(replicas=3)])
        observed = [reading("llama-eu", index) for index in range(3)]
        assert order(choose(policy, *observed, draw=draw))[0] == f"llama-eu/{replica}"

    def test_one_target_under_two_upstream_names_keeps_both(self) -> None:
        policy = snapshot([EU])
        both = (policy.models[MODEL][0], policy.models[MODEL][0].__class__(target=EU, model="lora"))
        twice = Snapshot(
            digest="", source="", targets=policy.targets, models={MODEL: both}, routes=(Route(name="default"),)
        )
        assert [attempt.model for attempt in plan(choose(twice)).attempts] == ["llama-eu-model-upstream", "lora"]


class TestSpillover:
    def test_at_the_threshold_the_request_spills_and_says_why(self) -> None:
        decision = plan(choose(snapshot([EU, US]), reading("llama-eu", in_flight=64)))
        assert order(decision) == ["together/0"]
        assert decision.attempts[0].cause is Cause.SPILLOVER
        assert decision.attempts[0].reason == "dedicated at capacity: 64 of 64 in flight on llama-eu"
        assert [(e.target, e.rule, e.hard) for e in decision.excluded] == [("llama-eu", "capacity", False)]

    def test_an_engine_that_said_full_is_left_alone_while_it_is_believed(self) -> None:
        said = reading("llama-eu", full_until=NOW + 0.05, full_at=NOW - 0.2)
        decision = plan(choose(snapshot([EU, US]), said))
        assert decision.attempts[0].reason == "engine full: llama-eu said so 0.2 s ago"
        later = decide(snapshot([EU, US]), facts(), readings(said), NOW + 0.05, 0.0)
        assert order(later)[0] == "llama-eu/0"

    def test_an_ejected_dedicated_target_spills(self) -> None:
        decision = plan(choose(snapshot([EU, US]), reading("llama-eu", breaker=Breaker.OPEN, open_until=NOW + 12)))
        assert decision.attempts[0].cause is Cause.SPILLOVER
        assert decision.attempts[0].reason == "out of rotation: llama-eu is open, next probe in 12.0 s"

    def test_a_dedicated_target_measured_to_miss_a_want_spills(self) -> None:
        policy = snapshot([EU, US], [Route(name="r", want=Want(ttft_p99_s=0.8))])
        decision = plan(choose(policy, reading("llama-eu", ttft_p99_s=2.3)))
        assert order(decision) == ["together/0", "llama-eu/0"]
        assert decision.attempts[0].cause is Cause.SPILLOVER
        assert decision.attempts[0].reason == "want.ttft_p99: 2.30 s on llama-eu against 800 ms"
        assert not decision.relaxed

    def test_a_second_dedicated_target_is_no_spillover(self) -> None:
        decision = plan(choose(snapshot([EU, dedicated("llama-2"), US]), reading("llama-eu", in_flight=64)))
        assert order(decision) == ["llama-2/0", "together/0"]
        assert decision.attempts[0].cause is Cause.PREFERRED

    def test_a_full_shared_target_is_passed_over_without_spilling(self) -> None:
        policy = snapshot([shared("first", max_in_flight=1), US])
        decision = plan(choose(policy, reading("first", in_flight=1)))
        assert order(decision) == ["together/0"]
        assert decision.attempts[0].cause is Cause.PREFERRED

    def test_preferring_shared_is_no_spillover_however_full_dedicated_is(self) -> None:
        policy = snapshot([EU, US], [Route(name="r", prefer=Prefer.SHARED)])
        assert plan(choose(policy, reading("llama-eu", in_flight=64))).attempts[0].cause is Cause.PREFERRED

    def test_a_half_open_replica_is_given_its_probe(self) -> None:
        assert order(choose(snapshot([EU, US]), reading("llama-eu", breaker=Breaker.HALF_OPEN)))[0] == "llama-eu/0"

    def test_reasons_of_rules_to_come_still_read_well(self) -> None:
        assert spill_reason(Exclusion("a", "slo", "2.3 s", "1.8 s", False)) == "slo: 2.3 s on a against 1.8 s"


class TestWants:
    def test_when_every_target_misses_the_least_bad_goes_first_and_is_marked(self) -> None:
        route = Route(name="r", want=Want(ttft_p99_s=0.5, uptime=0.999))
        policy = snapshot([shared("worse"), shared("bad")], [route])
        decision = plan(choose(policy, reading("worse", ttft_p99_s=1.0, uptime=0.9), reading("bad", ttft_p99_s=3.0)))
        assert order(decision) == ["bad/0", "worse/0"]
        assert decision.relaxed
        assert {(e.target, e.rule) for e in decision.excluded} == {
            ("worse", "want.ttft_p99"),
            ("worse", "want.uptime"),
            ("bad", "want.ttft_p99"),
        }
        assert not any(e.hard for e in decision.excluded)

    def test_wants_that_the_policy_settles_order_targets_too(self) -> None:
        route = Route(name="r", want=Want(regions=("us",)))
        decision = plan(choose(snapshot([EU, US], [route])))
        assert order(decision) == ["together/0", "llama-eu/0"]
        assert decision.attempts[0].cause is Cause.PREFERRED
        assert [str(e) for e in decision.excluded] == ["llama-eu: want.region eu-west-1 against us"]

    def test_a_lone_target_that_misses_a_static_want_is_relaxed(self) -> None:
        assert plan(choose(snapshot([US], [Route(name="r", want=Want(lane=Lane.DEDICATED))]))).relaxed


class TestRefusals:
    @pytest.mark.parametrize(
        "asked", [{"model": "gpt-9"}, {"tenant": Tenant(name="shop", models=frozenset({"other"}))}]
    )
    def test_unknown_and_forbidden_models_get_the_same_answer(self, asked: dict[str, object]) -> None:
        found = refusal(choose(snapshot([EU]), **asked))
        name = asked.get("model", MODEL)
        assert (found.status, found.code, found.param, found.type) == (
            404,
            "model_not_found",
            "model",
            "invalid_request_error",
        )
        assert found.message == f"the model `{name}` does not exist or you do not have access to it"
        assert found.retryable is False

    def test_a_request_outside_every_route_is_refused(self) -> None:
        found = refusal(choose(snapshot([EU], [GDPR])))
        assert (found.status, found.code, found.rule) == (403, "no_route", "match")

    def test_no_lawful_target_ever_names_the_gate_and_is_final(self) -> None:
        found = refusal(choose(snapshot([US], [GDPR]), tags=frozenset({"gdpr"})))
        assert (found.status, found.code, found.rule) == (403, "residency_unsatisfiable", "require.region")
        assert found.retryable is False
        assert "`gdpr`" in found.message
        assert "`together` require.region us (wanted eu-*)" in found.message

    def test_everything_lawful_down_is_a_503_with_the_gate_and_never_widens(self) -> None:
        down = reading("llama-eu", breaker=Breaker.OPEN, open_until=NOW + 12)
        found = refusal(choose(snapshot([EU, US], [GDPR]), down, tags=frozenset({"gdpr"})))
        assert (found.status, found.code, found.rule) == (503, "no_lawful_target_available", "require.region")
        assert found.retryable
        assert found.retry_after_s == pytest.approx(12)
        assert "require.region" in found.message
        assert "`gdpr`" in found.message

    def test_everything_down_without_a_gate_blames_the_breaker(self) -> None:
        down = [reading(name, breaker=Breaker.OPEN, open_until=NOW + 12) for name in ("llama-eu", "together")]
        found = refusal(choose(snapshot([EU, US]), *down))
        assert (found.status, found.code, found.rule) == (503, "no_target_available", "breaker")

    def test_a_caller_who_insists_on_full_dedicated_gets_429(self) -> None:
        full = reading("llama-eu", in_flight=64)
        found = refusal(choose(snapshot([EU, US]), full, lane_override=Lane.DEDICATED))
        assert (found.status, found.code, found.rule) == (429, "dedicated_at_capacity", "capacity")
        assert found.retry_after_s == 1.0
        assert found.retryable

    def test_everything_full_is_a_503_with_the_soonest_wait(self) -> None:
        said = [reading("llama-eu", full_until=NOW + 3), reading("together", full_until=NOW + 20)]
        found = refusal(choose(snapshot([EU, US]), *said))
        assert (found.status, found.code, found.rule) == (503, "at_capacity", "capacity")
        assert found.retry_after_s == pytest.approx(3)

    def test_a_lane_may_only_be_chosen_where_the_route_lets_callers(self) -> None:
        policy = snapshot([EU, US], [Route(name="strict", lane_override=False)])
        found = refusal(choose(policy, lane_override=Lane.DEDICATED))
        assert (found.status, found.code, found.rule) == (403, "lane_override_not_allowed", "lane_override")
        assert order(choose(policy)) == ["llama-eu/0", "together/0"]

    def test_a_lane_without_targets_is_refused_for_good(self) -> None:
        found = refusal(choose(snapshot([EU]), lane_override=Lane.SHARED))
        assert (found.status, found.code, found.rule) == (403, "policy_unsatisfiable", "lane_override")

    def test_an_endpoint_that_no_target_speaks_is_a_404(self) -> None:
        chat_only = dedicated(native=frozenset({Endpoint.CHAT}))
        found = refusal(choose(snapshot([chat_only]), endpoint=Endpoint.EMBEDDINGS))
        assert (found.status, found.code, found.rule) == (404, "endpoint_not_supported", "endpoint")
        assert found.message == f"the model `{MODEL}` does not serve the `embeddings` endpoint"


class Nightfall:
    """Room by the hour: none at all for offline requests."""

    def has_room(self, target: Target, reading: Reading, facts: Facts) -> bool:
        return facts.stream

    def shortage(self, target: Target, seen: object, facts: Facts) -> Exclusion:
        return Exclusion(target.name, "night", "dark", "light", False)


def test_another_judgement_of_room_takes_its_place_without_any_caller_noticing() -> None:
    router = Router(snapshot([EU]), Nightfall())
    assert order(router.decide(facts(stream=True), {}, NOW, 0.0)) == ["llama-eu/0"]
    assert refusal(router.decide(facts(), {}, NOW, 0.0)).code == "at_capacity"


# Properties. The gates are written out again here, naively, so that a mistake in them cannot agree with itself.


@st.composite
def decisions(draw: st.DrawFn) -> tuple[Snapshot, Facts, Readings, float]:
    policy = draw(policies.snapshots())
    return policy, draw(policies.requests), draw(policies.readings_of(policy)), draw(policies.draws)


def route_of(policy: Snapshot, asked: Facts) -> Route | None:
    for route in policy.routes:
        match = route.match
        if (
            (match.models is None or asked.model in match.models)
            and (match.endpoints is None or asked.endpoint in match.endpoints)
            and (match.tenants is None or asked.tenant.name in match.tenants)
            and match.tags <= (asked.tags | asked.tenant.tags)
            and match.traffic in (None, asked.traffic)
            and match.stream in (None, asked.stream)
        ):
            return route
    return None


def lawful(target: Target, route: Route, asked: Facts) -> bool:
    require = route.require
    in_region = any(fnmatchcase(target.region, glob) for glob in require.regions) and target.region != "unknown"
    kept = any(fnmatchcase(target.retention, glob) for glob in require.retention) and target.retention != "unknown"
    return (
        asked.endpoint in target.native | target.translated
        and (not require.regions or in_region)
        and (not require.retention or kept)
        and require.lane in (None, target.lane)
        and require.tags <= target.tags
        and asked.lane_override in (None, target.lane)
        and (asked.lane_override is None or route.lane_override)
        and (asked.tenant.models is None or asked.model in asked.tenant.models)
    )


@settings(max_examples=2000)
@given(decisions())
def test_no_attempt_ever_violates_a_gate(case: tuple[Snapshot, Facts, Readings, float]) -> None:
    policy, asked, observed, draw = case
    decision = decide(policy, asked, observed, NOW, draw)
    route = route_of(policy, asked)
    if isinstance(decision, Plan):
        assert route is not None
        assert decision.route == route.name
        assert decision.attempts
        assert all(lawful(attempt.target, route, asked) for attempt in decision.attempts)
        assert all(0 <= attempt.replica < attempt.target.replicas for attempt in decision.attempts)


@given(decisions())
def test_a_request_with_an_able_lawful_target_is_never_refused(case: tuple[Snapshot, Facts, Readings, float]) -> None:
    policy, asked, observed, draw = case
    route = route_of(policy, asked)
    assert route is not None
    healthy = [
        target for name, target in policy.targets.items() if name not in observed and lawful(target, route, asked)
    ]
    decision = decide(policy, asked, observed, NOW, draw)
    planned = {attempt.target.name for attempt in decision.attempts} if isinstance(decision, Plan) else set()
    assert {target.name for target in healthy} <= planned


@given(decisions())
def test_no_attempt_goes_to_a_replica_that_is_not_able(case: tuple[Snapshot, Facts, Readings, float]) -> None:
    policy, asked, observed, draw = case
    decision = decide(policy, asked, observed, NOW, draw)
    for attempt in decision.attempts if isinstance(decision, Plan) else ():
        if attempt.target.name in observed:
            seen = observed[attempt.target.name][attempt.replica]
            assert seen.breaker is not Breaker.OPEN
            assert seen.full_until <= NOW
            assert attempt.target.max_in_flight is None or seen.in_flight < attempt.target.max_in_flight


@given(decisions())
def test_every_target_of_the_model_is_attempted_or_excluded(case: tuple[Snapshot, Facts, Readings, float]) -> None:
    policy, asked, observed, draw = case
    decision = decide(policy, asked, observed, NOW, draw)
    if isinstance(decision, Refusal) and decision.rule in ("model", "lane_override") and not decision.excluded:
        return  # refused before any target was looked at
    attempted = {attempt.target.name for attempt in decision.attempts} if isinstance(decision, Plan) else set()
    left_out = {exclusion.target for exclusion in decision.excluded if not exclusion.rule.startswith("want.")}
    assert attempted | left_out == set(policy.targets)
    assert not attempted & left_out


@given(decisions())
def test_a_decision_is_a_function_of_its_arguments(case: tuple[Snapshot, Facts, Readings, float]) -> None:
    policy, asked, observed, draw = case
    router = Router(policy)
    first = router.decide(asked, observed, NOW, draw)
    router.decide(facts(stream=not asked.stream), {}, NOW, 0.5)
    assert router.decide(asked, observed, NOW, draw) == first == decide(policy, asked, observed, NOW, draw)


@given(decisions(), st.data())
def test_losing_readings_never_lets_an_unlawful_target_in(
    case: tuple[Snapshot, Facts, Readings, float], data: st.DataObject
) -> None:
    policy, asked, observed, draw = case
    kept = data.draw(st.sets(st.sampled_from(sorted(observed)))) if observed else set()
    route = route_of(policy, asked)
    decision = decide(policy, asked, {name: observed[name] for name in kept}, NOW, draw)
    assert route is not None
    for attempt in decision.attempts if isinstance(decision, Plan) else ():
        assert lawful(attempt.target, route, asked)


@given(decisions())
def test_wants_change_the_order_and_never_the_lawful_set(case: tuple[Snapshot, Facts, Readings, float]) -> None:
    policy, asked, observed, draw = case
    bare = tuple(Route(**{**_fields(route), "want": Want()}) for route in policy.routes)
    unwanted = Snapshot(digest="", source="", targets=policy.targets, models=policy.models, routes=bare)
    with_wants = decide(policy, asked, observed, NOW, draw)
    without = decide(unwanted, asked, observed, NOW, draw)
    assert type(with_wants) is type(without)
    assert {e for e in with_wants.excluded if e.hard} == {e for e in without.excluded if e.hard}
    if isinstance(with_wants, Plan) and isinstance(without, Plan):
        assert sorted(order(with_wants)) == sorted(order(without))


def _fields(route: Route) -> dict[str, object]:
    return {name: getattr(route, name) for name in Route.__slots__}


@given(decisions())
def test_refusals_tell_clients_whether_to_come_back(case: tuple[Snapshot, Facts, Readings, float]) -> None:
    policy, asked, observed, draw = case
    decision = decide(policy, asked, observed, NOW, draw)
    if isinstance(decision, Refusal):
        temporary = decision.status in (429, 503)
        assert decision.retryable is temporary
        assert (decision.retry_after_s is not None) is temporary
        assert decision.message == decision.message.rstrip(".")
