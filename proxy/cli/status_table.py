"""The meters' report as tables for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from proxy.meters.money import format_usd
from proxy.meters.report import MeterReport, Period, TargetReport
from proxy.policy.model import Lane


def print_report(report: MeterReport, console: Console) -> None:
    """The last minutes, then everything ever counted."""
    for period in (report.recent, report.total):
        if period is not None:
            console.print(period_table(period))
            console.print(summary_line(period), style="bold")
    if not report.connected:
        console.print(f"the store has been away for {report.lag_s:.0f} s: newer counts are in memory", style="yellow")


def period_table(period: Period) -> Table:
    """One period as a table, a row a target."""
    title = "since the beginning" if period.seconds is None else f"last {_duration(period.seconds)}"
    table = Table(title=title, title_justify="left", title_style="bold")
    for name in ("target", "lane"):
        table.add_column(name)
    for name in ("requests", "spilled", "failed", "tokens in", "cached", "tokens out"):
        table.add_column(name, justify="right")
    for name in ("cost", "$/M tokens", "shared $/M", "GPU-hours", "busy", "idle"):
        table.add_column(name, justify="right")
    for row in period.targets:
        table.add_row(*_cells(row))
    return table


def summary_line(period: Period) -> str:
    """One period in a sentence."""
    spill = "no requests yet" if period.spill_share is None else f"{period.spill_share:.1%} of requests spilled"
    return (
        f"{spill}; {format_usd(period.dedicated_nano_usd)} for GPUs, {format_usd(period.shared_nano_usd)} to providers"
    )


def _cells(row: TargetReport) -> list[str]:
    tokens = [f"{count:,}" for count in (row.input_tokens, row.cached_input_tokens, row.output_tokens)]
    cost = _usd(row.nano_usd)
    return [
        row.target,
        row.lane.value,
        f"{row.attempts:,}",
        f"{row.spilled:,}" if row.lane is Lane.SHARED else "",
        f"{row.failures:,}",
        *tokens,
        f"{cost} + {row.unpriced_attempts:,} unpriced" if row.unpriced_attempts else cost,
        _usd(row.nano_usd_per_mtok),
        _usd(row.shared_nano_usd_per_mtok) if row.lane is Lane.DEDICATED else "",
        "" if row.gpu_hours is None else f"{row.gpu_hours:,.2f}",
        "" if row.busy_share is None else f"{row.busy_share:.0%}",
        "" if row.idle_share is None else f"{row.idle_share:.0%}",
    ]


def _usd(nano_usd: int | None) -> str:
    return "unknown" if nano_usd is None else format_usd(nano_usd)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
