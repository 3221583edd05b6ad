"""The background task between the ledger and the store. No request ever waits for it.

Theory of operation
-------------------
Every `interval_s` one round trip pushes what the ledger has counted since the last one, shows this process's
in-flight counts to the others and fetches theirs, and accrues GPU time. While the store is away the counters stay in
memory, where they only grow; the first push that gets through carries everything. Attempts then back off, with
jitter, so that a returning store is not met by every proxy at once.

The supervisor at the top of `_run` is one of the two places that catch every exception: a fault in here may cost
freshness, never a request, and is logged when it begins and when it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import time
from collections.abc import Callable, Iterable, Mapping

from proxy.meters.gpu_hours import GpuClock, GpuTotals
from proxy.meters.ledger import Ledger
from proxy.meters.report import MeterReport, report
from proxy.meters.slot import Accepted, Slot
from proxy.meters.store import Store, StoreError
from proxy.meters.summary import summarise
from proxy.meters.window import Window
from proxy.policy.model import Snapshot, Target

_log = logging.getLogger(__name__)

INTERVAL_S = 0.2
JITTER = 0.1
MAX_BACKOFF_S = 5.0
FOLD_EVERY_S = 60.0
SAMPLE_EVERY_S = 5.0
FLUSH_S = 5.0
_PUSHES_PER_SYNC = 8


class Sync:
    """Owns one slot in `store` and keeps it up to date with `ledger`.

    `fleet` are the targets of the current policy, `gauges` this process's in-flight counts by `fields.gauge` name, and
    `absorb` takes the sum of everybody else's, all of them at every sync: a name that is missing is zero.
    """

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        *,
        fleet: Callable[[], Iterable[Target]],
        gauges: Callable[[], Mapping[str, int]],
        absorb: Callable[[Mapping[str, int]], None],
        interval_s: float = INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._slot = Slot(ledger, lambda: secrets.token_hex(8))
        self._gpus = GpuClock()
        self._window = Window()
        self._fleet, self._gauges, self._absorb = fleet, gauges, absorb
        self._interval_s = interval_s
        self._clock = clock
        self._others: dict[str, int] = {}
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

    @property
    def gpus(self) -> Mapping[str, GpuTotals]:
        """What each dedicated target has accrued, over the whole cluster, as of the last sync."""
        return self._gpus.totals

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

    async def report(self, snapshot: Snapshot) -> MeterReport:
        """What everybody has counted so far, and over the last minutes. Raises StoreError."""
        totals = await self._store.read_totals()
        latest = summarise(totals)
        return report(
            latest,
            self._window.before(latest),
            snapshot.targets,
            snapshot.models,
            connected=self.connected,
            lag_s=self.lag_s,
            processes=totals.processes,
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
        now = self._clock()
        mine = {name: count for name, count in self._gauges().items() if count}
        accruals = self._gpus.accruals(self._fleet(), _added(mine, self._others), now)
        push = self._slot.next_push()
        exchanged = await self._store.exchange(push, None if last else mine, accruals)
        self._slot.replied(push, exchanged.push)
        self._gpus.accrued(accruals, exchanged.gpus, now)
        self._others = exchanged.gauges
        self._absorb(exchanged.gauges)
        for _ in range(_PUSHES_PER_SYNC):
            if self._slot.settled and isinstance(exchanged.push, Accepted):
                self.last_sync_at = now
                return
            push = self._slot.next_push()
            self._slot.replied(push, await self._store.push(push))

    async def _housekeeping(self) -> None:
        now = self._clock()
        if now >= self._fold_due:
            self._fold_due = now + FOLD_EVERY_S
            await self._store.fold_dead()
        if now >= self._sample_due:
            self._sample_due = now + SAMPLE_EVERY_S
            self._window.add(summarise(await self._store.read_totals()))

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
        # What the others have in flight is not known any more; whoever absorbed it lets it expire in its own time.
        self._others = {}

    def _pause_s(self) -> float:
        if not self._failures:
            return self._interval_s * random.uniform(1.0 - JITTER, 1.0 + JITTER)  # noqa: S311
        longest = min(MAX_BACKOFF_S, self._interval_s * 2.0 ** min(self._failures, 16))
        return random.uniform(self._interval_s, longest)  # noqa: S311


def _added(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in one.keys() | other.keys()}
