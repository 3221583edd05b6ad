"""Budgets' own words as a policy writes them: `$500/day`, `80%`, `downgrade: small-model`.

Like `units`: each function takes a YAML value and returns the canonical one or raises `Mistake`.
"""

from __future__ import annotations

import re
from decimal import Decimal

from proxy.policy import words
from proxy.policy.model import Cap, Exhausted, Per
from proxy.policy.problem import Mistake
from proxy.policy.units import NANO
from proxy.policy.variables import Interpolated, revealed, shown

MAX_USD = 9_000_000
"""The store counts in doubles, which hold every whole nano-USD up to 2^53: a little more than nine million dollars."""

MAX_ALERT_PERCENT = 1000
DOLLARS = r"\$?[0-9]{1,15}(\.[0-9]{1,15})?"
_DOLLARS = re.compile(DOLLARS)
_ALERT = re.compile(r"([0-9]{1,6})\s?%")
_DOWNGRADE = re.compile(r"downgrade:\s*(\S.*)")
_WINDOWS = ", ".join(f"`/{per}`" for per in Per)


def cap(value: object) -> Cap:
    """`$500/day` -> so many nano-USD in each window, above 0 and at most `MAX_USD`."""
    written = revealed(value)
    text = str(written) if isinstance(written, str | int | float) and not isinstance(written, bool) else ""
    amount, slash, window = (part.strip() for part in text.partition("/"))
    if not _DOLLARS.fullmatch(amount):
        raise Mistake(f"expected a limit, got {shown(value)}", "write `$500/day`: dollars, and how often they may go")
    if not slash:
        raise Mistake(f"a limit without its window: {shown(value)}", f"add one of {_WINDOWS}; `/total` never ends")
    if window not in tuple(Per):
        better = None if isinstance(value, Interpolated) else words.nearest(window, Per)
        hint = f"did you mean `{amount}/{better}`?" if better else f"write one of {_WINDOWS}"
        raise Mistake(f"not a window of time: {shown(value)}", hint)
    dollars = Decimal(amount.removeprefix("$"))
    if not 0 < dollars <= MAX_USD:
        raise Mistake(f"limit out of range: {shown(value)}", f"above 0 and at most ${MAX_USD}")
    nano_usd = dollars * NANO
    if nano_usd != int(nano_usd):
        raise Mistake(f"finer than a billionth of a dollar: {shown(value)}", "nine decimals at most")
    return Cap(int(nano_usd), Per(window))


def alert(value: object) -> int:
    """`80%` -> 80, a share of a limit in whole percent, from 1 to 1000."""
    written = revealed(value)
    match = _ALERT.fullmatch(written.strip()) if isinstance(written, str) else None
    if match is None:
        raise Mistake(f"expected a whole percentage, got {shown(value)}", "write `80%`")
    if not 1 <= int(match[1]) <= MAX_ALERT_PERCENT:
        raise Mistake(f"percentage out of range: {shown(value)}", f"from 1% to {MAX_ALERT_PERCENT}%")
    return int(match[1])


def exhausted(value: object) -> tuple[Exhausted, str | None]:
    """`dedicated_only`, `reject`, or `{downgrade: model}`, which may be written as one text too; with the model."""
    written = revealed(value)
    if isinstance(written, dict) and written.keys() == {"downgrade"}:
        return Exhausted.DOWNGRADE, words.name(written["downgrade"])
    if written in (Exhausted.DEDICATED_ONLY, Exhausted.REJECT):
        return Exhausted(str(written)), None
    downgrade = _DOWNGRADE.fullmatch(written) if isinstance(written, str) else None
    if downgrade is not None:
        return Exhausted.DOWNGRADE, words.name(downgrade[1])
    known = (Exhausted.DEDICATED_ONLY.value, Exhausted.REJECT.value)
    close = words.nearest(value, known) if isinstance(value, str) else None
    hint = f"did you mean `{close}`?" if close else "`{downgrade: model}` names the model to serve instead"
    raise Mistake(f"expected `dedicated_only`, `reject` or `downgrade: model`, got {shown(value)}", hint)
