"""How much of a policy its cases have seen: each route matched, each of its rules both kept and broken.

Theory of operation
-------------------
A rule that no case ever broke may as well not be there, and one that no case ever kept may refuse everybody. So every
rule has two *sides*, and a case sees a side when, on the route that it comes to, some target of its model (or the
request itself) keeps or breaks the rule. So has a budget, which can pay for a request or cannot. The functions that
the router asks are asked again, each rule by itself and in shadow too: the router stops at the first rule that bars a
target, which says nothing about the others.

Only sides that can be seen are asked for: that a target breaks `region: eu-*`, only if there is one outside. What has
to be measured is neither kept nor broken until a reading says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from proxy.cases.given import Given
from proxy.policy import promises
from proxy.policy.model import NO_RULES, Budget, Lane, Limits, Objective, Route, Rules, Snapshot, Target
from proxy.routing import budgets, limits
from proxy.routing.facts import Facts
from proxy.routing.plan import Decision
from proxy.routing.readings import Rates, Reading
from proxy.routing.rules import missed_by_reading, missed_by_request

MATCHED, KEPT, BROKEN = "matched", "kept", "broken"


@dataclass(frozen=True, slots=True, order=True)
class Side:
    """One thing to be seen: a `route` is matched, or a rule of a route, tenant, key or budget is kept or broken."""

    subject: str
    rule: str
    side: str

    def __str__(self) -> str:
        return f"{self.subject} {self.rule} never {self.side}" if self.rule else f"{self.subject} never {self.side}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What there is to see, in the order of the policy, and what of it was seen."""

    sides: tuple[Side, ...]
    seen: frozenset[Side]

    @property
    def missing(self) -> tuple[Side, ...]:
        """What no case has seen."""
        return tuple(side for side in self.sides if side not in self.seen)

    @property
    def share(self) -> float:
        """Seen of all; 1.0 is everything."""
        return 1 - len(self.missing) / len(self.sides)


def coverage(snapshot: Snapshot, judged: Iterable[tuple[Given, Decision]]) -> Coverage:
    """What the cases have seen of the policy, each given with what was decided."""
    sides = tuple(dict.fromkeys(_sides(snapshot)))
    index = budgets.BudgetIndex(snapshot.budgets)
    seen = frozenset(
        side
        for given, decision in judged
        for side in (*_seen(snapshot, given, decision), *_seen_budgets(snapshot, index, given, decision))
    )
    return Coverage(sides=sides, seen=seen)


def _sides(snapshot: Snapshot) -> Iterator[Side]:
    for route in snapshot.routes:
        yield Side(f"route {route.name}", "", MATCHED)
        models = snapshot.models if route.match.models is None else route.match.models & snapshot.models.keys()
        targets = [candidate.target for model in models for candidate in snapshot.models[model]]
        for block in _blocks(route):
            for one in block.static():
                misses = [one.misses(target) for target in targets]
                yield from _both(route, one.name, kept=not all(misses), broken=any(misses))
            for name in block.measured():
                yield from _both(route, name)
            if block.rules.max_nano_usd_per_request is not None:
                shared = [target for target in targets if target.lane is Lane.SHARED]
                priceless = block.strict and all(target.price is None for target in shared)
                kept = len(shared) < len(targets) or not priceless
                yield from _both(route, f"{block.name}.max_usd_per_request", kept=kept, broken=bool(shared))
            for name, _ in _each(block.rules.limits):
                yield from _both(route, f"{block.name}.{name}")
    for scope, limit in _callers(snapshot):
        for name, _ in _each(limit):
            for side in (KEPT, BROKEN):
                yield Side(_spelled(scope), name, side)
    for budget in snapshot.budgets:
        for side in (KEPT, BROKEN):
            yield Side(_budget(budget), "limit", side)


def _seen(snapshot: Snapshot, given: Given, decision: Decision) -> Iterator[Side]:
    facts = given.facts
    for held in limits.of_caller(facts):
        yield from _seen_limits(_spelled(held.scope), "", held.scope, held.limits, facts, given.rates)
    route = next((route for route in snapshot.routes if route.name == decision.route), None)
    if route is None:
        return
    subject = f"route {route.name}"
    yield Side(subject, "", MATCHED)
    targets = [candidate.target for candidate in snapshot.models.get(facts.model, ())]
    for block in _blocks(route):
        for target in targets:
            for one in block.static():
                yield _side(subject, one.name, one.misses(target))
            if block.rules.max_nano_usd_per_request is not None:
                miss = missed_by_request(target, block.rules, facts, strict=block.strict)
                yield _side(subject, f"{block.name}.max_usd_per_request", miss is not None)
            for reading in given.readings.get(target.name, ()):
                yield from block.measurements(subject, reading)
        name, rates = f"route:{route.name}", given.rates
        yield from _seen_limits(subject, f"{block.name}.", name, block.rules.limits, facts, rates)


def _seen_budgets(snapshot: Snapshot, index: budgets.BudgetIndex, given: Given, decision: Decision) -> Iterator[Side]:
    """Each budget by itself, asked about every target of the model that it covers."""
    facts = given.facts
    targets = [candidate.target for candidate in snapshot.models.get(facts.model, ())]
    for budget in index.covering(facts, decision.route):
        for target in targets:
            if budget.pays_for(target):
                standing = budgets.judge((budget,), (target,), facts, given.funds)
                yield _side(_budget(budget), "limit", bool(standing.left_out or standing.shadow))


def _budget(budget: Budget) -> str:
    """All that `each` made of one budget are one: a case for every tenant would say nothing more."""
    return f"budget {budget.group or budget.name}"


@dataclass(frozen=True, slots=True)
class _Static:
    """One rule that the policy alone settles."""

    name: str
    misses: Callable[[Target], bool]


@dataclass(frozen=True, slots=True)
class _Block:
    """One of a route's four blocks of rules; `name` begins the names of its rules."""

    name: str
    rules: Rules
    strict: bool

    def static(self) -> Iterator[_Static]:
        for rule in promises.STATIC:
            if _is_stated(rule, self.rules):
                yield _Static(f"{self.name}.{rule.__name__}", self._asking(rule))

    def _asking(self, rule: promises.Static) -> Callable[[Target], bool]:
        return lambda target: rule(target, self.rules, self.strict) is not None

    def measured(self) -> Iterator[str]:
        yield from (f"{self.name}.{objective.rule}" for objective in self.rules.objectives)
        if self.rules.uptime is not None:
            yield f"{self.name}.uptime"

    def measurements(self, subject: str, reading: Reading) -> Iterator[Side]:
        for objective in self.rules.objectives:
            if _is_measured(objective, reading):
                alone = replace(NO_RULES, objectives=(objective,))
                yield _side(subject, f"{self.name}.{objective.rule}", bool(missed_by_reading(alone, reading)))
        if self.rules.uptime is not None and reading.uptime is not None:
            alone = replace(NO_RULES, uptime=self.rules.uptime)
            yield _side(subject, f"{self.name}.uptime", bool(missed_by_reading(alone, reading)))


def _blocks(route: Route) -> tuple[_Block, ...]:
    return (
        _Block("require", route.require, True),
        _Block("want", route.want, False),
        _Block("shadow require", route.shadow_require, True),
        _Block("shadow want", route.shadow_want, False),
    )


def _is_stated(rule: promises.Static, rules: Rules) -> bool:
    """Whether `rules` has anything for `rule` to ask: a target that promises nothing at all then misses it."""
    return any(rule(target, rules, True) is not None for target in _UNPROMISING)


_UNPROMISING = tuple(Target(name="", lane=lane, model="", region="") for lane in Lane)


def _is_measured(objective: Objective, reading: Reading) -> bool:
    return getattr(reading.latency, objective.field) is not None


def _seen_limits(subject: str, prefix: str, scope: str, limit: Limits, facts: Facts, rates: Rates) -> Iterator[Side]:
    for name, alone in _each(limit):
        held = limits.Held(scope, "", alone, limits.Manner.REQUIRE)
        over = limits.judge((held,), facts, rates).refused
        yield _side(subject, f"{prefix}{name}", over is not None)


def _each(limit: Limits) -> Iterator[tuple[str, Limits]]:
    """The limits of a set, each by itself."""
    alone = {
        "rpm": Limits(rpm=limit.rpm),
        "tpm": Limits(tpm=limit.tpm),
        "concurrency": Limits(concurrency=limit.concurrency),
    }
    return ((name, one) for name, one in alone.items() if one)


def _callers(snapshot: Snapshot) -> Iterator[tuple[str, Limits]]:
    yield from ((f"tenant:{tenant.name}", tenant.limits) for tenant in snapshot.tenants.values())
    yield from ((f"key:{one.name}", one.limits) for one in snapshot.keys.values() if one.name)


def _spelled(scope: str) -> str:
    return scope.replace(":", " ", 1)


def _side(subject: str, rule: str, broken: bool) -> Side:
    return Side(subject, rule, BROKEN if broken else KEPT)


def _both(route: Route, rule: str, *, kept: bool = True, broken: bool = True) -> Iterator[Side]:
    if kept:
        yield Side(f"route {route.name}", rule, KEPT)
    if broken:
        yield Side(f"route {route.name}", rule, BROKEN)
