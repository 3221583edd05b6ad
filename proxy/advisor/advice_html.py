"""The advice as a page with plots."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

from proxy.advisor import advice_plots as plots
from proxy.advisor import advice_words as words
from proxy.advisor.advice import Advice
from proxy.advisor.advice_words import hourly, monthly, percent
from proxy.advisor.bootstrap import Block
from proxy.advisor.breakeven import HOURS_A_MONTH
from proxy.advisor.page import page, section

_STYLE = """
p.verdict { font-size: 1.25rem; font-weight: 600; margin: .6rem 0; }
ul { padding-left: 1.2rem; } li { margin: .15rem 0; } table.card td { text-align: left; vertical-align: top; }
"""
_CODE = re.compile(r"`([^`]*)`")


def to_html(advices: Sequence[Advice]) -> str:
    """The whole page, a part for each pool of replicas."""
    title = "When to buy a GPU"
    parts = "\n".join(_part(advice) for advice in advices)
    return page(title, f"<h1>{title}</h1>\n{parts}\n{_FOOTER}", _STYLE)


def _part(advice: Advice) -> str:
    cautions = "".join(_paragraph(f"Caution: {one}.", "note") for one in words.cautions(advice))
    return "\n".join(
        [
            _paragraph(words.headline(advice) + ".", "verdict"),
            _paragraph(words.demand(advice) + ". " + _sentence(words.even(advice)) + ".", "note"),
            cautions,
            section("What each number of replicas costs", plots.bills(advice), _BILLS_NOTE),
            _counts(advice),
            section("Is there work for it, and for how long?", plots.duration(advice), _DURATION_NOTE),
            section("How busy each replica would be", plots.use(advice), _USE_NOTE),
            section("Where the next one begins to pay", plots.by_volume(advice), _VOLUME_NOTE),
            section("What the saving hangs on", plots.tornado(advice), _TORNADO_NOTE) if advice.mean.usd else "",
            _listed("What would flip it", words.turning_points(advice)),
            _listed("Other replicas", words.alternatives(advice)),
            _listed("If demand grows", words.growth(advice)),
            _listed("Reasons to go dedicated", (f"{one.why}: {one.because}" for one in advice.reasons)),
            _card(advice),
        ]
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _listed(heading: str, lines: Iterable[str]) -> str:
    items = "".join(f"<li>{_prose(_sentence(line))}</li>" for line in lines)
    return f"<section><h2>{escape(heading)}</h2><ul>{items}</ul></section>" if items else ""


def _paragraph(text: str, kind: str) -> str:
    return f'<p class="{kind}">{_prose(text)}</p>'


def _prose(text: str) -> str:
    """Escaped, with names in backticks as code."""
    return _CODE.sub(r"<code>\1</code>", escape(text))


def _counts(advice: Advice) -> str:
    sizing, certainty = advice.sizing, advice.certainty
    rows = []
    for count in plots.shown_replicas(advice):
        bill = float(sizing.usd_per_hour[count])
        cells = (
            f"{count}",
            hourly(bill),
            monthly(bill).removesuffix(" a month"),
            percent(float(sizing.use[count - 1])) if count else "",
            percent(float(sizing.spill_share[count])),
            hourly(advice.saving(count)) if count > sizing.least else "",
            words.range_words(advice, count) if count > sizing.least else "",
            f"{certainty.best[count]:.2f}" if certainty.block is not Block.NOTHING else "",
        )
        rows.append((cells, count == sizing.best))
    names = ("replicas", "bill", "a month", "last one used", "spilled", "saves", "5-95 % of it", "P(best)")
    return _table(names, rows)


def _table(names: Sequence[str], rows: Iterable[tuple[Sequence[str], bool]], kind: str = "") -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    lines = "".join(
        f'<tr class="best">{_cells(cells)}</tr>' if best else f"<tr>{_cells(cells)}</tr>" for cells, best in rows
    )
    top = f"<thead><tr>{head}</tr></thead>" if names else ""
    return f'<div class="wide"><table class="{kind}">{top}<tbody>{lines}</tbody></table></div>'


def _cells(cells: Sequence[str]) -> str:
    return "".join(f"<td>{_prose(cell)}</td>" for cell in cells)


def _card(advice: Advice) -> str:
    """What a buyer has to show, in the order in which it is asked for."""
    rows = [((f"{place}. {name}", told), False) for place, (name, told) in enumerate(words.evidence(advice), 1)]
    return f"<section><h2>Evidence</h2>{_table((), rows, 'card')}</section>"


_BILLS_NOTE = (
    "GPUs are paid by the hour, used or not; what does not fit into them is paid by the token. The best is in bold."
)
_DURATION_NOTE = (
    "One work-second is an engine's time without what each step costs by itself. What is below the lines of the best "
    "number (dark) is served by GPUs, and what is above (hatched) spills."
)
_USE_NOTE = (
    "Each further replica only gets what the others leave over. It pays while it is used more than the line says."
)
_VOLUME_NOTE = "The same demand, with as many bursts, at other volumes; the lowest line is the best number of replicas."
_TORNADO_NOTE = "What the shown number of replicas saves against shared tokens alone, if one thing is different."
_FOOTER = (
    f"<footer><p>A month has {HOURS_A_MONTH:.0f} hours. Work is metered in bins of the time scale on which the "
    "objective of the first token can be kept; intervals come from days that were drawn again. Nothing here was "
    "measured on a GPU that is not there: capacity follows from the engine profile, which "
    "<code>spillway calibrate</code> measures.</p></footer>\n"
)
