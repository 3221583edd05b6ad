"""The background task between this process and the store. No request ever waits for it.

Theory of operation
-------------------
Every `interval_s` one round trip puts the question of every part (`part.py`) and hands each its answer: the counters
push what was counted since the last one, the gauges show what is in flight here and fetch what is elsewhere, and so on.
While the store is away the parts keep what they have in memory; attempts back off, with jitter, so that a returning
store is not met by every proxy at once, but no longer than a second, since leases wait for it.

The store's clock is the only wall time of the meters. Between replies it is told from the monotonic clock.

The supervisor at the top of `_run` is one of the two places that catch every exception: a fault in here may cost
freshness, never a request, and is logged when it begins and when it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from proxy.meters.counters import Counters
from proxy.meters.part import Ask, Durable, Moment, Part
from proxy.meters.report import MeterReport, report
from proxy.meters.store import Store, StoreError
from proxy.meters.summary import Summary, summarise
from proxy.meters.window import Window
from proxy.policy.model import Snapshot

_log = logging.getLogger(__name__)

INTERVAL_S = 0.2
JITTER = 0.1
MAX_BACKOFF_S = 1.0
FOLD_EVERY_S = 60.0
SAMPLE_EVERY_S = 5.0
FLUSH_S = 5.0
PUSHES_PER_SYNC = 8


class Journal(Protocol):
    """What this process has counted, where it outlives the process: a `meters.journal.Journal`."""

    def mark(self, at_ms: int = 0) -> int:
        """How far has been noted, at the store's time `at_ms`, 0 when that is not known."""
        ...

    def checkpoint(self, mark: int) -> None:
        """Everything noted up to `mark` is in the store."""
        ...


class Sync:
    """Keeps `store` and the parts of this process up to date with one another.

    `counters` come first in every exchange, and are pushed again at once while more of them wait; `parts` take part in
    the first exchange of each sync. The `journal` is told what it need not keep for them any more: what the counters
    and those of the parts that are `durable` know to be in the store.
    """

    def __init__(
        self,
        store: Store,
        counters: Counters,
        parts: Sequence[Part] = (),
        *,
        journal: Journal | None = None,
        durable: Sequence[Durable] = (),
        interval_s: float = INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._counters = counters
        self._parts: tuple[Part, ...] = (counters, *parts)
        self._journal = journal
        self._durable: tuple[Durable, ...] = (counters, *durable)
        self._window = Window()
        self._processes = 0
        self._known: tuple[Summary, Snapshot, MeterReport] | None = None
        self._interval_s = interval_s
        self._clock = clock
        # The store's time in milliseconds when this process's clock stood at zero, by the last reply.
        self._offset_ms: int | None = None
        self._failures = 0
        self._fold_due = clock() + FOLD_EVERY_S
        self._sample_due = clock()
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self.connected = False
        self.last_sync_at: float | None = None
        self._started_at = clock()

    @property
    def lag_s(self) -> float:
        """Seconds since everything then counted was last known to be in the store; since the start if it never was."""
        return self._clock() - (self._started_at if self.last_sync_at is None else self.last_sync_at)

    def store_ms(self, now: float) -> int | None:
        """The store's clock, Unix time in milliseconds, at monotonic time `now`; None until it was heard once."""
        return None if self._offset_ms is None else self._offset_ms + int(now * 1000.0)

    def start(self) -> None:
        """Begin syncing on the running event loop."""
        self._started_at = self._clock()
        self._task = asyncio.create_task(self._run(), name="meters-sync")

    async def aclose(self) -> None:
        """Stop, after one last push; gives up after `FLUSH_S` when the store is away. Closes the store.

        The task is told rather than cancelled: a cancelled round trip may have reached the store or not, and this
        process would be gone before it could find out.
        """
        self._stopping.set()
        if self._task is not None:
            await self._task
            self._task = None
        try:
            async with asyncio.timeout(FLUSH_S):
                await self._sync(last=True)
        except (StoreError, TimeoutError) as error:
            _log.warning("the last counts of this process did not reach the store: %s", error)
        await self._store.aclose()

    async def sync(self) -> None:
        """One sync, now. Raises StoreError."""
        await self._sync(last=False)
        self._succeeded()

    async def report(self, snapshot: Snapshot) -> MeterReport:
        """What everybody has counted so far, and over the last minutes. Raises StoreError."""
        totals = await self._store.read_totals()
        return self._report(summarise(totals), snapshot, totals.processes)

    def known_report(self, snapshot: Snapshot) -> MeterReport | None:
        """The same as of the last sample, a few seconds ago, without asking the store; None while it is away."""
        latest = self._window.latest
        if latest is None or not self.connected:
            return None
        if self._known is None or self._known[0] is not latest or self._known[1] is not snapshot:
            self._known = latest, snapshot, self._report(latest, snapshot, self._processes)
        return self._known[2]

    def _report(self, latest: Summary, snapshot: Snapshot, processes: int) -> MeterReport:
        return report(
            latest,
            self._window.before(latest),
            snapshot.targets,
            snapshot.models,
            connected=self.connected,
            lag_s=self.lag_s,
            processes=processes,
        )

    async def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._sync(last=False)
                await self._housekeeping()
                self._succeeded()
            except StoreError as error:
                self._failed(str(error))
            except Exception as error:  # noqa: BLE001  (the supervisor)
                self._failed(f"{type(error).__name__}: {error}", trace=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s()):
                    await self._stopping.wait()

    async def _sync(self, *, last: bool) -> None:
        # Nothing is awaited between the mark and the questions, so they cover all that is noted up to it.
        mark = 0 if self._journal is None else self._journal.mark(self.store_ms(self._clock()) or 0)
        moment = await self._exchange(self._parts, last=last)
        pushes = 1
        while not self._counters.settled and (last or pushes < PUSHES_PER_SYNC):
            moment = await self._exchange((self._counters,), last=last)
            pushes += 1
        if self._counters.settled:
            self.last_sync_at = moment.now
        if self._journal is not None and all(part.settled for part in self._durable):
            self._journal.checkpoint(mark)

    async def _exchange(self, parts: Sequence[Part], *, last: bool) -> Moment:
        now = self._clock()
        moment = Moment(self._counters.process, now, self.store_ms(now), last)
        asked: list[tuple[Part, Ask]] = []
        try:
            for part in parts:
                ask = part.ask(moment)
                if ask is not None:
                    asked.append((part, ask))
            heard, replies = await self._store.exchange(moment, [(part.name, ask) for part, ask in asked])
        except BaseException:
            for part, _ in asked:
                part.unheard(moment)
            raise
        self._offset_ms = heard.store_ms - int(self._clock() * 1000.0)
        for (part, _), reply in zip(asked, replies, strict=True):
            part.told(reply, heard, moment)
        if heard.forgot:
            await self._store.restore()
        return moment

    async def _housekeeping(self) -> None:
        now = self._clock()
        if now >= self._fold_due:
            self._fold_due = now + FOLD_EVERY_S
            await self._store.fold_dead()
        if now >= self._sample_due:
            self._sample_due = now + SAMPLE_EVERY_S
            totals = await self._store.read_totals()
            self._processes = totals.processes
            self._window.add(summarise(totals))

    def _succeeded(self) -> None:
        if self._failures:
            _log.warning("the store is back after %d failed syncs", self._failures)
        self._failures = 0
        self.connected = True

    def _failed(self, reason: str, *, trace: bool = False) -> None:
        if not self._failures:
            _log.warning("metering to memory only: %s", reason, exc_info=trace)
        self._failures += 1
        self.connected = False

    def _pause_s(self) -> float:
        if not self._failures:
            return self._interval_s * random.uniform(1.0 - JITTER, 1.0 + JITTER)  # noqa: S311
        longest = min(MAX_BACKOFF_S, self._interval_s * 2.0 ** min(self._failures, 16))
        return random.uniform(self._interval_s, longest)  # noqa: S311
