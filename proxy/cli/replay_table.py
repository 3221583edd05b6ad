"""A replay in the terminal: a line for each run, what the best ones did in detail, and two policies side by side."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from proxy.advisor import replay_findings as say
from proxy.advisor.figures import LEVELS, Figures, Part
from proxy.advisor.replay_report import GOAL, Report, replicas_words
from proxy.advisor.replay_tables import (
    MOST_ROWS,
    PART_COLUMNS,
    parts_of,
    quantile_rows,
    side_by_side,
    summary_columns,
)

DISPENSABLE = (
    *("E2E P50", "GPUs", "shared", "E2E P99", "TTFT P95", "pace P50", "$/month", "share of $", "TTFT P50"),
    *("refused", "worst minute", "pace P99"),
)
"""Columns that a narrow terminal does without, in this order."""


def print_report(report: Report, console: Console) -> None:
    """All that fits a terminal."""
    console.print(_fitted(console, lambda names: _runs(report, names)))
    if len(report.policies) == 2:
        console.print(_side_by_side(report))
    else:
        for policy in report.policies:
            console.print(_quantiles(report, report.best(policy)))
    for policy in report.policies:
        run = report.best(policy)
        for kind, parts in parts_of(run).items():
            console.print(_fitted(console, partial(_parts_table, report, run, kind, parts)))
    for policy in report.policies:
        name = f"{policy}: " if len(report.policies) > 1 else ""
        console.print(f"{name}{say.verdict(report, policy)}", soft_wrap=True)
    for sentence in report.assumptions:
        console.print(sentence, style="dim", soft_wrap=True)


def _runs(report: Report, left_out: Collection[str]) -> Table:
    """A line for each run; the best ones are bold, those below the goal red."""
    table = _table()
    columns = [column for column in summary_columns(report) if column[0] not in left_out]
    for name, _ in columns:
        table.add_column(_folded(name), justify="left" if name == "policy" else "right", no_wrap=True)
    best = [report.best(policy) for policy in report.policies]
    for run in (*report.runs, *report.baselines):
        style = "bold" if any(run is one for one in best) else ""
        style += " red" if run.whole.attainment < GOAL else ""
        table.add_row(*(cell(run) for _, cell in columns), style=style)
    return table


def _quantiles(report: Report, run: Figures) -> Table:
    table = _table(title=_title(report, run))
    table.add_column("")
    for level in LEVELS:
        table.add_column(f"P{level}", justify="right")
    for row in quantile_rows(run):
        table.add_row(*row)
    return table


def _title(report: Report, run: Figures) -> str:
    name = f"{run.policy}, " if len(report.policies) > 1 else ""
    return f"{name}{replicas_words(run.replicas)}"


def _side_by_side(report: Report) -> Table:
    table = _table(title="the best of each")
    table.add_column("")
    for run in (report.best(policy) for policy in report.policies):
        table.add_column(f"{run.policy}, {replicas_words(run.replicas)}", justify="right")
    table.add_column("difference", justify="right")
    for row in side_by_side(report):
        table.add_row(*row)
    return table


def _parts_table(report: Report, run: Figures, kind: str, parts: tuple[Part, ...], left_out: Collection[str]) -> Table:
    table = _table(title=_title(report, run))
    table.add_column(kind, no_wrap=True)
    columns = [column for column in PART_COLUMNS if column[0] not in left_out]
    for name, _ in columns:
        table.add_column(_folded(name), justify="right", no_wrap=True)
    table.add_column("shared\n$/h", justify="right", no_wrap=True)
    shown = sorted(parts, key=lambda part: -part.requests)[:MOST_ROWS]
    for part in shown:
        dollars = say.usd(run.usd_per_hour(part.shared_nano_usd))
        table.add_row(part.name, *(cell(part) for _, cell in columns), dollars)
    if len(parts) > len(shown):
        table.caption = f"{len(parts) - len(shown):,} more with `--json`"
    return table


def _fitted(console: Console, table_without: Callable[[Collection[str]], Table]) -> Table:
    """The table with as many of its columns as there is room for."""
    for count in range(len(DISPENSABLE)):
        table = table_without(DISPENSABLE[:count])
        if Measurement.get(console, console.options.update(width=10_000), table).maximum <= console.width:
            return table
    return table_without(DISPENSABLE)


def _folded(name: str) -> str:
    return name.replace(" ", "\n", 1)


def _table(title: str | None = None) -> Table:
    from rich import box

    return Table(
        box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False, padding=(0, 1)
    )
