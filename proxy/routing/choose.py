"""The choice among the lawful targets of a request: which of them are able, in what order, and why.

Theory of operation
-------------------
Of each lawful target one replica is an option: of a dedicated one whose work is known, the one where the request is
predicted to fare best (`place.py`), of any other the able one with the least in flight. A target without such a replica
is left out, with why. The options come in this order: targets known to miss fewer wants first, then the route's
preference, then the model's own order. After one replica of every target come the second-best replicas: another target
is the better second try, because replicas of one target tend to fail together; and then replicas that would be late.

The first attempt is a *spillover* when it is shared and a dedicated target was left out, or put behind it, because of
what was observed; all later attempts are *fallbacks*.

When nobody else can serve the request, a replica that is late does, if it can keep the objective itself without the
margin, or if nobody waits there: then it is as fast as it ever is. Nobody is put into a queue whose end is past the
objective: a request that is refused at once can be tried again, and those behind it are not late as well. Of what can
be served, the lowest priority leaves half of the objective to the others. The happy path formats no string.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

import msgspec

from proxy.policy.model import Prefer, Priority, Rules
from proxy.routing import gates, refusals, wants
from proxy.routing.capacity import (
    MAX_RETRY_AFTER_S,
    MIN_RETRY_AFTER_S,
    Room,
    able,
    least_loaded,
    retry_after_s,
    shortage,
)
from proxy.routing.facts import Facts
from proxy.routing.place import Placed, aims_of, estimate, expected_output_tokens, place, too_slow
from proxy.routing.plan import Attempt, Cause, Decision, Estimate, Exclusion, Plan
from proxy.routing.predict import MARGIN, Aims
from proxy.routing.readings import NO_OUTLOOK, Breaker, Outlook, Reading, Readings
from proxy.routing.rules import missed_by_reading, missed_by_request
from proxy.routing.table import FALLBACK_REASON, Entry, Lawful
from proxy.routing.worth import worth_less

PATIENCE: Mapping[Priority, float] = {Priority.LOW: 0.5, Priority.NORMAL: 0.95, Priority.HIGH: 1.0}
"""The share of the objective that a request of each priority may be predicted to wait where nobody else can serve."""

AS_EVER = 2.0
"""A wish that a replica could not meet alone either is no reason to refuse, until the wait is so many times as long."""

NONE_POOR: Mapping[str, Exclusion] = {}


class Moment(msgspec.Struct, frozen=True, gc=False):
    """What is true of the targets now: readings, the time on their clock, a number in [0, 1) to break ties with, and
    what is expected of the request.
    """

    readings: Readings
    now: float
    draw: float
    outlook: Outlook = NO_OUTLOOK


class Option(msgspec.Struct, frozen=True, gc=False):
    """A lawful target, the replica of it that would be tried, and what is predicted there, if anything is."""

    entry: Entry
    reading: Reading
    placed: Placed | None = None


Misses = tuple[Exclusion, ...]
"""The wants that an option is measured to miss."""


class _Field:
    """What is found of the lawful targets, one by one."""

    __slots__ = ("aims", "facts", "firsts", "late", "left_out", "moment", "room", "spares", "spilled")

    def __init__(self, facts: Facts, moment: Moment, room: Room, aims: Aims) -> None:
        self.facts, self.moment, self.room, self.aims = facts, moment, room, aims
        self.firsts: list[Option] = []
        self.spares: list[Option] = []
        self.late: list[Option] = []
        self.left_out: list[Exclusion] = []
        self.spilled: Exclusion | None = None

    def look_at(self, entry: Entry, lawful: Lawful) -> None:
        """One lawful target: an option, or why it is none."""
        target, facts, require = entry.target, self.facts, lawful.route.require
        unfit = gates.unfit(target, require, facts) if entry.picky else None
        if unfit is not None:
            self.left_out.append(unfit)
            return
        seen = self.moment.readings.get(target.name) or entry.unseen
        usable = able(target, seen, facts, self.moment.now, self.room)
        kept = _uncondemned(require, usable) if lawful.gated else usable
        if not kept:
            if usable:
                self._leave(entry, gates.recorded(target, missed_by_reading(require, usable[0]))[0])
            else:
                self._leave(entry, shortage(target, seen, facts, self.moment.now, self.room))
        elif entry.steps is not None and kept[0].load is not None:
            self._place(entry, kept)
        else:
            self._count(entry, kept)

    def _leave(self, entry: Entry, why: Exclusion) -> None:
        self.left_out.append(why)
        if entry.dedicated and self.spilled is None:
            self.spilled = why

    def _count(self, entry: Entry, kept: list[Reading]) -> None:
        draw = self.moment.draw
        best = kept[0] if len(kept) == 1 else least_loaded(kept, draw)
        self.firsts.append(Option(entry, best))
        if len(kept) > 1:
            self.spares.append(Option(entry, least_loaded([one for one in kept if one is not best], draw)))

    def _place(self, entry: Entry, kept: list[Reading]) -> None:
        assert entry.steps is not None
        found = place(entry.steps, kept, self.facts, self.aims, self.moment.outlook, self.moment.now)
        best, second, nearest = found.best, found.second, found.nearest
        if best is not None:
            self.firsts.append(Option(entry, best.reading, best))
            if second is not None:
                self.spares.append(Option(entry, second.reading, second))
        elif nearest is not None:
            self.leave_late(Option(entry, nearest.reading, nearest), MARGIN * self.aims.ttft_s)

    def leave_late(self, option: Option, ttft_limit_s: float) -> None:
        """Leave out a replica whose first token would come after `ttft_limit_s`, or whose gaps would be too long."""
        entry, placed = option.entry, option.placed
        if entry.steps is not None and placed is not None:
            self._leave(entry, too_slow(entry.steps, placed, ttft_limit_s, self.aims.itl_s))
            self.late.append(option)


def choose(lawful: Lawful, facts: Facts, moment: Moment, room: Room, poor: Mapping[str, Exclusion]) -> Decision:
    """Order what is able among the lawful; `poor` are left out beforehand."""
    if lawful.ready is not None and not poor and _all_able(lawful, facts, moment, room):
        return lawful.ready
    field = _Field(facts, moment, room, aims_of(lawful.aims, facts))
    for entry in lawful.entries:
        if poor and entry.target.name in poor:
            field.left_out.append(poor[entry.target.name])
        else:
            field.look_at(entry, lawful)
    relaxed = False
    if not field.firsts or (facts.priority is Priority.LOW and not _spills(field.firsts)):
        relaxed = _make_do(field)
        if not field.firsts:
            wait_s = _soonest_s(lawful, field)
            return refusals.none_able(lawful.route, facts, lawful.barred, field.left_out, wait_s)
    return _planned(lawful, field, relaxed=relaxed)


def _planned(lawful: Lawful, field: _Field, *, relaxed: bool) -> Plan:
    route, facts, firsts, spilled = lawful.route, field.facts, field.firsts, field.spilled
    shadow = lawful.shadow + _shadow_now(lawful, firsts, facts) if lawful.shadowed else lawful.shadow
    relaxed = relaxed or bool(firsts[0].entry.missed)
    if lawful.varies:
        misses = [wants.missed_now(one.entry.target, route.want, facts, one.reading) for one in firsts]
        if any(misses) or route.prefer is Prefer.LATENCY:
            firsts, demoted, missed = _reordered(lawful, firsts, misses)
            relaxed = relaxed or missed
            field.left_out += [miss for missed in misses for miss in missed]
            spilled = spilled or demoted
    if field.moment.outlook.bid_nano_usd_per_s and route.prefer is Prefer.COST:
        firsts, outbid = _outbid(firsts, facts, field.moment.outlook)
        if outbid is not None:
            field.left_out.append(outbid)
            spilled = spilled or outbid
    options = firsts + field.spares + _in_time(field)
    return Plan(
        route=route.name,
        attempts=_attempts(lawful, options, spilled, field),
        excluded=(*lawful.excluded, *field.left_out) if field.left_out else lawful.excluded,
        relaxed=relaxed,
        max_failovers=route.max_failovers,
        shadow=shadow,
    )


def _spills(firsts: list[Option]) -> bool:
    """Whether a shared target could take the request."""
    return any(not option.entry.dedicated for option in firsts)


def _make_do(field: _Field) -> bool:
    """No shared target can serve the request: keep the replicas that it may wait for. Whether a wish is relaxed."""
    aims, firsts = field.aims, field.firsts
    patience_s = PATIENCE[field.facts.priority] * aims.ttft_s if aims.stated else inf
    kept = [option for option in firsts if _wait_s(option) <= patience_s]
    for option in firsts:
        if option not in kept:
            field.leave_late(option, patience_s)
    field.firsts = kept
    late = [
        option
        for option in field.late
        if (_wait_s(option) <= patience_s or _is_as_ever(option, field, patience_s)) and _keeps_gates(option, aims)
    ]
    if kept or not late:
        return False
    best = min(late, key=_wait_s)
    field.late.remove(best)
    field.firsts = [best]
    return aims.stated


def _is_as_ever(option: Option, field: _Field, patience_s: float) -> bool:
    """Whether the replica is as fast as it ever is: nobody waits there, or it could not be in time alone either."""
    placed, steps, facts = option.placed, option.entry.steps, field.facts
    if placed is None or steps is None or not placed.load.waiting:
        return placed is not None
    alone = msgspec.structs.replace(placed.load, waiting=0, queued_tokens=0, overdue=0.0)
    output_tokens = expected_output_tokens(facts, field.moment.outlook)
    alone_s = steps.predict(alone, facts.input_tokens, placed.prediction.hit_tokens, output_tokens).ttft_s
    return alone_s > patience_s and _wait_s(option) <= AS_EVER * alone_s


def _wait_s(option: Option) -> float:
    return 0.0 if option.placed is None else option.placed.prediction.ttft_s


def _in_time(field: _Field) -> list[Option]:
    """The replicas that are late but still keep the objective, in case that nobody else does in the end."""
    aims = field.aims
    latest_s = aims.ttft_s if aims.stated else inf
    return [option for option in field.late if _wait_s(option) <= latest_s and _keeps_gates(option, aims)]


def _keeps_gates(option: Option, aims: Aims) -> bool:
    """Whether what is predicted is what gates ask for, at the least."""
    if option.placed is None:
        return True
    prediction = option.placed.prediction
    return prediction.ttft_s <= aims.required_ttft_s and prediction.itl_s <= aims.required_itl_s


def _outbid(firsts: list[Option], facts: Facts, outlook: Outlook) -> tuple[list[Option], Exclusion | None]:
    """Shared targets first, where others will pay more for the engine time that the request would take."""
    first = firsts[0]
    if first.entry.steps is None or not _spills(firsts):
        return firsts, None
    prices = [option.entry.target.price for option in firsts if not option.entry.dedicated]
    outbid = worth_less(first.entry.steps, prices, facts, outlook)
    return (firsts, None) if outbid is None else (sorted(firsts, key=lambda one: one.entry.dedicated), outbid)


def _all_able(lawful: Lawful, facts: Facts, moment: Moment, room: Room) -> bool:
    route, now = lawful.route, moment.now
    for entry in lawful.entries:
        target = entry.target
        (reading,) = moment.readings.get(target.name) or entry.unseen
        if reading.load is not None and entry.steps is not None:
            return False
        if reading.breaker is Breaker.OPEN or reading.full_until > now or reading.paced_until > now:
            return False
        if not room.has_room(target, reading, facts):
            return False
        if entry.picky and gates.unfit(target, route.require, facts):
            return False
        if lawful.gated and missed_by_reading(route.require, reading):
            return False
        if lawful.varies and wants.missed_now(target, route.want, facts, reading):
            return False
    return True


def _uncondemned(require: Rules, usable: list[Reading]) -> list[Reading]:
    """The replicas that are not measured to break a rule under `require`."""
    return [reading for reading in usable if not missed_by_reading(require, reading)]


def _shadow_now(lawful: Lawful, options: list[Option], facts: Facts) -> tuple[Exclusion, ...]:
    """What shadow rules find in the request and the readings; what the policy alone settles is known beforehand."""
    found: list[Exclusion] = []
    rules = lawful.route.shadow_require
    for option in options:
        target, reading = option.entry.target, option.reading
        hard = missed_by_reading(rules, reading)
        too_dear = missed_by_request(target, rules, facts, strict=True)
        found += gates.recorded(target, hard if too_dear is None else (*hard, too_dear))
        found += wants.missed_now(target, lawful.route.shadow_want, facts, reading)
    return tuple(found)


def _reordered(
    lawful: Lawful, options: list[Option], misses: list[Misses]
) -> tuple[list[Option], Exclusion | None, bool]:
    """The options by what was measured of them; `misses` are theirs, one tuple each.

    Also returned: the miss that put a dedicated target behind a shared one, if one did, and whether the option that is
    now first misses a want.
    """
    by_latency = lawful.route.prefer is Prefer.LATENCY

    def rank(ranked: tuple[Option, Misses]) -> tuple[int, bool, float]:
        option, missed = ranked
        ttft_s = option.reading.latency.ttft_p99_s if by_latency else 0.0
        return len(option.entry.missed) + len(missed), ttft_s is None, ttft_s or 0.0

    ranked = sorted(zip(options, misses, strict=True), key=rank)
    first, missed_first = ranked[0]
    demoted = options[0].entry.dedicated and not first.entry.dedicated and misses[0]
    missed_any = bool(first.entry.missed or missed_first)
    return [option for option, _ in ranked], demoted[0] if demoted else None, missed_any


def _attempts(lawful: Lawful, options: list[Option], spilled: Exclusion | None, field: _Field) -> tuple[Attempt, ...]:
    cause, reason = Cause.PREFERRED, lawful.reason
    if spilled is not None and not options[0].entry.dedicated and lawful.route.prefer is not Prefer.SHARED:
        cause, reason = Cause.SPILLOVER, spill_reason(spilled)
    attempts = []
    for ordinal, option in enumerate(options):
        entry = option.entry
        attempts.append(
            Attempt(
                target=entry.target,
                replica=option.reading.replica,
                model=entry.model,
                ordinal=ordinal,
                cause=cause,
                reason=reason,
                estimate=_estimate(option.placed, field),
            )
        )
        cause, reason = Cause.FALLBACK, FALLBACK_REASON
    return tuple(attempts)


def _estimate(placed: Placed | None, field: _Field) -> Estimate | None:
    return None if placed is None else estimate(placed, field.facts, field.aims, field.moment.outlook)


def spill_reason(exclusion: Exclusion) -> str:
    """Why a dedicated target was left before anything failed, in the words of headers, logs and `explain`."""
    name, observed = exclusion.target, exclusion.observed
    match exclusion.rule:
        case "ttft" | "itl":
            predicted, _, state = observed.removeprefix("predicted ").partition(" (")
            return f"spilled: predicted {exclusion.rule} {predicted} > {exclusion.limit} ({state} on {name}"
        case "capacity":
            return f"dedicated at capacity: {observed} on {name}"
        case "engine_full":
            return f"engine full: {name} {observed}"
        case "breaker":
            return f"out of rotation: {name} is {observed}"
        case "asleep":
            return f"asleep: {observed} of {name}"
        case rule:
            return f"{rule}: {observed} on {name} against {exclusion.limit}"


def _soonest_s(lawful: Lawful, field: _Field) -> float:
    """When to come again: when the first target may be able, or the shortest wait be over."""
    readings, now, patience_s = field.moment.readings, field.moment.now, field.aims.ttft_s
    if field.late:
        over_s = min(map(_wait_s, field.late)) - patience_s
        return min(max(over_s, MIN_RETRY_AFTER_S), MAX_RETRY_AFTER_S)
    return min(retry_after_s(readings.get(entry.target.name) or entry.unseen, now) for entry in lawful.entries)
