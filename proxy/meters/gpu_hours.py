"""What dedicated GPUs cost: they accrue by the clock, idle or not, once per cluster.

Theory of operation
-------------------
The store keeps, for each dedicated target, a *mark*: the store's own time up to which it has accrued. Every process
asks it, at every sync, to accrue up to now; whoever comes first moves the mark, and the others find nothing left to
add. So a replica-hour is counted once however many proxies and workers there are (`lua/accrue.lua`).

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

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from proxy.meters.fields import gauge
from proxy.policy.model import Lane, Target

BRIDGE_S = 60.0
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
    """This process's half of the accrual: since when it can vouch for each target, and the sums it last saw."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._seen: dict[str, GpuTotals] = {}

    @property
    def totals(self) -> Mapping[str, GpuTotals]:
        """By dedicated target, what the whole cluster had accrued when this process last heard."""
        return self._seen

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
