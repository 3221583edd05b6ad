"""How budgets, rates and the journal stand, as tables for a terminal. What is nearest its end comes first."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from proxy.meters.money import NANO_PER_USD, format_usd
from proxy.meters.standing import BudgetStanding, JournalStanding, RateStanding, Standing, State

MAX_ROWS = 20
"""A budget or a limit for each of a thousand tenants fits no terminal; `--json` has them all."""
_COLOURS = {State.OPEN: "green", State.ALERT: "yellow", State.EXHAUSTED: "red", State.UNKNOWN: "dim"}


def print_standing(standing: Standing, console: Console) -> None:
    """What there is of it."""
    if standing.budgets:
        ranked = sorted(standing.budgets, key=lambda one: (-one.used_share, one.name, one.per))
        console.print()
        console.print(budgets_table(ranked[:MAX_ROWS]))
        _print_rest(ranked, "budgets", console)
    if standing.rates:
        by_use = sorted(standing.rates, key=lambda one: (-one.used / one.limit, one.scope, one.rate))
        if not standing.budgets:
            console.print()
        console.print(rates_table(by_use[:MAX_ROWS]))
        _print_rest(by_use, "limits", console)
    if standing.journal is not None:
        style = "yellow" if standing.journal.refused else ""
        console.print(journal_line(standing.journal), style=style, markup=False, highlight=False)
    for part, trouble in standing.degraded.items():
        console.print(f"degraded: {part}: {trouble}", style="yellow", markup=False, highlight=False)


def budgets_table(budgets: Sequence[BudgetStanding]) -> Table:
    """A row a cap; `held` is set aside for requests under way, by all processes."""
    table = _table("budgets", "budget")
    for name in ("limit", "spent", "held", "free", "used", "resets in"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for one in budgets:
        table.add_row(
            one.name,
            _limit(one),
            _usd(one.spent_nano_usd),
            _usd(one.held_nano_usd),
            _usd(one.free_nano_usd),
            f"{one.used_share:.0%}",
            "never" if one.resets_in_s is None else duration(one.resets_in_s),
            f"[{_COLOURS[one.state]}]{_state(one)}[/]",
        )
    return table


def rates_table(rates: Sequence[RateStanding]) -> Table:
    """A row a limit; `leased` is this process's share of it."""
    table = _table("rates", "whose")
    for name in ("limit", "used", "share", "leased"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for one in rates:
        table.add_row(
            one.scope,
            f"{one.limit:,} {one.rate}",
            f"{one.used:,}",
            f"{one.used / one.limit:.0%}",
            "" if one.leased is None else f"{one.leased:,.0f}",
            " ".join([*(["shadow"] if one.shadow else []), *([] if one.known else ["unknown"])]),
        )
    return table


def journal_line(journal: JournalStanding) -> str:
    """The journal in a sentence."""
    refused = f", {journal.refused:,} notes refused" if journal.refused else ""
    size, room = _size(journal.size_bytes), _size(journal.max_bytes)
    return f"journal {journal.path}: {size} of {room}, {journal.waiting:,} counts wait for the store{refused}"


def duration(seconds: float) -> str:
    """Two units, or seconds: `41 s`, `12 min`, `5 h 3 min`, `3 d 4 h`."""
    minutes = int(seconds) // 60
    if minutes < 1:
        return f"{int(seconds)} s"
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def _table(title: str, first: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(first, overflow="fold", no_wrap=True)
    return table


def _limit(one: BudgetStanding) -> str:
    """As a policy writes it: `$500/day`, `$0.50/hour`."""
    whole = one.limit_nano_usd % NANO_PER_USD == 0
    return f"{format_usd(one.limit_nano_usd, 0) if whole else _usd(one.limit_nano_usd)}/{one.per.value}"


def _print_rest(rows: Sequence[object], name: str, console: Console) -> None:
    if len(rows) > MAX_ROWS:
        console.print(f"and {len(rows) - MAX_ROWS:,} more {name}, less used (`--json` has all)")


def _usd(nano_usd: int) -> str:
    """A limit is a round number, and what is spent of it stands below it: two places, unless that hides it."""
    return format_usd(nano_usd, 2) if abs(nano_usd) >= 10_000_000 else format_usd(nano_usd)


def _state(one: BudgetStanding) -> str:
    alert = f" {one.alert_percent}%" if one.state is State.ALERT else ""
    return f"{one.state.value}{alert}" + ("" if one.enforce.value == "hard" else f" ({one.enforce.value})")


def _size(size: int) -> str:
    for unit, letter in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:.3g} {letter}"
    return f"{size} B"
