"""The advice as a terminal shows it: the verdict first, then the figures that it rests on."""

from __future__ import annotations

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from proxy.advisor import advice_words as words
from proxy.advisor.advice import Advice, Verdict
from proxy.advisor.advice_words import percent, usd
from proxy.advisor.bootstrap import Block
from proxy.advisor.breakeven import HOURS_A_MONTH

_STYLES = {
    Verdict.BUY: "bold green",
    Verdict.GIVE_BACK: "bold green",
    Verdict.WAIT: "bold yellow",
    Verdict.KEEP: "bold",
    Verdict.DO_NOT_BUY: "bold",
}


def print_advice(advice: Advice, console: Console) -> None:
    """All of it."""
    console.print()
    console.print(escape(words.headline(advice)), style=_STYLES[advice.verdict], highlight=False, soft_wrap=True)
    for caution in words.cautions(advice):
        _say(console, f"  caution: {caution}", "yellow")
    _say(console, f"\n{words.demand(advice)}")
    _say(console, words.even(advice))
    console.print(_counts(advice))
    _say(console, words.moving(advice))
    _list(console, "What would flip it", words.turning_points(advice))
    _list(console, "What if", words.cases(advice))
    _list(console, "Other replicas", words.alternatives(advice))
    _list(console, "Growth", words.growth(advice))
    _list(console, "Commitment", words.commitments(advice))
    _list(console, "Reasons to go dedicated", words.reasons(advice))


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(escape(text), style=style, highlight=False, soft_wrap=True)


def _list(console: Console, title: str, lines: Iterable[str]) -> None:
    found = list(lines)
    if found:
        console.print(f"\n{title}", style="bold")
        for line in found:
            _say(console, f"  {line}")


def _counts(advice: Advice) -> Table:
    sizing, certainty = advice.sizing, advice.certainty
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    names = ("replicas", "$/h", "$/month", "last one used", "spilled", "saves $/h", "5-95 %", "P(saves)", "P(best)")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    known = certainty.block is not Block.NOTHING
    for count in range(sizing.least, _last(advice) + 1):
        bill = float(sizing.usd_per_hour[count])
        low, _, high = certainty.saving[count]
        compared = count > sizing.least
        pays = " pays" if compared and sizing.use[count - 1] >= advice.even.utilisation else ""
        table.add_row(
            f"{count}",
            f"{bill:,.2f}",
            usd(bill * HOURS_A_MONTH),
            f"{percent(float(sizing.use[count - 1]))}{pays}" if count else "",
            percent(float(sizing.spill_share[count])),
            f"{advice.saving(count):,.2f}" if compared else "",
            f"{low:,.2f} .. {high:,.2f}" if compared and known else "",
            f"{certainty.positive[count]:.2f}" if compared and known else "",
            f"{certainty.best[count]:.2f}" if known else "",
            style="bold" if count == sizing.best else "",
        )
    return table


def _last(advice: Advice) -> int:
    """Four more than the best say nothing new."""
    best = max(advice.sizing.best, advice.asked.have)
    return min(advice.sizing.most, max(best + 3, 4))
