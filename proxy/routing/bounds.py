"""What requests of one caller on one route are held against: its rates and its budgets, made out once.

Theory of operation
-------------------
Which limits and budgets a request falls under depends on its tenant, key, route and model alone, unless a budget asks
for tags; so it is looked up, not worked out. Most requests are within all of them and find every target able: those
share one plan, too. What is kept depends on the policy alone, and there is a bound to how much is.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from proxy.policy.model import UNLIMITED, Budget, Key, Tenant
from proxy.routing import limits
from proxy.routing.budgets import BudgetIndex
from proxy.routing.facts import Facts
from proxy.routing.plan import Plan

MAX_KEPT = 50_000


class Bound:
    """`held` are the limits, `buckets` where they are counted; `covering` the budgets, None where tags decide."""

    __slots__ = ("_alike", "_plan", "buckets", "covering", "held", "key", "tenant")

    def __init__(self, facts: Facts, held: tuple[limits.Held, ...], covering: tuple[Budget, ...] | None) -> None:
        self.tenant: Tenant = facts.tenant
        self.key: Key = facts.key
        self.held = held
        self.buckets = limits.scopes(held)
        self.covering = covering
        self._alike: Plan | None = None
        self._plan: Plan | None = None

    def planned(self, plan: Plan, covering: tuple[Budget, ...], *, keep: bool) -> Plan:
        """`plan`, saying where the request is counted; `keep` it for the next one that gets the very same plan."""
        if plan is self._alike and self._plan is not None:
            return self._plan
        made = msgspec.structs.replace(plan, scopes=self.buckets, budgets=covering)
        if keep and covering is self.covering:
            self._alike, self._plan = plan, made
        return made


class Bounds:
    """Those of all callers of a policy, as they come."""

    __slots__ = ("_budgets", "_kept")

    def __init__(self, budgets: Iterable[Budget]) -> None:
        self._budgets = BudgetIndex(budgets)
        self._kept: dict[tuple[str, str, str, str], Bound] = {}

    def covering(self, facts: Facts, route: str) -> tuple[Budget, ...]:
        """The budgets that a request on `route` falls under, whatever its target."""
        return self._budgets.covering(facts, route)

    def of(self, facts: Facts, route: str, held: tuple[limits.Held, ...]) -> Bound | None:
        """What a request on `route`, which has limits of its own, is held against; None for nothing."""
        tenant, key = facts.tenant, facts.key
        if not held and not self._budgets and tenant.limits is UNLIMITED and key.limits is UNLIMITED:
            return None
        names = (route, tenant.name, key.name, facts.model)
        bound = self._kept.get(names)
        if bound is None or bound.tenant is not tenant or bound.key is not key:
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            covering = None if self._budgets.asks_for_tags else self._budgets.covering(facts, route)
            bound = self._kept[names] = Bound(facts, held + limits.of_caller(facts), covering)
        return bound
