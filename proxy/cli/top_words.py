"""How `spillway top` writes things: names that may be hostile, money, durations, bars.

Theory of operation
-------------------
Names come from policies and upstreams, and the model that is asked for from callers. A terminal obeys what it is sent,
so whatever is not printed, but obeyed, is shown as a dot: escapes, control characters, and the marks that turn the
direction of writing. Markup means nothing, since everything becomes a `Text`.
"""

from __future__ import annotations

import unicodedata

from rich.text import Text

from proxy.meters.money import format_usd

NOTHING = "-"
DOT = "\N{MIDDLE DOT}"
GREEN, YELLOW, RED, DIM = "green", "yellow", "bold red", "bright_black"
LANES = {"dedicated": "green", "shared": "yellow"}
_BARS = " ▁▂▃▄▅▆▇█"
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_OBEYED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_LONGEST = 500


def plain(name: str) -> str:
    """A name on one line, without anything that a terminal would obey."""
    return "".join(DOT if unicodedata.category(one) in _OBEYED else one for one in name[:_LONGEST])


def word(name: str, style: str = "") -> Text:
    """A name as a cell, cut off where the column ends."""
    return Text(plain(name), style, no_wrap=True, overflow="ellipsis")


def usd(nano_usd: float | None, *, signed: bool = False) -> str:
    """Dollars with cents; of less than ten cents, two digits."""
    if nano_usd is None:
        return NOTHING
    amount = round(nano_usd)
    cents = abs(amount) >= 100_000_000 or abs(amount) < 1_000
    text = format_usd(amount if abs(amount) >= 1_000 else 0, 2 if cents else 10 - len(str(abs(amount))) + 1)
    return f"+{text}" if signed and amount >= 1_000 else text


def seconds(value: float | None) -> str:
    """Three digits of a duration: `84 ms`, `1.20 s`, `75 s`, `12 min`, `3.1 h`."""
    if value is None:
        return NOTHING
    for below, text in (
        (0.00995, f"{value * 1e3:.1f}ms"),
        (0.9995, f"{value * 1e3:.0f}ms"),
        (9.995, f"{value:.2f}s"),
        (99.5, f"{value:.1f}s"),
        (600, f"{value:.0f}s"),
        (5400, f"{value / 60:.0f}min"),
        (172_800, f"{value / 3600:.1f}h"),
    ):
        if value < below:
            return text
    return f"{value / 86400:.0f}d"


def rate(per_s: float) -> str:
    """A rate: three digits and a magnitude."""
    if not per_s:
        return "0"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if per_s >= size * 0.9995:
            return f"{per_s / size:.3g}{letter}"
    return f"{per_s:.3g}" if per_s >= 0.0995 else f"{per_s:.2f}"


def count(number: int | None) -> str:
    """A count: whole below ten thousand."""
    if number is None:
        return NOTHING
    return f"{number}" if number < 10_000 else rate(number)


def percent(share: float | None) -> str:
    """A share."""
    return NOTHING if share is None else f"{share:.0%}"


def bar(share: float | None, width: int, warn: float = 0.7, full: float = 0.95) -> Text:
    """A share as a bar with its percentage behind: green, yellow from `warn` on, red from `full` on."""
    if share is None:
        return Text(NOTHING, DIM)
    style = "red" if share >= full else "yellow" if share >= warn else "green"
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    whole, rest = divmod(eighths, 8)
    blocks = "█" * whole + (_EIGHTHS[rest] if rest else "")
    return Text.assemble((blocks.ljust(width, "░")[:width], style), f"{min(share, 9.99):>5.0%}", no_wrap=True)


def spark(values: list[float | None], width: int, top: float | None = None) -> str:
    """The last values as bars, at most `width` of them; blank where there is none, flat where all are zero."""
    shown = values[-width:]
    most = top or max([value for value in shown if value is not None], default=0.0) or 1.0
    found = [" " if value is None else _BARS[round(min(value / most, 1.0) * (len(_BARS) - 2)) + 1] for value in shown]
    return "".join(found).rjust(width)
