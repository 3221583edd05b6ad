"""What budgets have left, in plain words: `exhausted`, `unavailable`, or `{spent: $499.98, window: day}`.

Theory of operation
-------------------
Like `observed`, for money. A budget of which nothing is said has all of it. A window ends when it would at the time of
the request, by UTC, so that a refusal says the same at every run.
"""

# ruff: noqa: RUF009 - `key()` is `dataclasses.field()` with a reader in it

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from proxy.policy import units, words
from proxy.policy.document import Loc
from proxy.policy.findings import Findings
from proxy.policy.model import Budget, Cap, Per, Snapshot
from proxy.policy.shape import BROKEN, key, one, shaped
from proxy.policy.variables import shown
from proxy.policy.words import did_you_mean
from proxy.routing.readings import Fund, Funds

EXHAUSTED = "exhausted"
UNAVAILABLE = "unavailable"
WORDS: Mapping[str, dict[str, object]] = {EXHAUSTED: {"free": 0}, UNAVAILABLE: {"free": 0, "known": False}}
"""Each word for a fund, and what it stands for: all is spent; none is left here, nor can more be asked for."""

_SPANS_S = {Per.HOUR: 3600, Per.DAY: 86400, Per.WEEK: 7 * 86400}
_FIRST_MONDAY_S = 4 * 86400
_NANO_USD = one(units.nano_usd)


@dataclass(frozen=True, slots=True, kw_only=True)
class FundSpec:
    """A budget's money. What is not said of `free` and `spent` is the rest of the limit; `window` says of which one."""

    free: int | None = key(_NANO_USD, default=None)
    spent: int | None = key(_NANO_USD, default=None)
    window: Per | None = key(one(words.one_of(Per)), default=None)
    resets_in: float | None = key(one(units.duration_s), default=None)
    known: bool = key(one(words.flag), default=True)


_FUND = shaped(FundSpec)


def read_funds(values: object, snapshot: Snapshot, at_s: float, loc: Loc, findings: Findings) -> Funds:
    """Funds by budget, at the Unix time `at_s`; the name of several that `each` made is all. Mistakes are noted."""
    if not isinstance(values, Mapping):
        hint = "write `growth-spill: exhausted`, or `growth-spill: {spent: 499.98}`"
        findings.problem(loc, f"expected a mapping, got {shown(values)}", hint)
        return {}
    known = _by_name(snapshot) if values else {}
    found: dict[str, Fund] = {}
    for name, value in values.items():
        at = (*loc, name)
        if name not in known:
            hint = did_you_mean(name, known) or "name a budget of the policy"
            findings.problem(at, f"unknown budget `{name}`", hint, key=True)
            continue
        spec = _spec(value, at, findings)
        for budget in known[name] if spec is not BROKEN else ():
            cap = _cap(budget, spec.window)
            if cap is None:
                limits = ", ".join(f"`{one.per}`" for one in budget.caps)
                message = f"budget `{budget.name}` has no limit for a `{spec.window}`"
                findings.problem((*at, "window"), message, f"it has: {limits}")
                break
            found[budget.name] = _fund(cap, spec, at_s)
    return found


def resets_in_s(per: Per, at_s: float) -> float | None:
    """How long after the Unix time `at_s` the window ends, None if never."""
    if per is Per.TOTAL:
        return None
    if per is Per.MONTH:
        now = datetime.fromtimestamp(at_s, UTC)
        years, month = divmod(now.month, 12)
        return datetime(now.year + years, month + 1, 1, tzinfo=UTC).timestamp() - at_s
    span_s = _SPANS_S[per]
    return span_s - (at_s - _FIRST_MONDAY_S) % span_s


def _by_name(snapshot: Snapshot) -> dict[str, list[Budget]]:
    found: dict[str, list[Budget]] = {}
    for budget in snapshot.budgets:
        found.setdefault(budget.name, []).append(budget)
        if budget.group:
            found.setdefault(budget.group, []).append(budget)
    return found


def _spec(value: object, loc: Loc, findings: Findings) -> Any:
    if not isinstance(value, str):
        return _FUND(value, loc, findings)
    if value not in WORDS:
        hint = did_you_mean(value, WORDS)
        findings.problem(loc, f"expected `exhausted`, `unavailable` or a mapping, got {shown(value)}", hint)
        return BROKEN
    return _FUND(WORDS[value], loc, findings)


def _cap(budget: Budget, window: Per | None) -> Cap | None:
    """The limit that is meant: of the window, or the first."""
    return next((cap for cap in budget.caps if window in (None, cap.per)), None)


def _fund(cap: Cap, spec: FundSpec, at_s: float) -> Fund:
    free, spent = spec.free, spec.spent
    if spent is None:
        spent = 0 if free is None else max(0, cap.nano_usd - free)
    return Fund(
        free_nano_usd=cap.nano_usd - spent if free is None else free,
        spent_nano_usd=spent,
        limit_nano_usd=cap.nano_usd,
        per=cap.per,
        resets_in_s=resets_in_s(cap.per, at_s) if spec.resets_in is None else spec.resets_in,
        known=spec.known,
    )
