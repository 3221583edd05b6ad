"""A replay in the terminal: a line for each run, what the best ones did in detail, and two policies side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from proxy.advisor import replay_findings as say
from proxy.advisor.figures import LEVELS, Figures, Part
from proxy.advisor.replay_html import MOST_ROWS, PART_COLUMNS, summary_columns
from proxy.advisor.replay_report import GOAL, Report, replicas_words

WIDE = 150
FOR_WIDE_ONES = frozenset({"GPUs", "shared", "$/month", "E2E P50", "E2E P99", "TTFT P95", "pace P50"})
"""Columns that a narrow terminal does without."""
Cell = TypeVar("Cell")
Measure = tuple[str, Callable[[Figures], float], Callable[[float], str]]


def print_report(report: Report, console: Console) -> None:
    """All that fits a terminal."""
    console.print(_runs(report, console.width))
    if len(report.policies) == 2:
        console.print(_side_by_side(report))
    for policy in report.policies:
        for table in _parts(report, report.best(policy), console.width):
            console.print(table)
    for policy in report.policies:
        name = f"{policy}: " if len(report.policies) > 1 else ""
        console.print(f"{name}{say.verdict(report, policy)}", soft_wrap=True)
    for sentence in report.assumptions:
        console.print(sentence, style="dim", soft_wrap=True)


def _runs(report: Report, width: int) -> Table:
    """A line for each run; the best ones are bold, those below the goal red."""
    table = _table()
    columns = _that_fit(summary_columns(report), width)
    for number, (name, _) in enumerate(columns):
        table.add_column(name, justify="left" if number == 0 else "right", no_wrap=number < 2)
    best = [report.best(policy) for policy in report.policies]
    for run in (*report.runs, *report.baselines):
        style = "bold" if any(run is one for one in best) else ""
        style += " red" if run.whole.attainment < GOAL else ""
        table.add_row(*(cell(run) for _, cell in columns), style=style)
    return table


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
    return ("+" if change > 0 else "-") + words(abs(change))


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


def _parts(report: Report, run: Figures, width: int) -> list[Table]:
    """Who was served how, where there is more than one to tell apart."""
    kinds: dict[str, tuple[Part, ...]] = {"route": run.routes, "tenant": run.tenants, "app": run.apps}
    kinds["target"] = run.targets
    name = f"{run.policy}, " if len(report.policies) > 1 else ""
    title = f"{name}{replicas_words(run.replicas)}"
    return [_parts_table(run, title, kind, parts, width) for kind, parts in kinds.items() if len(parts) > 1]


def _parts_table(run: Figures, title: str, kind: str, parts: tuple[Part, ...], width: int) -> Table:
    table = _table(title=title)
    table.add_column(kind)
    columns = _that_fit(PART_COLUMNS, width)
    for name, _ in columns:
        table.add_column(name, justify="right")
    table.add_column("shared $/h", justify="right")
    shown = sorted(parts, key=lambda part: -part.requests)[:MOST_ROWS]
    for part in shown:
        dollars = say.usd(run.usd_per_hour(part.shared_nano_usd))
        table.add_row(part.name, *(cell(part) for _, cell in columns), dollars)
    if len(parts) > len(shown):
        table.caption = f"{len(parts) - len(shown):,} more with `--json`"
    return table


def _that_fit(columns: Sequence[tuple[str, Cell]], width: int) -> list[tuple[str, Cell]]:
    return [column for column in columns if width >= WIDE or column[0] not in FOR_WIDE_ONES]


def _table(title: str | None = None) -> Table:
    from rich import box

    return Table(
        box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False, padding=(0, 1)
    )
