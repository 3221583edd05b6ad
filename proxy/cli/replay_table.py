"""A replay in the terminal: a line for each run, what the best ones did in detail, and two policies side by side."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from proxy.advisor import replay_findings as say
from proxy.advisor.figures import LEVELS, Figures, Part
from proxy.advisor.replay_html import MOST_ROWS, PART_COLUMNS, quantile_rows, summary_columns
from proxy.advisor.replay_report import GOAL, Report, replicas_words

DISPENSABLE = (
    *("E2E P50", "GPUs", "shared", "E2E P99", "TTFT P95", "pace P50", "$/month", "share of $", "TTFT P50"),
    *("refused", "worst minute", "pace P99"),
)
"""Columns that a narrow terminal does without, in this order."""
Measure = tuple[str, Callable[[Figures], float], Callable[[float], str]]


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
        for kind, parts in _kinds(run).items():
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
    first, second = (report.best(policy) for policy in report.policies)
    table = _table(title="the best of each")
    table.add_column("")
    for run in (first, second):
        table.add_column(f"{run.policy}, {replicas_words(run.replicas)}", justify="right")
    table.add_column("difference", justify="right")
    for name, measure, words in _measures(report):
        one, other = measure(first), measure(second)
        table.add_row(name, words(one), words(other), _difference(one, other, words))
    return table


def _difference(one: float, other: float, words: Callable[[float], str]) -> str:
    change = other - one
    if change != change or not change:  # noqa: PLR0124  (NaN of what is not known)
        return "-" if change else "same"
    return ("+" if change > 0 else "-") + words(abs(change)).replace(" %", " points")


def _measures(report: Report) -> list[Measure]:
    def dollars(run: Figures) -> float:
        share = report.dollar_share(run)
        return float("nan") if share is None else share

    waits: list[Measure] = [
        (f"{kind} P{level}", _quantile(column, level), say.seconds)
        for kind, column in (("TTFT", "ttft_s"), ("pace", "pace_s"), ("E2E", "e2e_s"))
        for level in LEVELS
    ]
    return [
        ("dollars an hour", lambda run: run.usd_per_hour(run.nano_usd), say.usd),
        ("  for GPUs", lambda run: run.usd_per_hour(run.gpu_nano_usd), say.usd),
        ("  to providers", lambda run: run.usd_per_hour(run.whole.shared_nano_usd), say.usd),
        ("served in time", lambda run: run.whole.attainment, _points),
        ("in the worst minute", lambda run: float(run.minutes.attainment[run.minutes.worst]), _points),
        *waits,
        ("spilled requests", lambda run: run.whole.spill_share, _points),
        ("share of dollars", dollars, _points),
        ("refused", lambda run: run.whole.refused, lambda count: f"{count:,.0f}"),
        ("oscillations an hour", lambda run: run.oscillations_per_hour, lambda count: f"{count:.2g}"),
    ]


def _quantile(column: str, level: int) -> Callable[[Figures], float]:
    return lambda run: float(getattr(getattr(run.whole, column), f"p{level}"))


def _points(share: float) -> str:
    return "-" if share != share else f"{share * 100:.2f} %"  # noqa: PLR0124  (NaN)


def _kinds(run: Figures) -> dict[str, tuple[Part, ...]]:
    """Who was served, by what there is more than one of to tell apart."""
    kinds = {"route": run.routes, "tenant": run.tenants, "app": run.apps, "target": run.targets}
    return {kind: parts for kind, parts in kinds.items() if len(parts) > 1}


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
