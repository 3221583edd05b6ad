"""Both kinds of money as the live view tells them: dollars an hour lately, and what today has cost.

Theory of operation
-------------------
Pure arithmetic on the meters' report, which is of all proxies. A rate is a sum of the report's recent period over its
length. Today is the sum of the hours since midnight UTC, as the ledger has them; GPUs are *attributed* while a request
is in flight on them, and idle otherwise, as on the bill.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from proxy.live.view import MoneyView, SpendToday, TargetMoney
from proxy.meters.aggregates import Row
from proxy.meters.gpu_hours import GpuRow
from proxy.meters.report import MeterReport, Period, TargetReport

HOUR_S = 3600.0
DAY_S = 86400


def money_of(report: MeterReport, today: SpendToday | None) -> MoneyView | None:
    """Money at this moment; None while nothing recent is known."""
    recent = report.recent
    if recent is None or not recent.seconds:
        return None
    idle = sum(row.idle_nano_usd or 0 for row in recent.targets)
    return MoneyView(
        as_of=report.as_of_s,
        recent_s=recent.seconds,
        shared_nano_usd_per_h=_per_h(recent.shared_nano_usd, recent.seconds),
        dedicated_nano_usd_per_h=_per_h(recent.dedicated_nano_usd, recent.seconds),
        idle_nano_usd_per_h=_per_h(idle, recent.seconds),
        saving_nano_usd_per_h=_maybe_per_h(recent.saving_nano_usd, recent.seconds),
        spill_share=recent.spill_share,
        requests_per_s=recent.requests / recent.seconds,
        today=today,
    )


def money_by_target(period: Period | None) -> Mapping[str, TargetMoney]:
    """The same for each target."""
    if period is None or not period.seconds:
        return {}
    return {row.target: _of_target(row, period.seconds) for row in period.targets}


def spend_of(since_s: int, rows: Iterable[Row], gpus: Iterable[GpuRow]) -> SpendToday:
    """What the hours since `since_s` have cost together."""
    hours = list(gpus)
    provisioned = sum(hour.totals.nano_usd for hour in hours)
    attributed = sum(hour.totals.busy_nano_usd for hour in hours)
    return SpendToday(
        since=since_s,
        shared_nano_usd=sum(row.counts.get("nano_usd", 0) for row in rows),
        provisioned_nano_usd=provisioned,
        attributed_nano_usd=attributed,
        idle_nano_usd=provisioned - attributed,
    )


def midnight_s(at_s: float) -> int:
    """The beginning of the day, UTC, that the time lies in."""
    return int(at_s) // DAY_S * DAY_S


def _of_target(row: TargetReport, seconds: float) -> TargetMoney:
    return TargetMoney(
        nano_usd_per_h=_maybe_per_h(row.nano_usd, seconds),
        nano_usd_per_mtok=row.nano_usd_per_mtok,
        shared_target=row.shared_target,
        shared_nano_usd_per_mtok=row.shared_nano_usd_per_mtok,
        saving_nano_usd_per_h=_maybe_per_h(row.saving_nano_usd, seconds),
        idle_share=row.idle_share,
        gpus=None if row.gpu_hours is None else row.gpu_hours * HOUR_S / seconds,
    )


def _per_h(nano_usd: int, seconds: float) -> float:
    return nano_usd * HOUR_S / seconds


def _maybe_per_h(nano_usd: int | None, seconds: float) -> float | None:
    return None if nano_usd is None else _per_h(nano_usd, seconds)
