"""The decision, case by case and over random policies, requests and readings."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.policy.model import (
    Endpoint,
    Key,
    Lane,
    Limits,
    Match,
    Modality,
    Mode,
    Objective,
    Prefer,
    Route,
    Rules,
    Snapshot,
    Target,
    Tenant,
)
from proxy.routing.choose import spill_reason
from proxy.routing.decide import Router, decide
from proxy.routing.facts import Facts
from proxy.routing.plan import Cause, Decision, Exclusion, Plan, Refusal
from proxy.routing.readings import Breaker, Quota, Rate, Rates, Reading, Readings
from tests.routing import policies
from tests.routing.oracle import lawful, measured_within, route_of
from tests.routing.policies import (
    MODEL,
    NOW,
    TENANT,
    dedicated,
    facts,
    itl_p99,
    price,
    reading,
    readings,
    shared,
    snapshot,
    ttft_p99,
)
from tests.thorough import examples

EU = dedicated()
US = shared()
GDPR = Route(name="gdpr", match=Match(tags=frozenset({"gdpr"})), require=Rules(regions=("eu-*",)))


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
        route = Route(name="r", prefer=Prefer.LATENCY, want=Rules(objectives=ttft_p99(0.5)))
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
        policy = snapshot([EU, US], [Route(name="r", want=Rules(objectives=ttft_p99(0.8)))])
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
        route = Route(name="r", want=Rules(objectives=ttft_p99(0.5), uptime=0.999))
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
        route = Route(name="r", want=Rules(regions=("us",)))
        decision = plan(choose(snapshot([EU, US], [route])))
        assert order(decision) == ["together/0", "llama-eu/0"]
        assert decision.attempts[0].cause is Cause.PREFERRED
        assert [str(e) for e in decision.excluded] == ["llama-eu: want.region eu-west-1 against us"]

    def test_a_lone_target_that_misses_a_static_want_is_relaxed(self) -> None:
        assert plan(choose(snapshot([US], [Route(name="r", want=Rules(lane=Lane.DEDICATED))]))).relaxed


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


class TestRules:
    """Every rule that needs a request, a reading or a rate, under `require`, under `want` and in shadow."""

    def test_a_target_measured_to_break_a_required_objective_is_left_out(self) -> None:
        policy = snapshot([EU, US], [Route(name="r", require=Rules(objectives=ttft_p99(0.8)))])
        decision = plan(choose(policy, reading("llama-eu", ttft_p99_s=2.3)))
        assert order(decision) == ["together/0"]
        assert decision.attempts[0].cause is Cause.SPILLOVER
        assert decision.attempts[0].reason == "require.ttft_p99: 2.30 s on llama-eu against 800 ms"
        assert [str(one) for one in decision.excluded] == ["llama-eu: require.ttft_p99 2.30 s against 800 ms"]

    def test_when_all_are_measured_to_break_it_the_gate_is_named(self) -> None:
        policy = snapshot([EU, US], [Route(name="r", require=Rules(uptime=0.999))])
        down = [reading(name, uptime=0.9) for name in ("llama-eu", "together")]
        found = refusal(choose(policy, *down))
        assert (found.status, found.code, found.rule) == (503, "no_lawful_target_available", "require.uptime")

    def test_one_failure_alone_never_condemns(self) -> None:
        policy = snapshot([EU], [Route(name="r", require=Rules(uptime=0.999))])
        assert plan(choose(policy, reading("llama-eu", uptime=0.95, failures=1)))

    def test_a_healthy_replica_stands_in_for_one_that_breaks_the_rule(self) -> None:
        policy = snapshot([dedicated(replicas=2)], [Route(name="r", require=Rules(objectives=itl_p99(0.05)))])
        seen = [reading("llama-eu", 0, itl_p99_s=0.2), reading("llama-eu", 1, in_flight=9)]
        assert order(choose(policy, *seen)) == ["llama-eu/1"]

    def test_perceived_speed_is_told_in_tokens_a_second(self) -> None:
        speed = Objective(rule="perceived_tps", field="itl_p99_s", limit_s=1 / 30)
        policy = snapshot([EU, US], [Route(name="r", want=Rules(objectives=(speed,)))])
        decision = plan(choose(policy, reading("llama-eu", itl_p99_s=0.1)))
        assert [str(one) for one in decision.excluded] == [
            "llama-eu: want.perceived_tps 10.0 tokens/s against 30.0 tokens/s"
        ]

    def test_a_request_that_costs_too_much_is_kept_from_the_dear_and_the_unpriced(self) -> None:
        dear, unpriced = shared("dear", price=price(100)), shared("unpriced")
        policy = snapshot([dear, unpriced, EU], [Route(name="r", require=Rules(max_nano_usd_per_request=10_000_000))])
        decision = plan(choose(policy, input_tokens=1000, max_output_tokens=100))
        assert order(decision) == ["llama-eu/0"]
        assert {one.target: one.observed for one in decision.excluded} == {"dear": "about $0.11", "unpriced": "unknown"}
        assert plan(choose(policy, input_tokens=10, max_output_tokens=1)).attempts[1].target is dear

    def test_a_request_too_dear_for_every_target_is_told_so(self) -> None:
        policy = snapshot([shared(price=price(100))], [Route(name="r", require=Rules(max_nano_usd_per_request=1))])
        found = refusal(choose(policy))
        assert (found.status, found.code, found.rule) == (403, "policy_unsatisfiable", "require.max_usd_per_request")
        assert found.retryable is False

    def test_as_a_wish_the_price_of_a_request_only_orders(self) -> None:
        wish = Route(name="r", prefer=Prefer.LATENCY, want=Rules(max_nano_usd_per_request=10_000_000))
        policy = snapshot([shared("dear", price=price(100)), shared("cheap", price=price(1))], [wish])
        assert order(choose(policy)) == ["cheap/0", "dear/0"]

    def test_a_request_goes_only_where_its_tools_and_images_are_understood(self) -> None:
        plain = dedicated(supports=frozenset())
        policy = snapshot([plain, US])
        assert order(choose(policy)) == ["llama-eu/0", "together/0"]
        decision = plan(choose(policy, tools=True, modalities=frozenset({Modality.IMAGE})))
        assert order(decision) == ["together/0"]
        assert [str(one) for one in decision.excluded] == ["llama-eu: supports tools, vision against text"]
        found = refusal(choose(snapshot([plain]), tools=True))
        assert (found.status, found.code, found.retryable) == (400, "unsupported_by_model", False)

    def test_a_request_that_no_window_holds_is_told_so(self) -> None:
        policy = snapshot([dedicated(context_window=4000)])
        assert plan(choose(policy, input_tokens=3000, max_output_tokens=1000))
        found = refusal(choose(policy, input_tokens=3001, max_output_tokens=1000))
        assert (found.status, found.code) == (400, "context_length_exceeded")

    def test_a_pinned_target_is_the_only_one_in_the_plan(self) -> None:
        policy = snapshot([EU, US], [Route(name="r", target_override=True)])
        decision = plan(choose(policy, target_override="together"))
        assert order(decision) == ["together/0"]
        assert [str(one) for one in decision.excluded] == ["llama-eu: target_override llama-eu against together"]

    def test_a_pin_does_not_open_a_gate(self) -> None:
        policy = snapshot([EU, US], [Route(name="r", target_override=True, require=Rules(regions=("eu-*",)))])
        found = refusal(choose(policy, target_override="together"))
        assert (found.status, found.code, found.rule) == (403, "residency_unsatisfiable", "require.region")

    @pytest.mark.parametrize("name", ["together", "nobody"])
    def test_a_pin_has_to_be_allowed(self, name: str) -> None:
        found = refusal(choose(snapshot([EU, US]), target_override=name))
        assert (found.status, found.code) == (403, "target_override_not_allowed")

    def test_a_pin_to_nothing_is_not_found(self) -> None:
        policy = snapshot([EU], [Route(name="r", target_override=True)])
        found = refusal(choose(policy, target_override="nobody"))
        assert (found.status, found.code) == (404, "target_not_found")

    def test_a_target_whose_quota_runs_out_is_left_alone_for_a_moment(self) -> None:
        quota = Quota(unit="requests", limit=1000, remaining=12, reset_at=NOW + 31)
        decision = choose(snapshot([US]), reading("together", paced_until=NOW + 0.5, quota=quota))
        found = refusal(decision)
        assert (found.code, found.retry_after_s) == ("at_capacity", 0.5)
        assert [str(one) for one in found.excluded] == [
            "together: quota 12 of 1000 requests left for 31 s against room for a request at an even pace"
        ]

    @pytest.mark.parametrize(
        ("limits", "used", "words"),
        [
            (Limits(rpm=10), Rate(requests=10, frees_in_s=7.0), "used 10 of its 10 requests a minute"),
            (Limits(tpm=5000), Rate(tokens=4500, frees_in_s=7.0), "used 4500 of its 5000 tokens a minute"),
            (Limits(concurrency=2), Rate(in_flight=2), "2 of its 2 requests in flight"),
        ],
    )
    def test_a_tenant_a_key_or_a_route_that_has_used_up_its_rate_is_refused(
        self, limits: Limits, used: Rate, words: str
    ) -> None:
        tenant = Tenant(name="bank", limits=limits)
        key = Key(tenant=TENANT, name="acme/ci", limits=limits)
        route = Route(name="r", require=Rules(limits=limits))
        for policy, asked, scope in (
            (snapshot([EU]), facts(tenant=tenant), "tenant:bank"),
            (snapshot([EU]), facts(key=key), "key:acme/ci"),
            (snapshot([EU], [route]), facts(), "route:r"),
        ):
            admitted = plan(decide(policy, asked, {}, NOW, 0.0))
            assert admitted.scopes == (scope,)
            found = refusal(decide(policy, asked, {}, NOW, 0.0, {scope: used}))
            kind, _, name = scope.partition(":")
            assert (found.status, found.code) == (429, "rate_limit_exceeded")
            assert found.message == f"{kind} `{name}` has {words}"
            assert found.retry_after_s == (used.frees_in_s or 1.0)

    def test_a_single_request_larger_than_the_minute_may_pass_an_idle_scope(self) -> None:
        asked = facts(tenant=Tenant(name="bank", limits=Limits(tpm=100)), input_tokens=5000)
        assert plan(decide(snapshot([EU]), asked, {}, NOW, 0.0))

    def test_a_wanted_rate_is_recorded_and_a_shadow_one_only_noted(self) -> None:
        wished = Route(name="r", want=Rules(limits=Limits(rpm=1)), shadow_require=Rules(limits=Limits(rpm=1)))
        tenant = Tenant(name="bank", limits=Limits(rpm=1, mode=Mode.SHADOW))
        rates = {scope: Rate(requests=5) for scope in ("route:r", "tenant:bank")}
        decision = plan(decide(snapshot([EU], [wished]), facts(tenant=tenant), {}, NOW, 0.0, rates))
        assert decision.relaxed
        assert [str(one) for one in decision.excluded] == [": want.rpm 5 used by route:r against 1"]
        assert [one.rule for one in decision.shadow] == ["require.rpm", "tenant.rpm"]
        assert decision.scopes == ("want.route:r", "shadow.require.route:r", "shadow.tenant.tenant:bank")

    def test_shadow_rules_of_every_kind_are_noted(self) -> None:
        shadow = Rules(regions=("eu-*",), objectives=ttft_p99(0.5), max_nano_usd_per_request=1)
        target = shared(price=price(1))
        policy = snapshot([target], [Route(name="r", shadow_require=shadow, shadow_want=Rules(lane=Lane.DEDICATED))])
        decision = plan(choose(policy, reading("together", ttft_p99_s=0.9)))
        assert order(decision) == ["together/0"]
        assert decision.excluded == ()
        assert {one.rule for one in decision.shadow} == {
            "require.region",
            "want.lane",
            "require.ttft_p99",
            "require.max_usd_per_request",
        }


# Properties. The gates are written out again here, naively, so that a mistake in them cannot agree with itself.


@st.composite
def decisions(draw: st.DrawFn, loaded: bool = False) -> tuple[Snapshot, Facts, Readings, float]:
    policy = draw(policies.snapshots())
    return policy, draw(policies.requests), draw(policies.readings_of(policy, loaded=loaded)), draw(policies.draws)


def counted_or_predicted() -> st.SearchStrategy[tuple[Snapshot, Facts, Readings, float]]:
    """Decisions by the number of requests in flight, and by the work that replicas have before them."""
    return st.booleans().flatmap(lambda loaded: decisions(loaded=loaded))


@settings(max_examples=examples(2000))
@given(counted_or_predicted())
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
        for attempt in decision.attempts:
            seen = observed.get(attempt.target.name)
            assert seen is None or measured_within(route.require, seen[attempt.replica])


@given(counted_or_predicted())
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


@given(counted_or_predicted())
def test_no_attempt_goes_to_a_replica_that_is_not_able(case: tuple[Snapshot, Facts, Readings, float]) -> None:
    policy, asked, observed, draw = case
    decision = decide(policy, asked, observed, NOW, draw)
    for attempt in decision.attempts if isinstance(decision, Plan) else ():
        if attempt.target.name in observed:
            seen = observed[attempt.target.name][attempt.replica]
            assert seen.breaker is not Breaker.OPEN
            assert seen.full_until <= NOW
            assert seen.paced_until <= NOW
            assert attempt.target.max_in_flight is None or seen.in_flight < attempt.target.max_in_flight


@given(counted_or_predicted())
def test_every_target_of_the_model_is_attempted_or_excluded(case: tuple[Snapshot, Facts, Readings, float]) -> None:
    policy, asked, observed, draw = case
    decision = decide(policy, asked, observed, NOW, draw)
    early = ("model", "lane_override", "target_override")
    if isinstance(decision, Refusal) and decision.rule in early and not decision.excluded:
        return  # refused before any target was looked at
    attempted = {attempt.target.name for attempt in decision.attempts} if isinstance(decision, Plan) else set()
    excluded = [exclusion for exclusion in decision.excluded if not exclusion.rule.startswith("want.")]
    assert attempted | {exclusion.target for exclusion in excluded} == set(policy.targets)
    # Of a target that is late it is said that it is, though it serves when nobody else can.
    assert not attempted & {exclusion.target for exclusion in excluded if exclusion.rule not in {"ttft", "itl", "kv"}}


@given(counted_or_predicted())
def test_a_decision_is_a_function_of_its_arguments(case: tuple[Snapshot, Facts, Readings, float]) -> None:
    policy, asked, observed, draw = case
    router = Router(policy)
    first = router.decide(asked, observed, NOW, draw)
    router.decide(facts(stream=not asked.stream), {}, NOW, 0.5)
    assert router.decide(asked, observed, NOW, draw) == first == decide(policy, asked, observed, NOW, draw)


@given(counted_or_predicted(), st.data())
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
    bare = tuple(Route(**{**_fields(route), "want": Rules()}) for route in policy.routes)
    unwanted = Snapshot(digest="", source="", targets=policy.targets, models=policy.models, routes=bare)
    with_wants = decide(policy, asked, observed, NOW, draw)
    without = decide(unwanted, asked, observed, NOW, draw)
    assert type(with_wants) is type(without)
    assert {e for e in with_wants.excluded if e.hard} == {e for e in without.excluded if e.hard}
    if isinstance(with_wants, Plan) and isinstance(without, Plan):
        assert sorted(order(with_wants)) == sorted(order(without))


@settings(max_examples=examples(1000))
@given(decisions(), st.data())
def test_adding_a_gate_never_adds_a_target(case: tuple[Snapshot, Facts, Readings, float], data: st.DataObject) -> None:
    policy, asked, observed, draw = case
    name = data.draw(st.sampled_from([route.name for route in policy.routes]))
    gate = data.draw(policies.single_rules)
    stricter = tuple(_gated(route, gate) if route.name == name else route for route in policy.routes)
    before = decide(policy, asked, observed, NOW, draw)
    after = decide(replace(policy, routes=stricter), asked, observed, NOW, draw)
    assert set(order(after) if isinstance(after, Plan) else ()) <= set(
        order(before) if isinstance(before, Plan) else ()
    )


def _gated(route: Route, gate: tuple[str, object]) -> Route:
    """The route with one more gate: where it has that one already, with both."""
    name, value = gate
    present = getattr(route.require, name)
    return route if present else replace(route, require=replace(route.require, **{name: value}))


@given(counted_or_predicted())
def test_shadow_rules_change_nothing_but_the_record(case: tuple[Snapshot, Facts, Readings, float]) -> None:
    policy, asked, observed, draw = case
    bare = tuple(replace(route, shadow_require=Rules(), shadow_want=Rules()) for route in policy.routes)
    decision = decide(policy, asked, observed, NOW, draw)
    without = decide(replace(policy, routes=bare), asked, observed, NOW, draw)
    assert without.shadow == ()
    changed = {"shadow": ()} | ({"scopes": without.scopes} if isinstance(without, Plan) else {})
    assert msgspec.structs.replace(decision, **changed) == without


@given(decisions(), policies.rates)
def test_rates_refuse_or_are_recorded_and_never_change_where_a_request_goes(
    case: tuple[Snapshot, Facts, Readings, float], rates: Rates
) -> None:
    policy, asked, observed, draw = case
    free = decide(policy, asked, observed, NOW, draw)
    held = decide(policy, asked, observed, NOW, draw, rates)
    if isinstance(held, Plan):
        assert isinstance(free, Plan)
        assert order(held) == order(free)
    elif held.code == "rate_limit_exceeded":
        assert held.status == 429
        assert held.retry_after_s is not None
    else:
        assert held == free


def _fields(route: Route) -> dict[str, object]:
    return {name: getattr(route, name) for name in Route.__slots__}


@given(counted_or_predicted())
def test_refusals_tell_clients_whether_to_come_back(case: tuple[Snapshot, Facts, Readings, float]) -> None:
    policy, asked, observed, draw = case
    decision = decide(policy, asked, observed, NOW, draw)
    if isinstance(decision, Refusal):
        temporary = decision.status in (429, 503)
        assert decision.retryable is temporary
        assert (decision.retry_after_s is not None) is temporary
        assert decision.message == decision.message.rstrip(".")
