"""The further attempts of a plan, one after another, as long as the last ending allows one more."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec

from proxy.edges import RetryBudget, Signals
from proxy.forward import Ending
from proxy.routing.outcome import Failure, Outcome
from proxy.routing.plan import Attempt, Cause, Plan


def walk(plan: Plan, endings: list[Ending], signals: Signals, budget: RetryBudget) -> Iterator[Attempt]:
    """What to try after the `endings` so far, which grow meanwhile: one for each attempt that was made.

    A full engine costs nothing. A failure is tried elsewhere at most `Plan.max_failovers` times, a copy that ran beside
    the first attempt being one of them, and while the retry budget lasts.
    """
    failovers = len(endings) - 1
    for attempt in plan.attempts[1:]:
        last = endings[-1].outcome
        if any(_is_again(attempt, ending.outcome.attempt) for ending in endings):
            continue
        if last.failure is None or last.committed or not last.failure.retryable:
            return
        failed = last.failure is not Failure.FULL
        if failed and failovers >= plan.max_failovers:
            return
        now = time.monotonic()
        if not signals.admits(attempt, now):
            continue
        if failed:
            if not budget.withdraw(now):
                return
            failovers += 1
        yield _after(last, attempt, len(endings))


def _is_again(attempt: Attempt, earlier: Attempt) -> bool:
    return attempt.target is earlier.target and attempt.replica == earlier.replica


def _after(last: Outcome, attempt: Attempt, ordinal: int) -> Attempt:
    """The next attempt, saying why the one before it did not do."""
    name = last.attempt.target.name
    if last.failure is Failure.FULL:
        cause, reason = Cause.SPILLOVER, f"engine full: {name} {last.detail}"
    else:
        assert last.failure is not None
        cause, reason = Cause.FALLBACK, f"{last.failure.label}: {name} {last.detail}"
    return msgspec.structs.replace(attempt, ordinal=ordinal, cause=cause, reason=reason)
