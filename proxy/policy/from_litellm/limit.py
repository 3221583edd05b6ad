"""The limit of a LiteLLM budget, and its window, as a policy spells them: `$100/month`.

LiteLLM's windows are times of any length, a policy's are those of the calendar: what is an hour, a day, a week or a
month long becomes one, and anything else is noted.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from proxy.policy import caps
from proxy.policy.from_litellm.document import Json
from proxy.policy.from_litellm.given import Given
from proxy.policy.model import Per
from proxy.policy.problem import Mistake
from proxy.policy.variables import shown

_DURATION = re.compile(r"([0-9]{1,9})(mo|[smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "mo": 30 * 86400}
_WINDOWS = {3600: Per.HOUR, 86400: Per.DAY, 7 * 86400: Per.WEEK}
_A_MONTH = range(28 * 86400, 31 * 86400 + 1)
_LIMITS = ("max_budget", "budget_limit")
_PERIODS = ("budget_duration", "time_period")
_HINT = "write it under `budgets`, with `/hour`, `/day`, `/week`, `/month` or `/total`"


def limit_of(given: Given) -> str | None:
    """The limit that some parameters state, as a policy spells it; None when they state none, or none that it can."""
    amount = next((key for key in _LIMITS if key in given), None)
    period = next((key for key in _PERIODS if key in given), None)
    window = None if period is None else given.take(period)
    value = None if amount is None else given.take(amount)
    if amount is None or not value:
        return None
    try:
        spelled = f"${_dollars(value)}/{_per(window)}"
        caps.cap(spelled)
    except Mistake as mistake:
        given.note(amount, f"`{amount}` is not imported: {mistake.message}", mistake.hint or _HINT)
        return None
    return spelled


def _dollars(value: Json) -> str:
    try:
        if not isinstance(value, bool):
            return f"{Decimal(str(value)):f}"
    except InvalidOperation:
        pass
    raise Mistake(f"expected dollars, got {shown(value)}")


def _per(window: Json) -> Per:
    if window is None:
        return Per.TOTAL
    match = _DURATION.fullmatch(str(window).strip())
    span_s = int(match[1]) * _SECONDS[match[2]] if match else 0
    if span_s in _A_MONTH:
        return Per.MONTH
    if span_s not in _WINDOWS:
        raise Mistake(f"a policy has no window of {shown(window)}", _HINT)
    return _WINDOWS[span_s]
