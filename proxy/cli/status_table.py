"""The meters' report as tables for a terminal, and the policy being served in a few lines."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from proxy.cli.pod_words import pod_words
from proxy.cli.status_source import Meters
from proxy.engines import LatencyReport
from proxy.live.view import FoundView
from proxy.meters.money import format_usd
from proxy.meters.report import MeterReport, Period, TargetReport
from proxy.policy.model import Lane
from proxy.policy.status import PolicyStatus

NOTHING = "-"
"""Stands where there is nothing to divide by yet; what cannot be known says so."""


def print_report(report: MeterReport, console: Console) -> None:
    """The last minutes, then everything ever counted."""
    periods = [period for period in (report.recent, report.total) if period is not None]
    for index, period in enumerate(periods):
        if index:
            console.print()
        console.print(period_table(period))
        console.print(summary_line(period), style="bold", highlight=False)
    if not report.connected:
        console.print(f"the store has been away for {report.lag_s:.0f} s: newer counts are in memory", style="yellow")


def print_policy(policy: PolicyStatus, console: Console) -> None:
    """The policy being served, and what is wrong with newer text on the disk."""
    served = f"policy {policy.revision}, generation {policy.generation}, since {_moment(policy.loaded_at)}"
    console.print(served, highlight=False)
    error = policy.error
    if error is None:
        return
    text = f"text {error.revision}" if error.revision else "what is on the disk"
    console.print(f"{text} is not served, as of {_moment(error.at)}:", style="yellow")
    for problem in error.problems:
        console.print(f"  {problem}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    if error.problem_count > len(error.problems):
        console.print(f"  and {error.problem_count - len(error.problems)} more", style="yellow")


def print_found(pods: Mapping[str, FoundView], console: Console) -> None:
    """Targets whose replicas are found, and not all is well with their pods."""
    for name, found in pods.items():
        if words := pod_words(found):
            age = "" if found.age_s is None else f", confirmed {_duration(found.age_s)} ago"
            text = f"{name}: {words}{age}"
            console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)


def to_json(
    found: Meters,
    policy: PolicyStatus | None,
    latency: LatencyReport | None = None,
    pods: Mapping[str, FoundView] | None = None,
) -> bytes:
    """All of it as data; how budgets stand, `latency`, `policy` and `pods` are there when a running proxy was asked."""
    parts = [msgspec.to_builtins(part) for part in (found.report, found.standing) if part is not None]
    told = {"latency": latency, "policy": policy, "pods": pods or None}
    served = {name: value for name, value in told.items() if value is not None}
    return msgspec.json.encode({name: value for part in [*parts, served] for name, value in part.items()})


def period_table(period: Period) -> Table:
    """One period as a table, a row a target. Only dedicated targets have GPU-hours and idle time.

    `shared` is what a dedicated target's tokens cost at the shared price, per million.
    """
    title = "since the beginning" if period.seconds is None else f"last {_duration(period.seconds)}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("target", no_wrap=True)
    for name in ("tries", "spilled", "failed", "in", "out", "cost", "$/M", "shared", "GPU-h", "idle"):
        table.add_column(name, justify="right", no_wrap=True)
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
    cost = _usd(row.nano_usd)
    return [
        row.target,
        f"{row.attempts:,}",
        f"{row.spilled:,}" if row.lane is Lane.SHARED else "",
        f"{row.failures:,}",
        compact(row.input_tokens),
        compact(row.output_tokens),
        f"{cost} + {row.unpriced_attempts:,} unpriced" if row.unpriced_attempts else cost,
        _usd(row.nano_usd_per_mtok) if row.input_tokens + row.output_tokens else NOTHING,
        "" if row.shared_nano_usd_per_mtok is None else format_usd(row.shared_nano_usd_per_mtok),
        "" if row.gpu_hours is None else compact(row.gpu_hours),
        "" if row.idle_share is None else f"{row.idle_share:.0%}",
    ]


def compact(amount: float) -> str:
    """Three digits and a magnitude: `1.23M`, `0.0124`."""
    for magnitude, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if amount >= magnitude * 0.9995:
            return f"{amount / magnitude:.3g}{letter}"
    return f"{amount:.3g}"


def _usd(nano_usd: int | None) -> str:
    return "unknown" if nano_usd is None else format_usd(nano_usd)


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
