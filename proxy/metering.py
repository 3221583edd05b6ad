"""All that counts and holds money in one process: what the path asks, the sync that shares it, and how it stands.

Theory of operation
-------------------
The path of a request sees memory only: `ledger`, `purse` and `rates`. One sync tells the store of them all and brings
back what the others have done. What would be lost with this process is in its journal, and what another process has
left in one is taken over at the start. Of everything that does not work as it should, `degraded` says what and since
when; nothing of it keeps a request from being served that needs no money.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client.core import Metric

from proxy.gauges import GpuCounters, price_gauges
from proxy.meters.aggregates import Grain, Row
from proxy.meters.buckets import Buckets
from proxy.meters.counters import Counters
from proxy.meters.demand_rows import demand_lines
from proxy.meters.escrow import Alert, Escrow
from proxy.meters.gauges import Gauges
from proxy.meters.gpu_hours import GpuClock, GpuRow
from proxy.meters.hold import Events, Holds
from proxy.meters.journal import Journal
from proxy.meters.ledger import Ledger
from proxy.meters.left_behind import recover
from proxy.meters.money import NANO_PER_USD
from proxy.meters.part import Part
from proxy.meters.provisioned import Provisioned
from proxy.meters.recovery import take_over
from proxy.meters.report import MeterReport
from proxy.meters.standing import JournalStanding, Standing
from proxy.meters.store import Store, StoreError
from proxy.meters.sync import Sync
from proxy.meters.usage_rows import usage_lines
from proxy.meters.work_bins import WorkBins
from proxy.meters.work_pools import Pools
from proxy.policy.model import Snapshot, Target
from proxy.routing.facts import Facts
from proxy.routing.plan import Refusal
from proxy.routing.table import Lawful
from proxy.settings import Settings
from proxy.telemetry.metrics import count, gauge
from proxy.telemetry.records import Record

_log = logging.getLogger(__name__)

FIRST_LEASES_S = 1.0


class Metering:
    """See the module's text. `in_flight` gives this process's gauges, `absorb` takes the sum of the others'; `lawful`
    tells which targets a request may reach.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        settings: Settings,
        store_url: str,
        events: Events,
        in_flight: Callable[[], Mapping[str, int]],
        absorb: Callable[[Mapping[str, int]], None],
        lawful: Callable[[Facts], Lawful | Refusal],
    ) -> None:
        self._snapshot = snapshot
        self._alerts: Counter[tuple[str, str, str]] = Counter()
        process = secrets.token_hex(8)
        self._journals = settings.data_dir / "journal"
        self._journal = Journal.open(self._journals, process)
        self.ledger = Ledger(self._journal)
        self._counters = Counters(process, self.ledger)
        self._escrow = Escrow(self._alert, self._journal)
        self.purse = Holds(self._escrow, events)
        self.rates = Buckets(expected_members=settings.workers)
        self._provisioned = Provisioned(self._fleet)
        gauges = Gauges(in_flight, absorb)
        self._gpus = GpuClock(self._fleet, gauges.everywhere, self._provisioned.replicas)
        self._gpu_counters = GpuCounters()
        self._lawful = lawful
        self._pools = Pools(snapshot, lawful)
        self._work_bins = WorkBins(lambda: self._pools, (time.time() - time.monotonic()) * 1000.0)
        self._store = Store(store_url)
        parts: list[Part] = [self._escrow, self.rates, gauges, self._gpus, self._work_bins]
        self._sync = Sync(self._store, self._counters, parts, journal=self._journal)
        self.adopt(snapshot)

    async def start(self) -> None:
        """Take over what the dead have left, ask for the first leases, and begin to sync."""
        lefts = recover(self._journals)
        take_over(lefts, self._counters, self._escrow)
        self.rates.bury(left.slot for left in lefts)
        self._provisioned.start()
        await self._first_leases()
        self._sync.start()

    async def aclose(self) -> None:
        """Tell the store the last of it."""
        await self._provisioned.aclose()
        await self._sync.aclose()
        self._journal.close()

    def adopt(self, snapshot: Snapshot) -> None:
        """Follow another policy; what is held under the one before it stays held."""
        self._snapshot = snapshot
        self._pools = Pools(snapshot, self._lawful)
        self._escrow.adopt(snapshot.budgets)
        self.rates.adopt(snapshot)

    def degraded(self) -> Mapping[str, str]:
        """What does not work as it should, by part."""
        found: dict[str, str] = {}
        if not self._sync.connected:
            found["meters"] = f"the store is out of reach; counting in memory for {self._sync.lag_s:.0f} s"
        if not self._journal.on_disk:
            found["journal"] = "not on disk: a crash would lose what the store does not have yet"
        if stale := self._provisioned.stale():
            found["replicas"] = f"nobody can say how many replicas stand behind {', '.join(stale)}"
        return found

    async def report(self) -> bytes | None:
        """The body of `/admin/meters`; None while the store is away."""
        try:
            return (await self._sync.report(self._snapshot)).to_json()
        except StoreError:
            return None

    def known_report(self) -> MeterReport | None:
        """The report as of a few seconds ago, without asking the store; None while it is away."""
        return self._sync.known_report(self._snapshot)

    async def hours(self, from_s: float, to_s: float) -> tuple[list[Row], list[GpuRow]]:
        """What each series counted and each dedicated target accrued in these hours. Raises StoreError."""
        return await self._store.rows(from_s, to_s, Grain.HOUR), await self._store.gpu_rows(from_s, to_s)

    def standing(self) -> Standing:
        """How budgets, rates and the journal stand, as far as this process knows."""
        now = time.monotonic()
        journal, path = self._journal, self._journal.path
        return Standing(
            budgets=tuple(self._escrow.standings(now)),
            rates=self.rates.standings(now),
            journal=None
            if path is None
            else JournalStanding(
                path=str(path),
                size_bytes=journal.size_bytes,
                max_bytes=journal.max_bytes,
                waiting=journal.waiting,
                refused=journal.dropped,
            ),
            degraded=dict(self.degraded()),
        )

    def usage(self, from_s: int, to_s: int, grain: Grain) -> AsyncIterator[bytes]:
        """The ledger's rows, as lines. Raises StoreError."""
        targets = self._snapshot.targets.values()
        return usage_lines(from_s, to_s, grain, self._store.rows, self._store.gpu_rows, targets)

    def note(self, record: Record, now: float) -> None:
        """Meter what a request wanted, whoever served it; it is over since a moment ago."""
        self._work_bins.note(record.facts, record.decision, record.outcomes, now - record.duration_s)

    def demand(self, from_s: int, to_s: int) -> AsyncIterator[bytes]:
        """The work that was asked for in these hours, as lines. Raises StoreError."""
        return demand_lines(from_s, to_s, self._store.demand)

    async def claim(self, name: str, for_s: float) -> bool:
        """Whether this process is to do what is done once in so long; while the store is away, each is."""
        try:
            return await self._store.claim(name, for_s)
        except StoreError:
            return True

    async def release(self, name: str) -> None:
        """It may be done again."""
        with contextlib.suppress(StoreError):
            await self._store.release(name)

    def metrics(self) -> Iterator[Metric]:
        """What Prometheus is told of it."""
        yield gauge("redis_up", "Whether the last sync reached the store", ({}, float(self._sync.connected)))
        yield gauge("sync_age_seconds", "Since all counts were known to be stored", ({}, self._sync.lag_s))
        yield gauge("journal_on_disk", "Whether counts outlive a crash", ({}, float(self._journal.on_disk)))
        yield gauge("journal_bytes", "How much of the journal's file is in use", ({}, self._journal.size_bytes))
        yield count("journal_dropped", "Notes for which the journal had no room", ({}, self._journal.dropped))
        yield from self._gpu_counters.families(self._gpus.totals)
        known = self.known_report()
        yield from price_gauges(None if known is None else known.recent)
        standings = self._escrow.standings(time.monotonic())

        def per_budget(name: str, help: str, read: Any) -> Metric:  # noqa: A002
            labelled = [({"budget": one.name, "window": one.per}, read(one) / NANO_PER_USD) for one in standings]
            return gauge(name, help, *labelled)

        yield per_budget("budget_limit_usd", "What may be spent in the window", lambda one: one.limit_nano_usd)
        yield per_budget("budget_spent_usd", "Spent in the present window", lambda one: one.spent_nano_usd)
        yield per_budget("budget_held_usd", "Set aside for requests, or leased", lambda one: one.held_nano_usd)
        alerts = [({"budget": name, "window": per, "percent": at}, n) for (name, per, at), n in self._alerts.items()]
        yield count("budget_alerts", "Thresholds of budgets that were passed", *alerts)

    async def _first_leases(self) -> None:
        """Ask for the first leases before the first request comes. The windows of budgets need the store's time, which
        is in the first reply. Without a store the proxy serves all the same.
        """
        if not self._escrow and not self.rates:
            return
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(FIRST_LEASES_S):
                await self._sync.sync()
                await self._sync.sync()

    def _fleet(self) -> Iterable[Target]:
        return self._snapshot.targets.values()

    def _alert(self, alert: Alert) -> None:
        self._alerts[alert.budget, alert.per, str(alert.percent)] += 1
        spent, limit = alert.spent_nano_usd / NANO_PER_USD, alert.limit_nano_usd / NANO_PER_USD
        text = "budget %s has spent %d %% of its limit: $%.2f of $%.2f, per %s"
        _log.warning(text, alert.budget, alert.percent, spent, limit, alert.per)
