"""Every budget of a request is told with what it has left, and with what becomes of the request without it."""

from __future__ import annotations

from dataclasses import replace

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.policy.model import (
    Budget,
    Candidate,
    Cap,
    Enforce,
    Exhausted,
    Gpus,
    Lane,
    Limits,
    Match,
    Per,
    Price,
    Route,
    Rules,
    Snapshot,
)
from proxy.routing.decide import Router
from proxy.routing.explain.explain import explain
from proxy.routing.explain.explained import Explanation, Purse
from proxy.routing.plan import Plan
from proxy.routing.readings import Fund, Rate
from tests.routing.policies import (
    MODEL,
    NOW,
    dedicated,
    draws,
    facts,
    rates,
    reading,
    readings,
    readings_of,
    requests,
    shared,
    snapshot,
    snapshots,
)
from tests.thorough import examples

USD = 10**9
A_DAY = (Cap(500 * USD, Per.DAY),)
PRICE = Price(input_nano_usd_per_mtok=USD, output_nano_usd_per_mtok=USD)
SPENT = Fund(free_nano_usd=0, spent_nano_usd=500 * USD, limit_nano_usd=500 * USD, per=Per.DAY, resets_in_s=3600.0)
GPUS = Gpus(type="H100", count=1, nano_usd_per_hour=3 * USD)
FULL = readings(reading("llama-eu", in_flight=64))


def policy(*budgets: Budget, routes: tuple[Route, ...] = (Route(name="default"),)) -> Snapshot:
    """Both lanes under one model, and a small model that a provider of its own serves."""
    both = snapshot([dedicated(gpus=GPUS), shared(price=PRICE)], routes)
    small = shared("mini", price=PRICE)
    return replace(
        both,
        targets={**both.targets, "mini": small},
        models={**both.models, "small": (Candidate(target=small, model="mini-1"),)},
        budgets=budgets,
    )


def budget(name: str = "spill", **given: object) -> Budget:
    return Budget(**({"name": name, "caps": A_DAY} | given))  # type: ignore[arg-type]


def explained(policy: Snapshot, *spent: str, seen: object = None, **asked: object) -> Explanation:
    funds = dict.fromkeys(spent, SPENT)
    found = explain(Router(policy), facts(**asked), seen or {}, NOW, 0.0, {}, funds)  # type: ignore[arg-type]
    assert msgspec.json.decode(msgspec.json.encode(found), type=Explanation) == found
    return found


def purse(found: Explanation) -> Purse:
    (one,) = found.budgets
    return one


def test_a_budget_of_which_nothing_is_known_has_all_its_money() -> None:
    caps = (*A_DAY, Cap(USD // 2, Per.HOUR), Cap(9000 * USD, Per.TOTAL))
    assert purse(explained(policy(budget(caps=caps)))) == Purse(
        budget="spill",
        enforce=Enforce.HARD,
        lane=Lane.SHARED,
        limits=("$500 a day", "$0.5 an hour", "$9000 in all"),
        targets=("together",),
        known=True,
        free_nano_usd=None,
        spent_nano_usd=None,
        limit=None,
        resets_in_s=None,
        over=False,
        then="it goes to `llama-eu` (dedicated)",
    )


def test_what_is_left_is_told_of_the_window_that_is_nearest_to_its_end() -> None:
    one = purse(explained(policy(budget()), "spill"))
    assert (one.free_nano_usd, one.spent_nano_usd, one.limit, one.resets_in_s) == (0, 500 * USD, "$500 a day", 3600.0)
    assert one.over


def test_what_becomes_of_the_request_is_decided_and_not_guessed() -> None:
    def then(one: Budget, **asked: object) -> str:
        return purse(explained(policy(one), **asked)).then

    assert then(budget()) == "it goes to `llama-eu` (dedicated)"
    assert then(budget(), seen=FULL) == "the request is refused with 429 `budget_exceeded`"
    assert then(budget(exhausted=Exhausted.REJECT)) == "the request is refused with 429 `budget_exceeded`"
    assert then(budget(enforce=Enforce.SHADOW)) == "that is recorded, and changes nothing"
    smaller = budget(exhausted=Exhausted.DOWNGRADE, downgrade="small", models=frozenset({MODEL}))
    assert then(smaller, seen=FULL) == "it goes to `mini` (shared) as model `small`"
    assert then(smaller) == "it goes to `llama-eu` (dedicated), and to model `small` when that cannot take it"
    gpu_time = budget(lane=Lane.DEDICATED, exhausted=Exhausted.REJECT)
    assert then(gpu_time) == "the request is refused with 429 `budget_exceeded`"


def test_only_the_budgets_of_the_request_are_told() -> None:
    others = (
        budget("theirs", tenants=frozenset({"other"})),
        budget("elsewhere", routes=frozenset({"other"})),
        budget("small", models=frozenset({"small"})),
    )
    found = explained(policy(budget("mine", tenants=frozenset({"acme"})), *others))
    assert [one.budget for one in found.budgets] == ["mine"]


def test_a_budget_that_pays_for_nothing_here_says_so() -> None:
    one = purse(explained(policy(budget(targets=frozenset({"mini"}))), "spill"))
    assert (one.targets, one.over, one.then) == ((), False, "nothing here is paid from it")


def test_a_target_that_cannot_be_paid_is_out_and_not_for_good() -> None:
    found = explained(policy(budget()), "spill")
    assert found.summary == (
        "Goes to `llama-eu` (dedicated): `together` (shared) is out, since budget `spill` has no money left for it "
        "($500 spent, of $500 a day)."
    )
    assert [(one.target, one.out and one.out.rule) for one in found.targets] == [
        ("llama-eu", None),
        ("together", "budget:spill"),
    ]


def test_every_budget_that_cannot_pay_is_named() -> None:
    found = explained(policy(budget("a"), budget("b"), budget("c", enforce=Enforce.SHADOW)), "a", "b", "c")
    assert found.targets[1].out is not None
    assert (found.targets[1].out.rule, [one.rule for one in found.targets[1].others]) == ("budget:a", ["budget:b"])
    assert [one.rule for one in found.shadow] == ["budget:c"]


def test_a_refusal_for_want_of_money_names_the_budget() -> None:
    found = explained(policy(budget()), "spill", seen=FULL)
    assert found.refusal is not None
    assert found.refusal.rule == "budget:spill"
    assert found.summary.startswith(
        f"Refused with 429 `budget_exceeded`: budget `spill` has no money left for this request: {'$500 spent'}"
    )


def test_another_model_is_told_with_its_targets_and_under_the_requests_own_route() -> None:
    smaller = budget(exhausted=Exhausted.DOWNGRADE, downgrade="small", models=frozenset({MODEL}))
    routes = (
        Route(name="large", match=Match(models=frozenset({MODEL})), require=Rules(lane=Lane.SHARED)),
        Route(name="default"),
    )
    found = explained(policy(smaller, routes=routes), "spill")
    assert found.served_as == "small"
    assert found.route is not None
    assert found.route.name == "large"
    assert [(one.target, one.planned) for one in found.targets] == [
        ("mini", True),
        ("llama-eu", False),
        ("together", False),
    ]
    assert found.summary == (
        "Goes to `mini` (shared), as model `small`: `together` (shared) is out, since budget `spill` has no money "
        "left for it ($500 spent, of $500 a day)."
    )


def test_a_request_over_its_rate_would_be_refused_for_that() -> None:
    limited = replace(policy(budget()), routes=(Route(name="default", require=Rules(limits=Limits(rpm=1))),))
    used = {"route:default": Rate(requests=1)}
    found = explain(Router(limited), facts(), {}, NOW, 0.0, used)
    assert purse(found).then == "the request is refused with 429 `rate_limit_exceeded`"


def some(names: list[str]) -> st.SearchStrategy[frozenset[str] | None]:
    return st.none() | st.sets(st.sampled_from(names), min_size=1).map(frozenset)


@st.composite
def budgets_of(draw: st.DrawFn, policy: Snapshot) -> tuple[Budget, ...]:
    """Up to three budgets of a policy, for what it has."""
    made = []
    for name in ("a", "b", "c")[: draw(st.integers(1, 3))]:
        exhausted = draw(st.sampled_from(Exhausted))
        made.append(
            budget(
                name,
                lane=draw(st.sampled_from(Lane)),
                enforce=draw(st.sampled_from(Enforce)),
                exhausted=exhausted,
                downgrade="small" if exhausted is Exhausted.DOWNGRADE else None,
                targets=draw(some(list(policy.targets))),
                routes=draw(some([route.name for route in policy.routes])),
                models=draw(some(list(policy.models))),
            )
        )
    return tuple(made)


@settings(max_examples=examples(300), deadline=None)
@given(st.data())
def test_it_says_what_is_decided_whatever_the_budgets(data: st.DataObject) -> None:
    drawn = data.draw(snapshots())
    one = next(iter(drawn.targets.values()))
    small = replace(drawn, models={**drawn.models, "small": (Candidate(target=one, model="small-1"),)})
    paid = replace(small, budgets=data.draw(budgets_of(small)))
    router, seen, used, number = Router(paid), data.draw(readings_of(paid)), data.draw(rates), data.draw(draws)
    funds = data.draw(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.just(SPENT)))
    for asked in data.draw(st.lists(requests, min_size=5, max_size=5)):
        decision = router.decide(asked, seen, NOW, number, used, funds)
        found = explain(router, asked, seen, NOW, number, used, funds)
        attempts = decision.attempts if isinstance(decision, Plan) else ()
        planned = sorted((place.ordinal, one.target) for one in found.targets for place in one.places)
        assert [name for _, name in planned] == [attempt.target.name for attempt in attempts]
        assert found.shadow == decision.shadow
        left_out = {one for standing in found.targets for one in (standing.out, *standing.wants) if one is not None}
        assert left_out <= set(decision.excluded)
        assert all(not (one.places and one.out) for one in found.targets)
        if isinstance(decision, Plan) and decision.served_as is None:
            assert {one.budget for one in found.budgets} == {one.name for one in decision.budgets}
        assert msgspec.json.decode(msgspec.json.encode(found), type=Explanation) == found
