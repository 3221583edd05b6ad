"""What a route does while an answer is not there yet, as a policy writes it: wait for room, try again, send a copy.

Like `units`: each function takes a YAML value and returns the canonical one or raises `Mistake`.
"""

# ruff: noqa: RUF009 - `key()` is `dataclasses.field()` with a reader in it

from __future__ import annotations

from dataclasses import dataclass

from proxy.policy import units, words
from proxy.policy.hedge import Quantile
from proxy.policy.problem import Mistake
from proxy.policy.shape import key, one
from proxy.policy.variables import shown

MAX_WAIT_S = 600.0


def failovers(value: object) -> int:
    """`0` to `5`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 5:
        raise Mistake(f"expected a whole number from 0 to 5, got {shown(value)}", "write `max_failovers: 1`")
    return value


def wait(value: object) -> float:
    """A duration of at most `MAX_WAIT_S`."""
    seconds = units.duration_s(value)
    if seconds > MAX_WAIT_S:
        hint = "at most 10m, for nobody waits longer for an answer; offline traffic may have a `deadline`"
        raise Mistake(f"too long to wait for room: {shown(value)}", hint)
    return seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeSpec:
    """When a copy of a slow request goes elsewhere, and how many there may be."""

    after: Quantile = key(one(words.one_of(Quantile)), default=Quantile.P95)
    budget: float = key(one(units.share), default=0.05)
