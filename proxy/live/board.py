"""Makes the live view: the one place that knows where each of its numbers comes from.

Theory of operation
-------------------
Finished requests are noted in batches, with the rest of the telemetry. A timer ticks once a second, whether somebody
looks or not: it marks where the counts stand and adds to the history, which takes microseconds. The view itself is made
only when it is asked for, and once for all who ask within the same tick: a hundred consoles cost as much as one, but
for the bytes that they are sent.

Money comes from the last reading of the store that the sync has taken anyway, a few seconds old. Only today's sum is
read for this view, in the background, and while somebody looks. Nobody waits for the store: what it has not said is
null.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf

import msgspec

from proxy import __version__
from proxy.discovery.discovery import Found
from proxy.engines import Engines
from proxy.live.break_even import break_even
from proxy.live.cell import MARKS
from proxy.live.decisions import decision_of
from proxy.live.history import STEP_S, History, Point, quantile
from proxy.live.money import midnight_s, money_by_target, money_of, spend_of
from proxy.live.recent import Recent
from proxy.live.routes import routes_of
from proxy.live.targets import targets_of
from proxy.live.view import BudgetView, Health, LiveView, MoneyView, SpendToday, TargetMoney
from proxy.metering import Metering
from proxy.meters.report import MeterReport
from proxy.meters.standing import BudgetStanding
from proxy.meters.store_error import StoreError
from proxy.policy.model import Lane, Snapshot
from proxy.policy.status import PolicyStatus
from proxy.routing.explain.explained import Uptime
from proxy.routing.readings import Readings
from proxy.telemetry.records import Record

TICK_S = 1.0
RATE_TICKS = 11
"""A mark made so many ticks ago is ten seconds old."""
SHARE_TICKS = MARKS
_STEP_TICKS = round(STEP_S / TICK_S) + 1
FRESH_S = 0.2
"""Whoever asks again within so long is shown the same view."""
TODAY_S = 10.0
"""How old today's spend gets while somebody looks."""
LOOKED_S = 15.0
FIRST_READ_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Whom the board asks. `survey` gives readings at a monotonic time, `flush` notes what has ended by now, `found`
    says what is known of pods (`Pods.found`).
    """

    snapshot: Callable[[], Snapshot]
    policy: Callable[[], PolicyStatus]
    draining: Callable[[], bool]
    survey: Callable[[float], Readings]
    uptimes: Callable[[], Mapping[str, Uptime]]
    waiting: Callable[[], int]
    lag_s: Callable[[], float]
    flush: Callable[[], None]
    found: Callable[[], Mapping[str, Found | str]]


class Board:
    """See the module's text."""

    def __init__(self, sources: Sources, metering: Metering, engines: Engines, worker: int | None = None) -> None:
        self._sources = sources
        self._worker = worker
        self._metering = metering
        self._engines = engines
        self.recent = Recent(time.monotonic())
        self._history = History()
        self._ttfts_s: list[float] = []
        self._ticks = 0
        self._started_at = time.time()
        self._timer: asyncio.TimerHandle | None = None
        self._ticked = asyncio.Event()
        self._closed = False
        self._made_at = -inf
        self._view = b""
        self._looked_at = -inf
        self._today: SpendToday | None = None
        self._today_at = -inf
        self._reading: asyncio.Task[None] | None = None
        self._revision = ""

    def start(self) -> None:
        """Tick from now on, on the running event loop."""
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def close(self) -> None:
        """No more ticks: whoever follows the view is at its end. May be called again."""
        self._closed = True
        self._ticked.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._reading is not None:
            self._reading.cancel()

    def note(self, record: Record) -> None:
        """A request has ended."""
        self.recent.note(record)

    async def next(self) -> bool:
        """Wait for the next tick; False once there are no more."""
        if not self._closed:
            await self._ticked.wait()
        return not self._closed

    async def freshened(self) -> bytes:
        """The view, as JSON, to somebody who has not looked before: gives the store a moment to say what today cost."""
        self._looked_at = time.monotonic()
        if self._looked_at - self._today_at > LOOKED_S:
            self._read_today()
        if self._reading is not None and not self._reading.done():
            await asyncio.wait({self._reading}, timeout=FIRST_READ_S)
        return self.view()

    def view(self) -> bytes:
        """The view of this moment, as JSON."""
        now = self._looked_at = time.monotonic()
        if now - self._made_at > FRESH_S:
            self._sources.flush()
            self._view = msgspec.json.encode(self._made(now))
            self._made_at = now
        return self._view

    def _made(self, now: float) -> LiveView:
        sources, recent = self._sources, self.recent
        snapshot, report = sources.snapshot(), self._metering.known_report()
        spans, pods = {"rate_ticks": RATE_TICKS, "share_ticks": SHARE_TICKS}, sources.found()
        readings, told = sources.survey(now), self._engines.told()
        return LiveView(
            version=__version__,
            as_of=time.time(),
            started_at=self._started_at,
            policy=sources.policy(),
            health=Health(
                status="draining" if sources.draining() else "ready", degraded=dict(self._metering.degraded())
            ),
            rates_s=recent.span_s(RATE_TICKS, now),
            shares_s=recent.span_s(SHARE_TICKS, now),
            targets=targets_of(snapshot, readings, told, _by_target(report), recent, now, found=pods, **spans),
            routes=routes_of(snapshot.routes, recent, sources.uptimes(), now, **spans),
            decisions=tuple(map(decision_of, reversed(recent.decisions))),
            notable=tuple(map(decision_of, reversed(recent.notable))),
            money=self._money(report),
            budgets=tuple(map(_budget, self._metering.standing().budgets)),
            waiting_room_here=sources.waiting(),
            event_loop_lag_s_here=sources.lag_s(),
            history=self._history.view(),
            processes=None if report is None else report.processes,
            worker=self._worker,
        )

    def _money(self, report: MeterReport | None) -> MoneyView | None:
        return None if report is None else money_of(report, self._today)

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        now = time.monotonic()
        self._sources.flush()
        sampled = self.recent.tick(now)
        self._ttfts_s += [one.ttft_s for one in sampled if one.ttft_s is not None]
        self._ticks += 1
        if self._ticks % (_STEP_TICKS - 1) == 0:
            self._history.add(self._point(now))
            self._ttfts_s = []
        self._follow()
        if now - self._looked_at < LOOKED_S and now - self._today_at > TODAY_S:
            self._read_today()
        self._made_at = -inf  # whoever waits for the tick is shown all that came before it
        self._ticked.set()
        self._ticked = asyncio.Event()

    def _follow(self) -> None:
        """Another policy may serve by now."""
        snapshot = self._sources.snapshot()
        if snapshot.digest != self._revision:
            self._revision = snapshot.digest
            self.recent.forget_but(frozenset(snapshot.targets), frozenset(one.name for one in snapshot.routes))

    def _point(self, now: float) -> Point:
        recent, elapsed_s = self.recent, self.recent.span_s(_STEP_TICKS, now) or STEP_S
        by_lane, failed, tokens = dict.fromkeys(Lane, 0), 0, 0
        for _, _, cell in recent.cells():
            counts = cell.since(_STEP_TICKS)
            by_lane[cell.lane] += counts.requests
            failed += counts.failed
            tokens += counts.input_tokens + counts.output_tokens
        requests = sum(by_lane.values())
        spilled = sum(count for _, _, count in recent.tallies("spilled", _STEP_TICKS))
        refused = sum(count for _, _, count in recent.tallies("refused", _STEP_TICKS))
        report = self._metering.known_report()
        money, price = self._money(report), break_even(None if report is None else report.recent)
        return Point(
            at=time.time(),
            dedicated_requests_per_s=by_lane[Lane.DEDICATED] / elapsed_s,
            shared_requests_per_s=by_lane[Lane.SHARED] / elapsed_s,
            refused_per_s=refused / elapsed_s,
            failed_per_s=failed / elapsed_s,
            tokens_per_s=tokens / elapsed_s,
            ttft_p50_s=quantile(self._ttfts_s, 0.5),
            ttft_p99_s=quantile(self._ttfts_s, 0.99),
            spill_share=spilled / requests if requests else None,
            dedicated_nano_usd_per_h=None if money is None else money.dedicated_nano_usd_per_h,
            shared_nano_usd_per_h=None if money is None else money.shared_nano_usd_per_h,
            dedicated_nano_usd_per_mtok=price.dedicated,
            break_even_nano_usd_per_mtok=price.shared,
        )

    def _read_today(self) -> None:
        if self._reading is None or self._reading.done():
            self._today_at = time.monotonic()
            self._reading = asyncio.create_task(self._read(), name="live-today")

    async def _read(self) -> None:
        now_s = time.time()
        since_s = midnight_s(now_s)
        with contextlib.suppress(StoreError):
            self._today = spend_of(since_s, *await self._metering.hours(since_s, now_s))


def _by_target(report: MeterReport | None) -> Mapping[str, TargetMoney]:
    return {} if report is None else money_by_target(report.recent)


def _budget(one: BudgetStanding) -> BudgetView:
    return msgspec.convert(one, BudgetView, from_attributes=True)
