"""What a caller is held against is looked up, and is never another's, nor that of a policy before."""

from __future__ import annotations

from dataclasses import replace

import pytest
from proxy.policy.cap import Cap, Per
from proxy.policy.model import UNLIMITED, Budget, Key, Limits, Tenant
from proxy.routing import bounds
from proxy.routing.bounds import Bounds
from proxy.routing.facts import Facts
from proxy.routing.plan import Plan
from tests.routing.policies import TENANT, facts

RPM = Limits(rpm=1)
CAPS = (Cap(1, Per.DAY),)


def asked(tenant: Tenant = TENANT, model: str = "m", tags: frozenset[str] = frozenset()) -> Facts:
    return facts(tenant=tenant, key=Key(tenant=tenant), model=model, tags=tags)


def test_who_is_held_against_nothing_is_told_so() -> None:
    assert Bounds(()).of(asked(), "r", ()) is None
    assert Bounds(()).of(asked(replace(TENANT, limits=RPM)), "r", ()) is not None
    assert Bounds([Budget(name="b", caps=CAPS)]).of(asked(), "r", ()) is not None


def test_the_same_caller_on_the_same_route_is_looked_up() -> None:
    limited = asked(replace(TENANT, limits=RPM))
    kept = Bounds([Budget(name="b", caps=CAPS, models=frozenset({"other"}))])
    bound = kept.of(limited, "r", ())
    assert bound is not None
    assert bound is kept.of(limited, "r", ())
    assert [held.scope for held in bound.held] == [f"tenant:{TENANT.name}"]
    assert bound.buckets == (f"tenant:{TENANT.name}",)
    assert bound.covering == ()
    other = kept.of(asked(limited.tenant, "other"), "r", ())
    assert other is not None
    assert other.covering is not None
    assert [budget.name for budget in other.covering] == ["b"]
    assert kept.of(limited, "s", ()) is not bound


def test_another_tenant_of_the_same_name_is_another() -> None:
    kept = Bounds([Budget(name="b", caps=CAPS)])
    before = kept.of(asked(replace(TENANT, limits=RPM)), "r", ())
    after = kept.of(asked(replace(TENANT, limits=UNLIMITED)), "r", ())
    assert before is not None
    assert after is not None
    assert (len(before.held), len(after.held)) == (1, 0)


def test_budgets_for_tags_are_asked_about_every_request() -> None:
    kept = Bounds([Budget(name="b", caps=CAPS, tags=frozenset({"eval"}))])
    bound = kept.of(asked(), "r", ())
    assert bound is not None
    assert bound.covering is None
    assert kept.covering(asked(), "r") == ()
    assert [budget.name for budget in kept.covering(asked(tags=frozenset({"eval"})), "r")] == ["b"]


def test_a_plan_says_where_its_request_is_counted_and_is_made_once() -> None:
    kept = Bounds([Budget(name="b", caps=CAPS)])
    bound = kept.of(asked(replace(TENANT, limits=RPM)), "r", ())
    assert bound is not None
    assert bound.covering is not None
    ready, passing = Plan(route="r", attempts=()), Plan(route="r", attempts=(), relaxed=True)
    first = bound.planned(ready, bound.covering, keep=True)
    assert (first.scopes, first.budgets) == (bound.buckets, bound.covering)
    assert bound.planned(passing, bound.covering, keep=False).relaxed
    assert bound.planned(ready, bound.covering, keep=True) is first


def test_no_more_are_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_KEPT", 3)
    kept = Bounds([Budget(name="b", caps=CAPS)])
    found = {kept.of(asked(model=f"m{n}"), "r", ()) for n in range(10)}
    assert None not in found
    assert len(kept._kept) <= 3
