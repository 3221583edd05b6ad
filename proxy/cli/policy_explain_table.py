"""An explanation for a reader who has read nothing else: a sentence, the routes, the targets, and what it rests on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from proxy.cli import policy_explain_words as words
from proxy.cli.policy_explain_log import when
from proxy.cli.policy_explain_source import Found
from proxy.policy.promises import UNKNOWN
from proxy.routing.explain.clauses import is_for_good
from proxy.routing.explain.explained import Applied, Explanation, Standing

MOST_ROWS, LAST_ROWS = 20, 3
OUT, FOR_NOW, IN, ASIDE = "red", "yellow", "green", "dim"
_Row = TypeVar("_Row")
_BLOCKS = (
    ("requires", "require.", False),
    ("wants", "want.", False),
    ("in shadow", "require.", True),
    ("in shadow", "want.", True),
)


def print_found(found: Found, console: Console) -> None:
    """The whole explanation, without blanks at the ends of its lines."""
    with console.capture() as captured:
        _print(found, console)
    for line in captured.get().splitlines():
        print(line.rstrip(), file=console.file)


def _print(found: Found, console: Console) -> None:
    explanation = found.explanation
    if found.recorded is not None:
        _print_recorded(found, console)
    console.print(Text(explanation.summary, style="bold"))
    console.print()
    console.print(_grid(_given(found)))
    if explanation.passed_over or explanation.route is not None:
        _print_routes(explanation, console)
    if explanation.targets:
        _print_targets(found, console)
    if explanation.rates:
        _head(console, "Rates", "used in the last minute, by all proxies together")
        console.print(_indented(map(words.rate, explanation.rates)))
    if explanation.budgets:
        _head(console, "Budgets", "money of all proxies together; windows begin and end by UTC")
        console.print(_indented(line for one in explanation.budgets for line in words.budget(one)))
    if explanation.shadow:
        _head(console, "In shadow", "recorded, and applied to nothing")
        console.print(_indented(map(words.shadowed, explanation.shadow)))
    if explanation.uptime is not None:
        _head(console, "Uptime", "over the last minutes")
        console.print(_indented([words.uptime(explanation.uptime)]))
    if explanation.refusal is not None:
        _head(console, "What the client gets")
        console.print(_grid(words.told(explanation.refusal)))


def _given(found: Found) -> Iterator[tuple[str, str]]:
    yield "request", words.asked(found.explanation.request)
    yield "policy", f"{found.policy}, revision {found.explanation.policy}"
    if found.recorded is not None:
        yield "targets", "as the log tells of those that were left out; of the others it knows no state"
    elif not found.informed:
        yield "targets", "nothing is known of their state here: each is taken to be idle and healthy"


def _print_recorded(found: Found, console: Console) -> None:
    line, now = found.recorded, found.explanation.policy
    assert line is not None
    console.print(Text(f"What happened to {line.request_id} at {when(line)}", style="bold"))
    console.print(_indented(words.tried(line)))
    console.print()
    if found.agrees:
        other = f"It was decided by policy {line.policy}; this one, {now}, decides the same."
        console.print(Text("It was decided by this very policy." if line.policy == now else other))
    else:
        other = (
            f"It was decided by policy {line.policy}."
            if line.policy != now
            else "It met what no log has: readings, or a bid."
        )
        console.print(Text(f"{other} This is what policy {now} makes of it, and not what happened:", style=FOR_NOW))
    console.print()


def _print_routes(found: Explanation, console: Console) -> None:
    _head(console, "Which route?", "the first that matches")
    table = _columns(3)
    for one in _shortened(found.passed_over, table):
        table.add_row(Text("  no ", style=ASIDE), one.route, Text(f"needs {one.needs}; {one.has}", style=ASIDE))
    if found.route is not None:
        match = "matches on " + ", ".join(found.route.match) if found.route.match else "matches every request"
        table.add_row(Text("  yes", style=IN), Text(found.route.name, style="bold"), match)
        for block, rules in _blocks(found.route):
            table.add_row("", Text(block, style=ASIDE), rules)
    console.print(table)


def _blocks(route: Applied) -> Iterator[tuple[str, str]]:
    for name, prefix, shadow in _BLOCKS:
        stated = [words.rule(one) for one in route.rules if one.shadow is shadow and one.rule.startswith(prefix)]
        if stated:
            yield name, "; ".join(stated)
    yield "prefers", words.PREFERENCES[route.prefer]


def _print_targets(found: Found, console: Console) -> None:
    explanation = found.explanation
    none = not any(one.places or one.out for one in explanation.targets)
    note = "none is looked at: it is refused before" if none else "of those that the model has, in this order"
    _head(console, "Which target?", note)
    table = _columns(4)
    for one in _shortened(explanation.targets, table):
        place = f"{one.places[0].ordinal + 1:4}." if one.places else "  out" if one.out is not None else "    -"
        style = IN if one.places else FOR_NOW if one.out is not None and not is_for_good(one.out) else OUT
        lane = Text.assemble(one.lane.value, "\n", ("no region" if one.region in UNKNOWN else one.region, ASIDE))
        name = Text(one.target, style="bold" if one is explanation.first else "")
        table.add_row(Text(place, style=style), name, lane, _why(found, one))
    console.print(table)
    notes = list(words.notes(explanation))
    if notes:
        console.print()
        console.print(_indented(notes))


def _why(found: Found, one: Standing) -> Text:
    """Why it stands there, what else would keep it out, what it misses, what was seen of it, what it costs."""
    lines: list[tuple[str, str]] = [(words.placed(place, one), "") for place in one.places]
    if one.out is not None:
        kept_out = is_for_good(one.out)
        what = "not allowed" if kept_out else "not able now"
        lines.append((f"{what}: {words.barred(one.out)}", OUT if kept_out else FOR_NOW))
    elif not one.places and not one.others:
        lines.append(("nothing would keep it out", ASIDE))
    lines += [(f"{'also' if one.out else 'in any case'}: {words.barred(bar)}", ASIDE) for bar in one.others]
    lines += [(f"misses a wish: {words.barred(miss)}", FOR_NOW) for miss in one.wants]
    lines += [(f"although {words.barred(bar)}", FOR_NOW) for bar in one.despite]
    if found.informed and (found.recorded is None or one.observed[0].seen):
        lines += [(seen, ASIDE) for seen in words.observed(one.observed)]
    lines.append((words.cost(one), ASIDE))
    return Text("\n").join(Text(line, style=style) for line, style in lines)


def _shortened(rows: Sequence[_Row], table: Table) -> Iterator[_Row]:
    """The rows; when there are too many to read, the first and the last of them."""
    left_out = len(rows) - MOST_ROWS
    if left_out <= 1:
        yield from rows
        return
    yield from rows[: MOST_ROWS - LAST_ROWS]
    table.add_row("  ...", Text(f"{left_out} more, see --format json", style=ASIDE))
    yield from rows[-LAST_ROWS:]


def _head(console: Console, title: str, note: str = "") -> None:
    console.print()
    console.print(Text.assemble((title, "bold"), (f"  {note}" if note else "", ASIDE)))


def _columns(count: int) -> Table:
    """Columns two blanks apart; the last one wraps."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(count - 1):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _grid(rows: Iterable[tuple[str, str]]) -> Table:
    table = _columns(2)
    for name, what in rows:
        table.add_row(Text(f"  {name}", style=ASIDE), Text(what))
    return table


def _indented(lines: Iterable[str]) -> Padding:
    return Padding(Text("\n".join(lines)), (0, 0, 0, 2))
