"""This process's counters: what every attempt adds up to, in memory.

Theory of operation
-------------------
`settle` is called once for every attempt that was made, whatever became of it, and is on the path of every request:
it does no I/O, and its time does not depend on how much has been counted. Counters only grow, so publishing one
twice, late or out of order does no harm: the greater value is the newer (a G-counter: Shapiro et al., *A
comprehensive study of Convergent and Commutative Replicated Data Types*, 2011, section 3.1.1). `changed` hands the
sync what has grown since it last asked; `totals` hands it everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter

from proxy.meters.charge import charge_of
from proxy.meters.fields import COUNTERS, Series, field
from proxy.policy.model import Lane
from proxy.routing.charge import Charge
from proxy.routing.facts import Facts
from proxy.routing.outcome import Failure, Outcome
from proxy.routing.plan import Cause

_read = attrgetter(*COUNTERS)


class _Cell:
    """The counters of one series. `published` is what `changed` last handed out."""

    __slots__ = (*COUNTERS, "names", "published")

    def __init__(self, series: Series) -> None:
        self.requests = 0
        self.attempts = 0
        self.spilled = 0
        self.fallbacks = 0
        self.failures = 0
        self.abandoned = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.cached_input_tokens = 0
        self.reasoning_tokens = 0
        self.estimated_tokens = 0
        self.nano_usd = 0
        self.unpriced_attempts = 0
        self.busy_ms = 0
        self.names = tuple(field(counter, series) for counter in COUNTERS)
        self.published: tuple[int, ...] = (0,) * len(COUNTERS)

    def grown(self) -> Iterator[tuple[str, int]]:
        values = _read(self)
        for name, value, before in zip(self.names, values, self.published, strict=True):
            if value != before:
                yield name, value
        self.published = values

    def all(self) -> Iterator[tuple[str, int]]:
        return ((name, value) for name, value in zip(self.names, _read(self), strict=True) if value)


class Ledger:
    """Monotone counters per tenant, model and target (see `fields.COUNTERS`). Not thread-safe: one event loop's own."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str, str], _Cell] = {}
        self._grown: set[_Cell] = set()

    def settle(self, facts: Facts, outcome: Outcome) -> Charge:
        """Count one finished attempt and say what it cost. Call it exactly once per attempt, in a `finally`."""
        charge = charge_of(outcome)
        key = (facts.tenant.name, facts.model, charge.target)
        cell = self._cells.get(key) or self._open(key)
        self._grown.add(cell)
        _count_attempt(cell, outcome)
        _count_usage(cell, charge)
        return charge

    def changed(self) -> dict[str, int]:
        """Every counter that has grown since the last call, by field name, with its current value."""
        grown, self._grown = self._grown, set()
        return {name: value for cell in grown for name, value in cell.grown()}

    def totals(self) -> dict[str, int]:
        """Every counter that is not zero, by field name."""
        return {name: value for cell in self._cells.values() for name, value in cell.all()}

    def _open(self, key: tuple[str, str, str]) -> _Cell:
        cell = self._cells[key] = _Cell(Series(*key))
        return cell


def _count_attempt(cell: _Cell, outcome: Outcome) -> None:
    attempt = outcome.attempt
    failure = outcome.failure
    cell.attempts += 1
    cell.busy_ms += int(outcome.total_s * 1000.0 + 0.5)
    if attempt.ordinal == 0:
        cell.requests += 1
    if attempt.cause is Cause.FALLBACK:
        cell.fallbacks += 1
    elif attempt.cause is Cause.SPILLOVER and attempt.target.lane is Lane.SHARED and failure is not Failure.FULL:
        cell.spilled += 1
    if failure is Failure.CLIENT_LEFT or failure is Failure.STALLED_CLIENT:
        cell.abandoned += 1
    elif failure is not None:
        cell.failures += 1


def _count_usage(cell: _Cell, charge: Charge) -> None:
    usage = charge.usage
    cell.nano_usd += charge.nano_usd
    cell.input_tokens += usage.input_tokens
    cell.output_tokens += usage.output_tokens
    if usage.cached_input_tokens:
        cell.cached_input_tokens += usage.cached_input_tokens
    if usage.reasoning_tokens:
        cell.reasoning_tokens += usage.reasoning_tokens
    if usage.estimated:
        cell.estimated_tokens += usage.input_tokens + usage.output_tokens
    if not charge.priced:
        cell.unpriced_attempts += 1
