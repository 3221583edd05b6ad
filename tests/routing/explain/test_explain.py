"""An explanation says what the decision is, and leaves no target and no route out."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.policy.model import Gpus, Limits, Match, Mode, Route, Rules, Snapshot, Tenant, Traffic
from proxy.routing.decide import Router
from proxy.routing.explain.explain import explain
from proxy.routing.explain.explained import Explanation, Standing
from proxy.routing.plan import Plan, Refusal
from proxy.routing.readings import Breaker, Load, Outlook, Quota, Rate
from tests.routing.policies import (
    NOW,
    dedicated,
    draws,
    facts,
    price,
    rates,
    reading,
    readings,
    readings_of,
    requests,
    shared,
    snapshot,
    snapshots,
    ttft_p99,
)
from tests.thorough import examples


def explained(policy: Any, seen: Any = None, used: Any = None, **asked: object) -> Explanation:
    return explain(Router(policy), facts(**asked), seen or {}, NOW, 0.0, used or {})


def standing(found: Explanation, name: str) -> Standing:
    (one,) = [one for one in found.targets if one.target == name]
    return one


@settings(max_examples=examples(1000))
@given(st.data())
def test_it_says_what_is_decided_and_each_target_stands_in_it_once(data: st.DataObject) -> None:
    """Ten requests to each of many policies, each with rates and readings of its own."""
    policy = data.draw(snapshots())
    router = Router(policy)
    seen, used, draw = (
        data.draw(readings_of(policy, loaded=data.draw(st.booleans()))),
        data.draw(rates),
        data.draw(draws),
    )
    for asked in data.draw(st.lists(requests, min_size=10, max_size=10)):
        decision = router.decide(asked, seen, NOW, draw, used)
        assert_is(explain(router, asked, seen, NOW, draw, used), decision, policy)


def assert_is(found: Explanation, decision: Plan | Refusal, policy: Snapshot) -> None:
    planned = [(place.ordinal, one.target, place) for one in found.targets for place in one.places]
    attempts = decision.attempts if isinstance(decision, Plan) else ()
    assert [
        (name, place.replica, place.model, place.cause, place.reason) for _, name, place in sorted(planned, key=first)
    ] == [(one.target.name, one.replica, one.model, one.cause, one.reason) for one in attempts]
    assert (found.route.name if found.route else "") == decision.route
    assert found.shadow == decision.shadow
    assert_refusal_is(found, decision)
    if decision.route:
        assert sorted(one.target for one in found.targets) == sorted(policy.targets)
    for one in found.targets:
        excluded = [found for found in decision.excluded if found.target == one.target]
        assert [*one.wants] == [found for found in excluded if found.rule.startswith("want.")]
        bars = [found for found in excluded if not found.rule.startswith("want.")]
        assert ([one.out] if one.out else [*one.despite]) == bars
        assert not (one.places and (one.out or one.others))
        assert one.out not in one.others
    assert msgspec.json.decode(msgspec.json.encode(found), type=Explanation) == found


def first(item: tuple[int, Any, Any]) -> int:
    return item[0]


def assert_refusal_is(found: Explanation, decision: Plan | Refusal) -> None:
    if isinstance(decision, Plan):
        assert (found.refusal, found.relaxed) == (None, decision.relaxed)
        assert found.first is not None
        assert found.summary.startswith(f"Goes to `{decision.attempts[0].target.name}` (")
        return
    told = found.refusal
    assert told is not None
    assert (told.status, told.code, told.message) == (decision.status, decision.code, decision.message)
    assert (told.rule, told.type) == (decision.rule, decision.type)
    assert (told.retry_after_s, told.retryable) == (decision.retry_after_s, decision.retryable)
    assert found.summary.startswith(f"Refused with {decision.status} `{decision.code}`: ")


@settings(max_examples=examples(500))
@given(st.data())
def test_a_target_is_left_out_exactly_for_what_bars_it(data: st.DataObject) -> None:
    """What is listed beside the rule that is named is of the same kind: nothing that is in the plan has any of it."""
    policy = data.draw(snapshots())
    router, seen = Router(policy), data.draw(readings_of(policy))
    for asked in data.draw(st.lists(requests, min_size=5, max_size=5)):
        if isinstance(router.lawful_set(asked), Refusal):
            continue
        found = explain(router, asked, seen, NOW, 0.0)
        for one in found.targets:
            rules = [bar.rule for bar in (one.out, *one.others) if bar is not None]
            assert len(rules) == len(set(rules))
            assert bool(rules) is not one.planned
            assert all(bar.target == one.target for bar in one.others)


@given(st.data())
def test_every_route_before_the_one_that_applies_says_why_not(data: st.DataObject) -> None:
    policy, asked = data.draw(snapshots()), data.draw(requests)
    found = explain(Router(policy), asked, {}, NOW, 0.0)
    names = [route.name for route in policy.routes]
    if found.route is not None:
        assert [one.route for one in found.passed_over] == names[: names.index(found.route.name)]
    assert all(one.needs and one.has for one in found.passed_over)


def test_a_target_that_misses_several_rules_names_them_all() -> None:
    route = Route(name="gdpr", require=Rules(regions=("eu-*",), retention=("zero",), quantization=frozenset({"fp8"})))
    down = reading("together", breaker=Breaker.OPEN, open_until=NOW + 3)
    found = explained(snapshot([dedicated(quantization="fp8"), shared()], [route]), readings(down))
    one = standing(found, "together")
    assert one.out is not None
    assert (one.out.rule, one.out.observed, one.out.limit) == ("require.region", "us", "eu-*")
    assert [bar.rule for bar in one.others] == ["require.retention", "require.quantization", "breaker"]


def test_a_request_that_fits_in_no_way_says_each() -> None:
    small = shared(supports=frozenset(), context_window=100, price=price(3.0))
    route = Route(name="all", require=Rules(max_nano_usd_per_request=1))
    found = explained(snapshot([small], [route]), tools=True, input_tokens=500)
    one = standing(found, "together")
    assert one.out is not None
    assert [one.out.rule, *(bar.rule for bar in one.others)] == [
        "supports",
        "context_window",
        "require.max_usd_per_request",
    ]


def test_a_measured_requirement_names_every_objective_that_is_missed() -> None:
    route = Route(name="quick", require=Rules(objectives=ttft_p99(0.5), uptime=0.99))
    slow = reading("llama-eu", ttft_p99_s=0.9, uptime=0.5)
    one = standing(explained(snapshot([dedicated(), shared()], [route]), readings(slow)), "llama-eu")
    assert one.out is not None
    assert [one.out.rule, *(bar.rule for bar in one.others)] == ["require.ttft_p99", "require.uptime"]


def test_routes_are_passed_over_for_their_first_condition_that_does_not_hold() -> None:
    routes = [
        Route(name="other", match=Match(models=frozenset({"other"}))),
        Route(name="gdpr", match=Match(tags=frozenset({"gdpr"}), traffic=Traffic.OFFLINE)),
        Route(name="rest"),
    ]
    found = explained(snapshot([dedicated()], routes))
    assert [(one.route, one.needs, one.has) for one in found.passed_over] == [
        ("other", "model `other`", "the request is for `llama-70b`"),
        ("gdpr", "tag `gdpr`", "the request has none"),
    ]
    assert found.route is not None
    assert (found.route.name, found.route.match) == ("rest", ())


def test_a_request_that_no_route_matches_has_a_reason_for_each() -> None:
    routes = [Route(name="night", match=Match(traffic=Traffic.OFFLINE))]
    found = explained(snapshot([dedicated()], routes))
    assert found.refusal is not None
    assert (found.refusal.code, found.route, found.targets) == ("no_route", None, ())
    assert [one.route for one in found.passed_over] == ["night"]


def test_a_model_that_is_not_there_considers_no_route() -> None:
    found = explained(snapshot([dedicated()]), model="nope")
    assert found.refusal is not None
    assert (found.refusal.status, found.passed_over, found.targets) == (404, (), ())


def test_a_request_over_its_rate_has_no_target_in_and_none_out() -> None:
    tenant = Tenant(name="acme", limits=Limits(rpm=10, tpm=1_000_000))
    used = {"tenant:acme": Rate(requests=10, tokens=5, frees_in_s=2.5)}
    found = explained(snapshot([dedicated()]), used=used, tenant=tenant)
    assert found.refusal is not None
    assert (found.refusal.status, found.refusal.rule) == (429, "tenant.rpm")
    assert [(one.places, one.out) for one in found.targets] == [((), None)]
    assert [(one.rule, one.used, one.allowed, one.mode, one.over) for one in found.rates] == [
        ("tenant.rpm", 10, 10, "require", True),
        ("tenant.tpm", 5, 1_000_000, "require", False),
    ]


def test_a_rate_in_shadow_is_shown_as_such() -> None:
    tenant = Tenant(name="acme", limits=Limits(concurrency=1, mode=Mode.SHADOW))
    found = explained(snapshot([dedicated()]), used={"tenant:acme": Rate(in_flight=1)}, tenant=tenant)
    assert found.refusal is None
    assert [(one.mode, one.over) for one in found.rates] == [("shadow", True)]
    assert [one.rule for one in found.shadow] == ["tenant.concurrency"]


def test_gpus_cost_nothing_at_the_margin_and_their_hours_are_beside_it() -> None:
    gpus = Gpus(type="H100", count=4, nano_usd_per_hour=2_990_000_000)
    found = explained(
        snapshot([dedicated(gpus=gpus, replicas=2), shared(price=price(2.0)), shared("unpriced")]), input_tokens=1000
    )
    own, paid, unknown = (standing(found, name).cost for name in ("llama-eu", "together", "unpriced"))
    assert (own.nano_usd, own.gpus, own.gpu_nano_usd_per_hour) == (0, "8 H100", 23_920_000_000)
    assert (paid.nano_usd, paid.price_source) == (4_048_000, "policy")
    assert (unknown.nano_usd, unknown.price_source) == (None, "unknown")
    assert (found.output_tokens, found.output_assumed) == (1024, True)


def test_readings_count_from_the_decision() -> None:
    quota = Quota(unit="requests", limit=60, remaining=2, reset_at=NOW + 30)
    seen = readings(
        reading("llama-eu", breaker=Breaker.OPEN, open_until=NOW + 3, full_until=NOW - 5),
        reading("together", paced_until=NOW + 1, full_until=NOW + 2, quota=quota, uptime=0.98, ttft_p99_s=0.4),
    )
    found = explained(snapshot([dedicated(), shared(), shared("new")]), seen)
    (own,), (other,), (new,) = (standing(found, name).observed for name in ("llama-eu", "together", "new"))
    assert (own.probe_in_s, own.full_for_s, own.max_in_flight) == (3.0, None, 64)
    assert (other.probe_in_s, other.full_for_s, other.paced_for_s, other.max_in_flight) == (None, 2.0, 1.0, None)
    assert other.quota is not None
    assert (other.quota.remaining, other.quota.resets_in_s) == (2, 30.0)
    assert (other.uptime, other.latency.ttft_p99_s, other.seen) == (0.98, 0.4, True)
    assert (new.seen, new.in_flight) == (False, 0)


def test_uptime_is_that_of_the_lawful_targets() -> None:
    route = Route(name="eu", require=Rules(regions=("eu-*", "us")))
    seen = readings(reading("llama-eu", uptime=0.9), reading("together", uptime=0.9), reading("far", uptime=0.999))
    found = explained(snapshot([dedicated(), shared(), shared("far", region="ap-1")], [route]), seen)
    assert found.uptime is not None
    assert (round(found.uptime.share, 9), found.uptime.known, found.uptime.targets) == (0.99, 2, 2)


CHAT = Route(name="chat", want=Rules(objectives=ttft_p99(2.0)))
LATE = Load(waiting=9, queued_tokens=22_000, decoding=38, context_tokens=60_000, ttft_factor=1.1, begun_at=NOW)


def test_a_spilled_request_is_told_with_the_work_of_each_replica_and_what_was_predicted_there() -> None:
    policy = snapshot([shared(), dedicated(replicas=2, max_in_flight=None)], [CHAT])
    seen = readings(*[reading("llama-eu", replica, load=LATE) for replica in range(2)])
    found = explained(policy, seen, input_tokens=1000)
    assert found.summary == (
        "Goes to `together` (shared): `llama-eu` (dedicated) would come first, but the request's ttft would be too "
        "long there: predicted 2.06 s (queue 22k tokens, 38 streams), to stay below 1.8 s."
    )
    works = [work for one in standing(found, "llama-eu").observed if (work := one.work)]
    assert [(work.waiting, work.queued_tokens, work.decoding) for work in works] == [(9, 22_000, 38)] * 2
    assert [(work.ttft_factor, work.itl_factor, f"{work.ttft_s:.2f}") for work in works] == [(1.1, 1.0, "2.06")] * 2
    assert standing(found, "together").observed[0].work is None


def test_a_replica_that_is_late_but_still_in_time_has_a_place_and_what_speaks_against_it() -> None:
    policy = snapshot([shared(), dedicated(max_in_flight=None)], [CHAT])
    late = msgspec.structs.replace(LATE, ttft_factor=1.0)
    found = explained(policy, readings(reading("llama-eu", load=late)), input_tokens=1000)
    one = standing(found, "llama-eu")
    assert [place.ordinal for place in one.places] == [1]
    assert [bar.rule for bar in one.despite] == ["ttft"]
    assert one.out is None
    assert "but the request's ttft would be too long there: predicted 1.87 s" in found.summary


def test_what_is_expected_of_the_request_is_what_the_decision_expected() -> None:
    """Its prompt is in the cache of the second replica, and its answers are long."""
    policy = snapshot([shared(price=price(1.0)), dedicated(replicas=2, max_in_flight=None)], [CHAT])
    outlook = Outlook(output_tokens=900.0, hits={"llama-eu": (0, 7900)}, bid_nano_usd_per_s=1e12)
    seen = readings(*[reading("llama-eu", replica, load=Load(begun_at=NOW)) for replica in range(2)])
    found = explain(Router(policy), facts(input_tokens=8000), seen, NOW, 0.0, outlook=outlook)
    one = standing(found, "llama-eu")
    assert [work.hit_tokens for each in one.observed if (work := each.work)] == [0, 7900]
    assert [bar.rule for bar in one.despite] == ["bid"]
    assert found.first is not None
    assert found.first.places[0].reason.startswith("bid: worth $")
    assert "others pay more for its time" in found.summary
