"""Which budgets a request falls under, what becomes of it when they are used up, and that they only ever take away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.policy.model import (
    Budget,
    Candidate,
    Cap,
    Enforce,
    Exhausted,
    Gpus,
    Key,
    Lane,
    Modality,
    Per,
    Price,
    Route,
    Rules,
    Snapshot,
    Target,
    Tenant,
)
from proxy.routing import budgets
from proxy.routing.budgets import STEP_TOKENS, BudgetIndex
from proxy.routing.decide import Router
from proxy.routing.facts import Facts
from proxy.routing.outcome import Usage
from proxy.routing.plan import Decision, Exclusion, Plan, Refusal
from proxy.routing.readings import Fund, Funds, Reading, Readings
from proxy.routing.refusals import STORE_RETRY_AFTER_S
from tests.routing import policies
from tests.routing.oracle import lawful, measured_within, route_of
from tests.routing.policies import MODEL, NOW, dedicated, facts, price, reading, readings, shared, snapshot, ttft_p99

USD = 10**9
BANK = Tenant(name="bank", tags=frozenset({"gdpr"}))
CI = Key(tenant=BANK, name="bank/ci")
GPU = dedicated("gpu", gpus=Gpus(type="H100", count=1, nano_usd_per_hour=3 * USD))
API = shared("api", price=price(1.0))
MINI = shared("mini", price=price(0.1), region="eu-1")
SPENT = Fund(free_nano_usd=0, spent_nano_usd=5 * USD, limit_nano_usd=5 * USD, per=Per.DAY, resets_in_s=600.0)
UNKNOWN = msgspec.structs.replace(SPENT, spent_nano_usd=USD, known=False)
FULL = readings(reading("gpu", in_flight=64))
DOWN = {"exhausted": Exhausted.DOWNGRADE, "downgrade": "small"}


def budget(name: str = "cap", **given: object) -> Budget:
    return Budget(**({"name": name, "caps": (Cap(5 * USD, Per.DAY),)} | given))  # type: ignore[arg-type]


def policy(
    *budgets: Budget, targets: tuple[Target, ...] = (GPU, API), routes: tuple[Route, ...] = (Route(name="default"),)
) -> Snapshot:
    """The targets under one model, and a small model on a target of its own."""
    plain = snapshot(targets, routes)
    return replace(
        plain,
        targets={**plain.targets, "mini": MINI},
        models={**plain.models, "small": (Candidate(target=MINI, model="mini-1"),)},
        budgets=budgets,
    )


def decide(policy: Snapshot, funds: Funds, seen: Readings | None = None, **asked: object) -> Decision:
    return Router(policy).decide(facts(**asked), seen or {}, NOW, 0.0, {}, funds)


def planned(decision: Decision) -> list[str]:
    assert isinstance(decision, Plan)
    return [attempt.target.name for attempt in decision.attempts]


def refused(decision: Decision) -> Refusal:
    assert isinstance(decision, Refusal)
    return decision


# which budgets a request falls under


@pytest.mark.parametrize(
    ("match", "covered"),
    [
        ({}, True),
        ({"tenants": frozenset({"bank"})}, True),
        ({"tenants": frozenset({"shop"})}, False),
        ({"keys": frozenset({"bank/ci"})}, True),
        ({"keys": frozenset({"bank/other"})}, False),
        ({"tenants": frozenset({"bank"}), "keys": frozenset({"bank/other"})}, False),
        ({"tags": frozenset({"gdpr"})}, True),
        ({"tags": frozenset({"eval"})}, True),
        ({"tags": frozenset({"gdpr", "eval"})}, True),
        ({"tags": frozenset({"gdpr", "gold"})}, False),
        ({"routes": frozenset({"default"})}, True),
        ({"routes": frozenset({"other"})}, False),
        ({"models": frozenset({MODEL, "x"})}, True),
        ({"models": frozenset({"x"})}, False),
    ],
)
def test_a_request_falls_under_a_budget_by_all_that_it_matches(match: Mapping[str, object], covered: bool) -> None:
    one = budget(**match)
    asked = facts(tenant=BANK, key=CI, tags=frozenset({"eval"}))
    assert BudgetIndex([one]).covering(asked, "default") == ((one,) if covered else ())


def test_among_the_budgets_of_many_tenants_a_request_finds_its_own() -> None:
    each = [budget(f"t{n}", tenants=frozenset({f"t{n}"})) for n in range(100)]
    general = budget("all")
    index = BudgetIndex([*each, general])
    found = index.covering(facts(tenant=Tenant(name="t42")), "default")
    assert {one.name for one in found} == {"all", "t42"}
    assert bool(index)
    assert not BudgetIndex([])


@pytest.mark.parametrize(
    ("given", "pays"),
    [
        ({}, {"api"}),
        ({"lane": Lane.DEDICATED}, {"gpu"}),
        ({"targets": frozenset({"api", "gpu"})}, {"api"}),
        ({"targets": frozenset({"mini"})}, set()),
    ],
)
def test_a_budget_pays_for_the_targets_of_its_lane_that_it_names(given: Mapping[str, object], pays: set[str]) -> None:
    one = budget(**given)
    assert {target.name for target in (GPU, API) if one.pays_for(target)} == pays


# what they say of it


def judged(one: Budget, fund: Fund | None, target: Target = API, **asked: object) -> budgets.Standing:
    funds = {} if fund is None else {one.name: fund}
    return budgets.judge((one,), (target,), facts(**asked), funds)


def test_a_budget_that_nobody_knows_of_has_all_its_money() -> None:
    assert judged(budget(), None) == budgets.NOTHING_SPENT


def test_a_request_needs_what_its_input_and_a_first_step_cost() -> None:
    need = (1000 + STEP_TOKENS) * 1000
    asked = {"input_tokens": 1000}
    assert not judged(budget(), Fund(free_nano_usd=need), **asked).left_out
    assert judged(budget(), Fund(free_nano_usd=need - 1), **asked).left_out
    assert not judged(budget(), Fund(free_nano_usd=need - 1), **asked, max_output_tokens=10).left_out
    assert judged(budget(), Fund(free_nano_usd=need), **asked, choices=2).left_out


def test_money_that_is_owed_lets_nothing_begin_however_cheap() -> None:
    free = shared("free", price=Price(input_nano_usd_per_mtok=0, output_nano_usd_per_mtok=0))
    assert judged(budget(), Fund(free_nano_usd=0), free).left_out
    assert judged(budget(), Fund(free_nano_usd=-1), free).left_out
    assert not judged(budget(), Fund(free_nano_usd=1), free).left_out


def test_it_is_told_what_was_spent_of_what_and_whether_that_is_known() -> None:
    assert judged(budget(), SPENT).left_out["api"] == Exclusion("api", "budget:cap", "$5 spent", "$5 a day", True)
    unknown = judged(budget(), UNKNOWN).left_out["api"]
    assert unknown.observed == "$1 spent when last known, and the store cannot be asked"
    assert budgets.name_of(unknown) == "cap"
    assert budgets.name_of(Exclusion("api", "capacity", "", "", False)) is None


def test_a_price_that_nobody_knows_is_too_dear_for_a_hard_budget_only() -> None:
    unpriced = shared("api")
    rich = Fund(free_nano_usd=10**15)
    assert judged(budget(), rich, unpriced).left_out["api"].observed == "price unknown"
    assert judged(budget(), None, unpriced).left_out
    assert not judged(budget(enforce=Enforce.SOFT), rich, unpriced).left_out
    assert judged(budget(enforce=Enforce.SOFT), SPENT, unpriced).left_out


def test_a_budget_in_shadow_leaves_nothing_out_and_is_recorded() -> None:
    standing = judged(budget(enforce=Enforce.SHADOW), SPENT)
    assert (standing.left_out, standing.spent) == ({}, ())
    assert [one.rule for one in standing.shadow] == ["budget:cap"]


def test_the_first_budget_that_is_spent_gives_the_reason_for_a_target() -> None:
    several = (budget("one"), budget("two"), budget("three"))
    standing = budgets.judge(several, (API,), facts(), {"two": SPENT, "three": SPENT})
    assert standing.left_out["api"].rule == "budget:two"
    assert [one.name for one in standing.spent] == ["two"]


def test_gpu_time_counts_by_the_work_that_a_request_makes() -> None:
    hours = budget(lane=Lane.DEDICATED)
    small = budgets.used_nano_usd(GPU, Usage(input_tokens=10, output_tokens=10))
    large = budgets.used_nano_usd(GPU, Usage(input_tokens=10_000, output_tokens=1000))
    assert small is not None
    assert large is not None
    assert 0 < small < large
    assert judged(hours, SPENT, GPU).left_out
    assert budgets.used_nano_usd(dedicated("bare"), Usage(input_tokens=1)) is None


@given(
    st.integers(0, 10_000),
    st.integers(0, 10_000),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 5 * USD),
    st.integers(0, 5 * USD),
    st.booleans(),
)
def test_no_usage_within_the_bounds_costs_more_than_the_most(
    into: int, out: int, cached: float, reasoned: float, cache_price: int, reasoning_price: int, audio: bool
) -> None:
    given = Price(
        input_nano_usd_per_mtok=USD,
        output_nano_usd_per_mtok=2 * USD,
        cached_input_nano_usd_per_mtok=cache_price,
        cache_write_nano_usd_per_mtok=cache_price,
        reasoning_nano_usd_per_mtok=reasoning_price,
        audio_input_nano_usd_per_mtok=reasoning_price,
    )
    target = shared("api", price=given)
    asked = facts(modalities=frozenset({Modality.AUDIO}) if audio else frozenset())
    usage = Usage(
        input_tokens=into,
        output_tokens=out,
        cached_input_tokens=int(into * cached),
        reasoning_tokens=int(out * reasoned),
        audio_input_tokens=into - int(into * cached) if audio else 0,
    )
    used = budgets.used_nano_usd(target, usage)
    assert used is not None
    assert used <= budgets.most_nano_usd(target, asked, into, out)


# what becomes of the request


def test_a_spent_budget_leaves_what_it_does_not_cover() -> None:
    decision = decide(policy(budget()), {"cap": SPENT})
    assert planned(decision) == ["gpu"]
    assert isinstance(decision, Plan)
    assert [one.rule for one in decision.excluded] == ["budget:cap"]
    assert decision.budgets == (budget(),)


def test_with_money_in_hand_nothing_changes_but_what_it_is_held_against() -> None:
    decision = decide(policy(budget()), {"cap": Fund(free_nano_usd=USD)})
    assert planned(decision) == ["gpu", "api"]


def test_a_budget_that_rejects_refuses_also_what_dedicated_could_take() -> None:
    refusal = refused(decide(policy(budget(exhausted=Exhausted.REJECT)), {"cap": SPENT}))
    assert (refusal.status, refusal.code, refusal.type) == (429, "budget_exceeded", "insufficient_quota")
    assert (refusal.retryable, refusal.retry_after_s, refusal.rule) == (False, 600.0, "budget:cap")
    assert "`cap`" in refusal.message


def test_a_request_that_only_a_spent_budget_could_pay_for_is_refused_for_good() -> None:
    refusal = refused(decide(policy(budget(), targets=(API,)), {"cap": SPENT}))
    assert (refusal.status, refusal.code, refusal.retryable) == (429, "budget_exceeded", False)


def test_while_the_store_cannot_be_asked_the_refusal_says_so_and_may_be_tried_again() -> None:
    refusal = refused(decide(policy(budget(), targets=(API,)), {"cap": UNKNOWN}))
    assert (refusal.status, refusal.code, refusal.type) == (429, "budget_unavailable", "rate_limit_error")
    assert (refusal.retryable, refusal.retry_after_s) == (True, STORE_RETRY_AFTER_S)


def test_a_full_engine_may_free_up_so_the_refusal_may_be_tried_again() -> None:
    refusal = refused(decide(policy(budget()), {"cap": SPENT}, FULL))
    assert (refusal.code, refusal.retryable) == ("budget_exceeded", True)
    assert refusal.retry_after_s is not None
    assert refusal.retry_after_s < 600.0
    assert {one.target: one.rule for one in refusal.excluded} == {"gpu": "capacity", "api": "budget:cap"}


def test_an_engine_that_can_never_take_the_request_does_not_free_up() -> None:
    narrow = replace(GPU, context_window=10)
    refusal = refused(decide(policy(budget(), targets=(narrow, API)), {"cap": SPENT}, input_tokens=1000))
    assert (refusal.code, refusal.retryable) == ("budget_exceeded", False)


def test_a_refusal_that_has_nothing_to_do_with_money_stays_what_it_is() -> None:
    refusal = refused(decide(policy(budget()), {}, {**FULL, **readings(reading("api", full_until=NOW + 5))}))
    assert refusal.code == "at_capacity"


def test_shadow_is_recorded_in_the_plan() -> None:
    decision = decide(policy(budget(enforce=Enforce.SHADOW)), {"cap": SPENT})
    assert planned(decision) == ["gpu", "api"]
    assert isinstance(decision, Plan)
    assert [one.rule for one in decision.shadow] == ["budget:cap"]


# another model instead


def test_a_request_is_served_as_another_model_when_its_own_is_spent() -> None:
    decision = decide(policy(budget(**DOWN, models=frozenset({MODEL})), targets=(API,)), {"cap": SPENT})
    assert planned(decision) == ["mini"]
    assert isinstance(decision, Plan)
    assert (decision.served_as, decision.attempts[0].model, decision.budgets) == ("small", "mini-1", ())
    assert decision.attempts[0].reason == "downgraded: budget:cap $5 spent of $5 a day"


def test_what_is_not_covered_comes_before_another_model() -> None:
    one = budget(**DOWN, models=frozenset({MODEL}))
    assert planned(decide(policy(one), {"cap": SPENT})) == ["gpu"]
    decision = decide(policy(one), {"cap": SPENT}, FULL)
    assert planned(decision) == ["mini"]
    assert isinstance(decision, Plan)
    assert [(one.target, one.rule) for one in decision.excluded] == [("gpu", "capacity"), ("api", "budget:cap")]


def test_another_model_that_is_spent_too_is_no_way_out() -> None:
    refusal = refused(decide(policy(budget(**DOWN), targets=(API,)), {"cap": SPENT}))
    assert refusal.code == "budget_exceeded"


@pytest.mark.parametrize(
    ("require", "passes"),
    [
        (Rules(regions=("eu-*",)), True),
        (Rules(regions=("us",)), False),
        (Rules(lane=Lane.SHARED), True),
        (Rules(nano_usd_per_mtok=50_000_000), False),
        (Rules(retention=("zero",)), False),
    ],
    ids=["region", "other region", "lane", "price", "retention"],
)
def test_the_gates_of_the_route_that_was_asked_for_bind(require: Rules, passes: bool) -> None:
    """The small model has a route of its own, which allows everything."""
    own = Route(name="own", match=replace(Route(name="x").match, models=frozenset({MODEL})), require=require)
    api = replace(API, region="us" if "us" in require.regions else "eu-1", price=price(0.01))
    api = replace(api, retention="zero" if require.retention else "30d")
    given = policy(budget(**DOWN, models=frozenset({MODEL})), targets=(api,), routes=(own, Route(name="default")))
    decision = decide(given, {"cap": SPENT})
    if passes:
        assert planned(decision) == ["mini"]
    else:
        assert refused(decision).code == "budget_exceeded"


def test_what_the_route_requires_of_measurements_binds_too() -> None:
    own = Route(
        name="own",
        match=replace(Route(name="x").match, models=frozenset({MODEL})),
        require=Rules(objectives=ttft_p99(0.5)),
    )
    given = policy(budget(**DOWN, models=frozenset({MODEL})), targets=(API,), routes=(own, Route(name="default")))
    assert planned(decide(given, {"cap": SPENT}, readings(reading("mini", ttft_p99_s=0.4)))) == ["mini"]
    slow = readings(reading("mini", ttft_p99_s=0.6))
    assert refused(decide(given, {"cap": SPENT}, slow)).code == "budget_exceeded"


def test_nobody_is_served_a_model_that_he_may_not_ask_for() -> None:
    given = policy(budget(**DOWN, models=frozenset({MODEL})), targets=(API,))
    tenant = Tenant(name="t", models=frozenset({MODEL}))
    assert refused(decide(given, {"cap": SPENT}, tenant=tenant)).code == "budget_exceeded"


def test_who_asks_for_a_target_gets_no_other() -> None:
    routes = (Route(name="default", target_override=True),)
    given = policy(budget(**DOWN, models=frozenset({MODEL})), targets=(API,), routes=routes)
    assert refused(decide(given, {"cap": SPENT}, target_override="api")).code == "budget_exceeded"


# whatever the policy


def spent_out(policy: Snapshot, funds: Funds, asked: Facts, route: str, target: Target) -> bool:
    """Whether some budget forbids this target for want of money; written out again."""
    return any(
        one.enforce is not Enforce.SHADOW
        and target.lane is one.lane
        and (one.targets is None or target.name in one.targets)
        and (one.tenants is None or asked.tenant.name in one.tenants)
        and (one.keys is None or asked.key.name in one.keys)
        and (one.models is None or asked.model in one.models)
        and (one.routes is None or route in one.routes)
        and one.tags <= asked.tags | asked.tenant.tags
        and one.name in funds
        and funds[one.name].free_nano_usd <= 0
        for one in policy.budgets
    )


@given(data=st.data())
def test_nothing_is_planned_that_is_spent_or_that_the_route_would_not_allow(data: st.DataObject) -> None:
    policy = data.draw(policies.budgeted())
    asked, seen = data.draw(policies.requests), data.draw(policies.readings_of(policy))
    funds = data.draw(policies.funds_of(policy))
    decision = Router(policy).decide(asked, seen, NOW, data.draw(policies.draws), {}, funds)
    if isinstance(decision, Refusal):
        return
    own = route_of(policy, asked)
    served = asked if decision.served_as is None else msgspec.structs.replace(asked, model=decision.served_as)
    route = route_of(policy, served)
    assert own is not None
    assert route is not None
    assert decision.route == route.name
    for attempt in decision.attempts:
        assert lawful(attempt.target, own, asked)
        assert lawful(attempt.target, route, served)
        assert not spent_out(policy, funds, served, route.name, attempt.target)
        observed = _observed(seen, attempt.target.name, attempt.replica)
        assert observed is None or (measured_within(own.require, observed) and measured_within(route.require, observed))


@given(data=st.data())
def test_to_spend_a_budget_or_to_add_one_never_adds_a_target(data: st.DataObject) -> None:
    """Of the model that was asked for; another one comes only when nothing of it is left."""
    policy = data.draw(policies.budgeted())
    asked, seen = data.draw(policies.requests), data.draw(policies.readings_of(policy))
    funds = data.draw(policies.funds_of(policy))
    plenty = Router(replace(policy, budgets=())).decide(asked, seen, NOW, 0.5)
    poor = Router(policy).decide(asked, seen, NOW, 0.5, {}, funds)
    poorer = Router(policy).decide(asked, seen, NOW, 0.5, {}, {**funds, policy.budgets[0].name: SPENT})
    assert _own(poor) <= _own(plenty)
    assert _own(poorer) <= _own(poor)
    for one in (poor, poorer):
        assert not (isinstance(one, Plan) and one.served_as is None and isinstance(plenty, Refusal))


def _own(decision: Decision) -> set[str]:
    """The targets of a plan for the model that was asked for."""
    if isinstance(decision, Refusal) or decision.served_as is not None:
        return set()
    return {attempt.target.name for attempt in decision.attempts}


def _observed(seen: Readings, target: str, replica: int) -> Reading | None:
    return next((one for one in seen.get(target, ()) if one.replica == replica), None)
