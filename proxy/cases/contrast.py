"""Two policies compared over many requests: how many are decided differently, in which way, and whose.

Theory of operation
-------------------
Every request is put to both policies in every state, and what differs is counted at once: by what changes, and, over
all decisions that changed, by route, lane and tenant. Each group keeps its first example. Where data may newly go is
counted by request, not by state: it does not depend on the moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.cases.compare import Side, View, Widening, changes, widenings
from proxy.cases.request import Request
from proxy.cases.terms import Changed, changed_terms
from proxy.policy.model import ANONYMOUS

CHANGES = ("refusal", "first target", "fallbacks", "cost")
"""What may change, the gravest first."""

WHOSE = ("by route", "by lane", "by tenant")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One request in one state, under both policies."""

    request: Request
    state: str
    before: View
    after: View


@dataclass(slots=True)
class Group:
    """Decisions that changed alike."""

    example: Example
    count: int = 0


@dataclass(slots=True)
class Spread:
    """Requests of one tenant, on one route, whose data may newly go somewhere."""

    kind: str
    value: str
    tenant: str
    route: str
    example: Request
    targets: set[str] = field(default_factory=set)
    count: int = 0


@dataclass(slots=True)
class Money:
    """Estimated cost of the decisions that both policies serve and that can be priced under both."""

    decisions: int = 0
    before_nano_usd: int = 0
    after_nano_usd: int = 0
    unpriced: int = 0


@dataclass(slots=True)
class Contrast:
    """What was found. `groups` are by heading (`CHANGES`, then `WHOSE`) and by words; counts are of decisions."""

    requests: int = 0
    decisions: int = 0
    changed: int = 0
    widened: int = 0
    groups: dict[str, dict[str, Group]] = field(default_factory=lambda: {name: {} for name in (*CHANGES, *WHOSE)})
    spreads: dict[tuple[str, ...], Spread] = field(default_factory=dict)
    money: Money = field(default_factory=Money)
    terms: tuple[Changed, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether anything would be decided differently, might newly go somewhere, or is stated differently."""
        return bool(self.changed or self.widened or self.terms)


def contrast(requests: Mapping[Request, int], states: tuple[str, ...], before: Side, after: Side) -> Contrast:
    """Put each request, made so many times, to both sides in every state."""
    found = Contrast(terms=changed_terms(before.snapshot, after.snapshot))
    for request, count in requests.items():
        found.requests += count
        _note_widenings(found, request, count, tuple(widenings(request, before, after)), after)
        for state in states:
            found.decisions += count
            example = Example(
                request=request, state=state, before=before.view(request, state), after=after.view(request, state)
            )
            _note_money(found.money, example, count)
            if example.before != example.after:
                found.changed += count
                _note_change(found, example, count)
    return found


def tenant_of(request: Request) -> str:
    """Whose request it is, for people."""
    return request.tenant or (request.key or "").rpartition("/")[0] or ANONYMOUS.name


def lane_of(view: View) -> str:
    """Where the request goes first, or that it goes nowhere."""
    return "refused" if view.lane is None else view.lane.value


def _note_change(found: Contrast, example: Example, count: int) -> None:
    before, after = example.before, example.after
    for kind, words in changes(before, after):
        _add(found.groups[kind], words, example, count)
    _add(found.groups["by route"], _from_to(before.route or "none", after.route or "none"), example, count)
    _add(found.groups["by lane"], _from_to(lane_of(before), lane_of(after)), example, count)
    _add(found.groups["by tenant"], tenant_of(example.request), example, count)


def _note_widenings(found: Contrast, request: Request, count: int, news: tuple[Widening, ...], after: Side) -> None:
    if not news:
        return
    found.widened += count
    route, tenant = after.route_of(request), tenant_of(request)
    noted = set()
    for one in news:
        key = (one.kind, one.value, tenant, route)
        spread = found.spreads.setdefault(key, Spread(one.kind, one.value, tenant, route, request))
        spread.targets.add(one.target)
        if key not in noted:
            spread.count += count
            noted.add(key)


def _note_money(money: Money, example: Example, count: int) -> None:
    before, after = example.before, example.after
    if before.refused or after.refused:
        return
    if before.nano_usd is None or after.nano_usd is None:
        money.unpriced += count
        return
    money.decisions += count
    money.before_nano_usd += count * before.nano_usd
    money.after_nano_usd += count * after.nano_usd


def _add(groups: dict[str, Group], words: str, example: Example, count: int) -> None:
    groups.setdefault(words, Group(example)).count += count


def _from_to(before: str, after: str) -> str:
    return before if before == after else f"{before} -> {after}"
