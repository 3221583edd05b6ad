"""Where the time goes between clients and engines, as a table for a terminal, and where to look."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from proxy.engines import LatencyReport, TargetReport
from proxy.signals.distribution import Spread
from proxy.signals.end_to_end import Parts

NOTHING = "-"


def print_latency(report: LatencyReport, console: Console) -> None:
    """The targets that have answered somebody; engines that tell nothing are named."""
    busy = [one for one in report.targets if one.seen.e2e is not None]
    if busy:
        console.print()
        console.print(latency_table(busy, report.window_s))
    for one in busy:
        console.print(f"{one.target}: {one.gap.hint}", markup=False, highlight=False, soft_wrap=True)
    for one in report.targets:
        for replica in one.replicas:
            if replica.trouble and replica.trouble != one.gap.hint:
                text = f"{one.target}: {replica.trouble}"
                console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)


def latency_table(targets: list[TargetReport], window_s: float) -> Table:
    """Two rows a target: to the first token, and of the whole answer. The parts are of the mean that clients see."""
    title = f"where the time goes, last {window_s / 60:.0f} min"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("target", no_wrap=True)
    table.add_column("to", no_wrap=True)
    for name in ("answers", "p50", "p99", "mean", "proxy", "queue", "engine", "outside", "engine p50", "engine p99"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in targets:
        table.add_row(one.target, "first token", *_row(one.seen.ttft, one.gap.ttft, one.told.ttft))
        table.add_row("", "end", *_row(one.seen.e2e, one.gap.e2e, one.told.e2e))
    return table


def _row(seen: Spread | None, parts: Parts | None, told: Spread | None) -> list[str]:
    clients = [NOTHING] * 4
    if seen is not None:
        clients = [f"{seen.samples:,}", *map(seconds, (seen.p50_s, seen.p99_s, seen.mean_s))]
    split = [NOTHING] * 4
    if parts is not None:
        split = [*map(seconds, (parts.proxy_s, parts.queue_s, parts.engine_s, parts.outside_s))]
    engine = [NOTHING] * 2 if told is None else [seconds(told.p50_s), seconds(told.p99_s)]
    return [*clients, *split, *engine]


def seconds(duration_s: float | None) -> str:
    """Three digits at most: `0.4 ms`, `38 ms`, `1.92 s`, `41.3 s`, `250 s`."""
    if duration_s is None:
        return NOTHING
    if duration_s < 1.0:
        ms = duration_s * 1000.0
        return f"{ms:.1f} ms" if ms < 9.95 else f"{ms:.0f} ms"
    return f"{duration_s:.3g} s" if duration_s < 1000.0 else f"{duration_s:.0f} s"
