"""What dedicated GPUs cost: they accrue by the clock, idle or not, once per cluster.

Theory of operation
-------------------
The store keeps, for each dedicated target, a *mark*: the store's own time up to which it has accrued. Every process
asks it, at every sync, to accrue up to now; whoever comes first moves the mark, and the others find nothing left to
add. So a replica-hour is counted once however many proxies and workers there are (`lua/gpu.lua`).

A gap since the mark is bridged whole when it is short (`BRIDGE_S`: a restart does not stop the GPUs). Of a longer gap
only the part is charged that the caller vouches for: the time since it last saw the target accrue, on its own monotonic
clock. So an outage of the store is charged in full by the proxies that lived through it, and a night in which no proxy
ran at all is not. The number of replicas is taken at the end of each interval, which is at most one sync long.

A replica is *busy* in an interval when it has at least one request in flight, from any proxy, at its end. Over many
intervals that samples the share of time it is not idle; it does not say how full it is.

Accrued sums come back with every call, and are offered again with the next one: the store keeps the greater, so one
surviving process restores them after the store was wiped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import orjson

from proxy.meters.fields import gauge
from proxy.meters.part import Ask, Heard, Moment
from proxy.policy.model import Lane, Target

BRIDGE_S = 60.0
SHORTEST_ACCRUAL_S = 0.1
MS_PER_HOUR = 3_600_000


class GpuTotals(msgspec.Struct, frozen=True, gc=False):
    """What one dedicated target has accrued: replica- and GPU-milliseconds, and nano-USD.

    `nano_usd` is 0, and `gpu_ms` too, for a target whose policy names no `gpus`.
    """

    replica_ms: int = 0
    busy_replica_ms: int = 0
    gpu_ms: int = 0
    nano_usd: int = 0

    def __sub__(self, earlier: GpuTotals) -> GpuTotals:
        mine, theirs = msgspec.structs.astuple(self), msgspec.structs.astuple(earlier)
        return GpuTotals(*(a - b for a, b in zip(mine, theirs, strict=True)))


class Accrual(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One target's part of one call: what is provisioned, the time this process vouches for, the sums it last saw."""

    target: str
    replicas: int
    busy_replicas: int
    gpus: int
    nano_usd_per_hour: int
    vouched_ms: int
    seen: GpuTotals


class GpuClock:
    """The part `gpu`: since when this process can vouch for each target, and the sums it last saw.

    `fleet` are the targets of the current policy; `in_flight` is over all proxies, by gauge name.
    """

    name = "gpu"

    def __init__(self, fleet: Callable[[], Iterable[Target]], in_flight: Callable[[], Mapping[str, int]]) -> None:
        self._fleet, self._in_flight = fleet, in_flight
        self._since: dict[str, float] = {}
        self._seen: dict[str, GpuTotals] = {}
        self._asked: tuple[Accrual, ...] = ()

    @property
    def totals(self) -> Mapping[str, GpuTotals]:
        """By dedicated target, what the whole cluster had accrued when this process last heard."""
        return self._seen

    def ask(self, moment: Moment) -> Ask | None:
        """Accrue up to now; nothing to ask without dedicated targets."""
        self._asked = self.accruals(self._fleet(), self._in_flight(), moment.now)
        return question(self._asked) if self._asked else None

    def told(self, reply: Any, heard: Heard, moment: Moment) -> None:
        """The sums of the whole cluster."""
        self.accrued(self._asked, answer(reply), moment.now)

    def unheard(self, moment: Moment) -> None:
        """The time is vouched for at the next sync."""

    def accruals(self, fleet: Iterable[Target], in_flight: Mapping[str, int], now: float) -> tuple[Accrual, ...]:
        """What to ask of the store at monotonic time `now`; `in_flight` is over all proxies, by gauge name."""
        dedicated = [target for target in fleet if target.lane is Lane.DEDICATED]
        # A target that leaves the policy is no longer vouched for, should it ever come back.
        self._since = {target.name: self._since.get(target.name, now) for target in dedicated}
        return tuple(self._accrual(target, in_flight, now) for target in dedicated)

    def accrued(self, asked: Sequence[Accrual], totals: Mapping[str, GpuTotals], asked_at: float) -> None:
        """The store has accrued what was asked of it at monotonic time `asked_at`."""
        for accrual in asked:
            if accrual.target in self._since:
                self._since[accrual.target] = asked_at
        self._seen.update(totals)

    def _accrual(self, target: Target, in_flight: Mapping[str, int], now: float) -> Accrual:
        replicas = range(target.replicas)
        return Accrual(
            target=target.name,
            replicas=target.replicas,
            busy_replicas=sum(1 for replica in replicas if in_flight.get(gauge(target.name, replica), 0) > 0),
            gpus=target.replicas * target.gpus.count if target.gpus else 0,
            nano_usd_per_hour=target.replicas * target.gpus.replica_nano_usd_per_hour if target.gpus else 0,
            vouched_ms=int((now - self._since[target.name]) * 1000.0),
            seen=self._seen.get(target.name, GpuTotals()),
        )


def gpus_by_target(fields: Mapping[str, int]) -> dict[str, GpuTotals]:
    """What a `gpu` hash holds, by target."""
    sums = GpuTotals.__struct_fields__
    targets = {name.partition("|")[2] for name in fields}
    return {target: GpuTotals(*(fields.get(f"{name}|{target}", 0) for name in sums)) for target in targets}


def question(accruals: Sequence[Accrual]) -> Ask:
    """How accruals are put to the store."""
    entries = []
    for accrual in accruals:
        entry = msgspec.structs.asdict(accrual)
        # Sums travel as decimal strings: JSON numbers become doubles inside the store.
        entry["seen"] = {name: str(value) for name, value in msgspec.structs.asdict(accrual.seen).items()}
        entries.append(entry)
    asked = {"bridge_ms": int(BRIDGE_S * 1000), "shortest_ms": int(SHORTEST_ACCRUAL_S * 1000), "accruals": entries}
    return Ask(("gpu",), orjson.dumps(asked))


def answer(reply: Sequence[Sequence[bytes]]) -> dict[str, GpuTotals]:
    """The sums that the store answers with, by target."""
    return {target.decode(): GpuTotals(*map(int, sums)) for target, *sums in reply}
