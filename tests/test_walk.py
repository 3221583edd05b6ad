"""Which attempts of a plan are made after the first, by how those before them ended."""

from __future__ import annotations

from typing import Any

import pytest
from proxy.forward import Ending
from proxy.policy.model import Lane
from proxy.routing.charge import Charge
from proxy.routing.outcome import Failure, Outcome, Usage
from proxy.routing.plan import Attempt, Cause, Plan
from proxy.walk import walk

from tests.harness import dedicated, shared

TARGETS = (dedicated("gpu", "http://a/v1", "http://b/v1"), shared("api"), shared("last"))
PLACES = ((TARGETS[0], 0), (TARGETS[1], 0), (TARGETS[0], 1), (TARGETS[2], 0))
PLAN = Plan(
    route="r",
    attempts=tuple(
        Attempt(target=target, replica=replica, model="up", ordinal=place, cause=Cause.FALLBACK, reason="planned")
        for place, (target, replica) in enumerate(PLACES)
    ),
    max_failovers=9,
)


class World:
    """Which targets are in rotation, and how many failures may be tried elsewhere."""

    def __init__(self, *, out: tuple[str, ...] = (), budget: int = 9) -> None:
        self.out, self.budget = out, budget

    def admits(self, attempt: Attempt, now: float) -> bool:
        return attempt.target.name not in self.out

    def withdraw(self, now: float) -> bool:
        self.budget -= 1
        return self.budget >= 0


def ended(attempt: Attempt, failure: Failure | None, *, committed: bool = False) -> Ending:
    outcome = Outcome(
        attempt=attempt, status=500, failure=failure, committed=committed, total_s=0.1, detail="answered 500"
    )
    target = attempt.target
    charge = Charge(
        target=target.name, lane=Lane(target.lane), usage=Usage(), nano_usd=0, priced=True, price_source="policy"
    )
    return Ending(outcome, charge, None)


def walked(world: World, *failures: Failure | None, plan: Plan = PLAN, **first: Any) -> list[Attempt]:
    """The attempts that follow the first, which end with `failures` one after another, and the last of these again."""
    endings = [ended(plan.attempts[0], failures[0], **first)]
    made = []
    for attempt in walk(plan, endings, world, world):  # type: ignore[arg-type]
        made.append(attempt)
        endings.append(ended(attempt, failures[min(len(made), len(failures) - 1)]))
    return made


def names(attempts: list[Attempt]) -> list[tuple[str, int]]:
    return [(one.target.name, one.replica) for one in attempts]


def test_failures_are_tried_elsewhere_to_the_end_of_the_plan() -> None:
    made = walked(World(), Failure.FAULTED)
    assert names(made) == [("api", 0), ("gpu", 1), ("last", 0)]
    assert [(one.ordinal, one.cause, one.reason) for one in made[:2]] == [
        (1, Cause.FALLBACK, "faulted: gpu answered 500"),
        (2, Cause.FALLBACK, "faulted: api answered 500"),
    ]


def test_as_often_as_the_route_allows_and_the_budget_lasts() -> None:
    plan = Plan(route="r", attempts=PLAN.attempts, max_failovers=1)
    assert names(walked(World(), Failure.FAULTED, plan=plan)) == [("api", 0)]
    assert names(walked(World(budget=2), Failure.FAULTED)) == [("api", 0), ("gpu", 1)]


def test_a_full_engine_costs_neither() -> None:
    plan = Plan(route="r", attempts=PLAN.attempts, max_failovers=0)
    made = walked(World(budget=0), Failure.FULL, plan=plan)
    assert names(made) == [("api", 0), ("gpu", 1), ("last", 0)]
    assert {(one.cause, one.reason.partition(":")[0]) for one in made} == {(Cause.SPILLOVER, "engine full")}


@pytest.mark.parametrize("failure", [None, Failure.REJECTED, Failure.CLIENT_LEFT, Failure.BUDGET])
def test_what_nobody_could_mend_is_the_end(failure: Failure | None) -> None:
    assert walked(World(), failure) == []


def test_so_is_what_has_reached_the_client() -> None:
    assert walked(World(), Failure.BROKEN, committed=True) == []


def test_who_is_out_of_rotation_is_passed_over() -> None:
    assert names(walked(World(out=("api",)), Failure.FAULTED)) == [("gpu", 1), ("last", 0)]


def test_a_copy_that_ran_beside_the_first_is_not_tried_again_and_was_a_failover() -> None:
    plan = Plan(route="r", attempts=PLAN.attempts, max_failovers=2)
    endings = [ended(PLAN.attempts[0], Failure.FAULTED), ended(PLAN.attempts[1], Failure.FAULTED)]
    world = World()
    made = []
    for attempt in walk(plan, endings, world, world):  # type: ignore[arg-type]
        made.append(attempt)
        endings.append(ended(attempt, Failure.FAULTED))
    assert names(made) == [("gpu", 1)]
    assert made[0].ordinal == 2
