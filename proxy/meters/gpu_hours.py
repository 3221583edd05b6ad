"""What dedicated GPUs cost: they accrue by the clock, idle or not, once per cluster.

Theory of operation
-------------------
The store keeps, for each dedicated target, a *mark*: the store's own time up to which it has accrued. Every process
asks it, at every sync, to accrue up to now; whoever comes first moves the mark, and the others find nothing left to
add. So a replica-hour is counted once however many proxies and workers there are (`lua/gpu.lua`). What accrues is
integrated piece by piece (`gpu_watch`, `gpu_price`): the number of replicas as it was seen, to within one sync, and the
price as the policy has it, to the millisecond and the nano-USD. It is added to a total, and to the hour it falls in.

A gap since the mark is bridged whole when it is short (`BRIDGE_S`: a restart does not stop the GPUs). Of a longer gap
only the part is charged that the caller vouches for: the time since it last saw the target accrue, on its own monotonic
clock. So an outage of the store is charged in full by the proxies that lived through it, and a night in which no proxy
ran at all is not. What the first to return cannot vouch for stays open for those who can: a proxy that was restarted
during an outage takes nothing away.

Sums, and the mark that they stand at, come back with every call and are offered again with the next one: the store
keeps the greater, so one surviving process restores them after the store was wiped or has failed over to a copy that
lagged. While the store is *learning* (`part.Heard`) nothing accrues, so that the sums of all who live are in before
anything is added to them; afterwards the time is made up for. Of the hours, a process tells again those that it has
seen within `REMEMBERED_HOURS`.

The store's clock may be set, or another server's may be off. A step by more than `BRIDGE_S`, forwards or backwards, is
seen by whoever lived through it, on the monotonic clock, and taken out; where no process did, the time between the last
accrual and the first after the step is not charged. A smaller step counts as the time that it seems to be: at most
`BRIDGE_S` for each step. Two steps that cancel each other while a process is cut off escape it: where it is the first
to return, it counts again what the others did between them.

A replica is *busy* in an interval when it has at least one request in flight, from any proxy, at its end. Over many
intervals that samples the share of time it is not idle; it does not say how full it is. Where several replicas stand
behind one URL, a request in flight there keeps one of them busy, as long as there is another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from proxy.meters.gpu_watch import Piece, Watch
from proxy.meters.part import Ask, Heard, Moment
from proxy.policy.discovery import replica_key
from proxy.policy.model import Lane, Target

BRIDGE_S = 300.0
SHORTEST_ACCRUAL_S = 0.1
STEP_S = 2.0
"""Two readings of the store's clock that differ by more than this, a round trip apart, have a step between them."""
KEEP_HOURS_S = 400 * 86400.0
REMEMBERED_HOURS = 48
MS_PER_HOUR = 3_600_000
KEYS = ("gpu", "gpuhour:")


class GpuTotals(msgspec.Struct, frozen=True, gc=False):
    """What one dedicated target has accrued: replica- and GPU-milliseconds, and nano-USD.

    `busy_nano_usd` is what the busy replicas cost, of `nano_usd`. All but the first two are 0 for a target whose policy
    names no `gpus`.
    """

    replica_ms: int = 0
    busy_replica_ms: int = 0
    gpu_ms: int = 0
    nano_usd: int = 0
    busy_nano_usd: int = 0

    @property
    def busy_gpu_ms(self) -> int:
        """The time of the GPUs in busy replicas, over the average number of them in one."""
        return self.gpu_ms * self.busy_replica_ms // self.replica_ms if self.replica_ms else 0

    @property
    def idle_gpu_ms(self) -> int:
        """The rest of the time of the GPUs."""
        return self.gpu_ms - self.busy_gpu_ms

    @property
    def idle_nano_usd(self) -> int:
        """What was paid for replicas that had nothing to do, or were reserved and did not run."""
        return self.nano_usd - self.busy_nano_usd

    @property
    def priced(self) -> bool:
        """Whether the policy says, or has said, what GPUs there are."""
        return bool(self.gpu_ms or self.nano_usd)

    def __sub__(self, earlier: GpuTotals) -> GpuTotals:
        mine, theirs = msgspec.structs.astuple(self), msgspec.structs.astuple(earlier)
        return GpuTotals(*(a - b for a, b in zip(mine, theirs, strict=True)))

    def __or__(self, other: GpuTotals) -> GpuTotals:
        """The greater of each: of two readings of sums that only grow, all that is known."""
        mine, theirs = msgspec.structs.astuple(self), msgspec.structs.astuple(other)
        return GpuTotals(*map(max, mine, theirs))


class GpuRow(NamedTuple):
    """What one dedicated target accrued in the hour from `start_s`, Unix time."""

    start_s: int
    target: str
    totals: GpuTotals


Hours = Mapping[str, GpuTotals]
"""By hour of UTC, as `YYYYMMDDTHH`."""


class Accrual(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One target's part of one call: what was there, the time this process vouches for, and what it last saw.

    `stepped_ms` is by how much the store's clock was set since this process last saw the target accrue.
    """

    target: str
    pieces: tuple[Piece, ...]
    vouched_ms: int
    stepped_ms: int = 0
    seen_mark_ms: int = 0
    seen: GpuTotals = GpuTotals()
    hours: Hours = {}


class Accrued(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The answer for one target: up to when it has accrued (0 for never), and how much; the latest hours too."""

    mark_ms: int
    totals: GpuTotals
    hours: Hours


class _Known:
    """What this process knows of one target."""

    __slots__ = ("hours", "mark_ms", "seen", "stepped_ms", "watch")

    def __init__(self) -> None:
        self.watch: Watch | None = None
        self.seen = GpuTotals()
        self.mark_ms = 0
        self.stepped_ms = 0
        self.hours: dict[str, GpuTotals] = {}


def replicas_by_policy(target: Target) -> int | None:
    """How many replicas stand behind `target`; None where the policy leaves the count to somebody else."""
    return target.replicas if target.gpus is None else target.gpus.behind(target.replicas)


class GpuClock:
    """The part `gpu`: since when this process can vouch for each target, and the sums it last saw.

    `fleet` are the targets of the current policy; `in_flight` is over all proxies, by gauge name. `replicas` says how
    many there are of a target; while it answers None, which is "not known yet", the target is not watched.
    """

    name = "gpu"

    def __init__(
        self,
        fleet: Callable[[], Iterable[Target]],
        in_flight: Callable[[], Mapping[str, int]],
        replicas: Callable[[Target], int | None] = replicas_by_policy,
        *,
        keep_hours_s: float = KEEP_HOURS_S,
    ) -> None:
        self._fleet, self._in_flight, self._replicas = fleet, in_flight, replicas
        self._keep_hours_s = keep_hours_s
        self._known: dict[str, _Known] = {}
        self._asked: tuple[str, ...] = ()
        self._retell = False

    @property
    def totals(self) -> Mapping[str, GpuTotals]:
        """By dedicated target, what the whole cluster had accrued when this process last heard."""
        return {target: known.seen for target, known in self._known.items() if known.mark_ms}

    def ask(self, moment: Moment) -> Ask | None:
        """Accrue up to now; nothing to ask without dedicated targets, or before the store's time is known."""
        watched = self._look(moment.now)
        self._asked = tuple(watched)
        if not watched or moment.store_ms is None:
            return None
        accruals = [self._accrual(name, watch, moment.now, moment.store_ms) for name, watch in watched.items()]
        return question(accruals, moment.store_ms, self._keep_hours_s)

    def told(self, reply: Any, heard: Heard, moment: Moment) -> None:
        """The sums of the whole cluster."""
        assert moment.store_ms is not None, "asked only when the time was known"
        step_ms = heard.store_ms - moment.store_ms
        stepped = heard.learning and abs(step_ms) > STEP_S * 1000.0
        self._retell = heard.learning
        for name, accrued in answer(reply).items():
            known = self._known[name]
            known.seen = accrued.totals
            # On a clock that was set, what we know is worth as much as before: in its new terms.
            known.mark_ms = known.mark_ms + step_ms if stepped and known.mark_ms else accrued.mark_ms
            known.stepped_ms += step_ms if stepped else 0
            _remember(known.hours, accrued.hours)
            if known.watch is not None and not heard.learning:
                known.stepped_ms = 0
                known.watch.accrued(moment.now - max(0, heard.store_ms - accrued.mark_ms) / 1000.0)

    def unheard(self, moment: Moment) -> None:
        """The time is vouched for at the next sync."""

    def _look(self, now: float) -> dict[str, Watch]:
        """The targets that can be vouched for, each looked at now."""
        in_flight, watched = self._in_flight(), {}
        for target in self._fleet():
            replicas = self._replicas(target) if target.lane is Lane.DEDICATED else None
            if replicas is not None:
                known = self._known.setdefault(target.name, _Known())
                known.watch = known.watch or Watch(now)
                known.watch.look(now, target.gpus, replicas, _busy(target, replicas, in_flight))
                watched[target.name] = known.watch
        # A target that leaves the policy is no longer vouched for, should it ever come back.
        for name in self._known.keys() - watched.keys():
            self._known[name].watch = None
        return watched

    def _accrual(self, target: str, watch: Watch, now: float, store_ms: int) -> Accrual:
        known = self._known[target]
        begin = min(watch.since, now - BRIDGE_S)
        return Accrual(
            target=target,
            pieces=tuple(watch.pieces(begin, now + STEP_S, store_ms + round(STEP_S * 1000.0))),
            vouched_ms=round((now - watch.since) * 1000.0),
            stepped_ms=known.stepped_ms,
            seen_mark_ms=known.mark_ms,
            seen=known.seen,
            hours=known.hours if self._retell else {},
        )


def _busy(target: Target, replicas: int, in_flight: Mapping[str, int]) -> int:
    """How many of the replicas have something to do, as far as the requests at their URLs tell."""
    urls = target.addresses
    behind_each = -(-replicas // max(1, len(urls)))
    busy = (min(behind_each, in_flight.get(replica_key(target.name, url), 0)) for url in urls)
    return min(replicas, sum(busy))


def _remember(hours: dict[str, GpuTotals], latest: Hours) -> None:
    for hour, totals in latest.items():
        # A store that was wiped knows less than we do, until it is told.
        if totals != GpuTotals():
            hours[hour] = totals | hours.get(hour, GpuTotals())
    for hour in sorted(hours)[:-REMEMBERED_HOURS]:
        del hours[hour]


def gpus_by_target(fields: Mapping[str, int]) -> dict[str, GpuTotals]:
    """What a `gpu` hash holds, or one of an hour, by target."""
    sums = GpuTotals.__struct_fields__
    targets = {name.partition("|")[2] for name in fields}
    return {target: GpuTotals(*(fields.get(f"{name}|{target}", 0) for name in sums)) for target in targets}


def question(accruals: Sequence[Accrual], expected_ms: int, keep_hours_s: float = KEEP_HOURS_S) -> Ask:
    """How accruals are put to the store, whose time is thought to be `expected_ms`."""
    asked = {
        "bridge_ms": int(BRIDGE_S * 1000),
        "shortest_ms": int(SHORTEST_ACCRUAL_S * 1000),
        "step_ms": int(STEP_S * 1000),
        "keep_ms": int(keep_hours_s * 1000),
        "expected_ms": expected_ms,
        "accruals": [_entry(accrual) for accrual in accruals],
    }
    return Ask(KEYS, msgspec.json.encode(asked))


def answer(reply: Sequence[Sequence[Any]]) -> dict[str, Accrued]:
    """What the store answers, by target."""
    return {
        target.decode(): Accrued(
            mark_ms=int(mark),
            totals=_totals(sums),
            hours={hour.decode(): _totals(of_hour) for hour, of_hour in zip(hours[::2], hours[1::2], strict=True)},
        )
        for target, mark, sums, hours in reply
    }


def _entry(accrual: Accrual) -> dict[str, Any]:
    entry = msgspec.structs.asdict(accrual)
    entry["seen"] = _decimals(accrual.seen)
    entry["hours"] = {hour: _decimals(totals) for hour, totals in accrual.hours.items()}
    return entry


def _decimals(totals: GpuTotals) -> list[str]:
    """Sums travel as decimal strings: JSON numbers become doubles inside the store."""
    return [str(amount) for amount in msgspec.structs.astuple(totals)]


def _totals(sums: Iterable[bytes | None]) -> GpuTotals:
    return GpuTotals(*(int(amount or 0) for amount in sums))
