"""This process's counters: what every attempt adds up to, in memory.

Theory of operation
-------------------
`settle` is called once for every attempt that was made, whatever became of it, and is on the path of every request:
it does no I/O, and its time does not depend on how much has been counted. Counters only grow, so publishing one
twice, late or out of order does no harm: the greater value is the newer (a G-counter: Shapiro et al., *A
comprehensive study of Convergent and Commutative Replicated Data Types*, 2011, section 3.1.1). `changed` hands the
sync what has grown since it last asked; `totals` hands it everything. What is settled is noted in the journal at once:
that is memory, too, but memory that outlives the process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from proxy.meters.begun import begun
from proxy.meters.charge import charge_of
from proxy.meters.fields import COUNTERS, SERIES, Series, series_name
from proxy.meters.vectors import Vector
from proxy.policy.model import Lane, Target
from proxy.routing.charge import Charge
from proxy.routing.facts import Facts
from proxy.routing.outcome import Failure, Outcome
from proxy.routing.plan import Attempt, Cause

# fmt: off
(
    _REQUESTS, _ATTEMPTS, _SPILLED, _FALLBACKS, _FAILURES, _ABANDONED, _INPUT, _OUTPUT, _CACHED, _CACHE_WRITE,
    _REASONING, _AUDIO, _ESTIMATED_TOKENS, _ESTIMATED_ATTEMPTS, _NANO_USD, _ESTIMATED_NANO_USD, _UNPRICED, _BUSY_MS,
    _WORK_US, _TTFT_MS, _TTFT_COUNT,
) = range(len(COUNTERS))
# fmt: on


NOT_NOTED = -1
_SHARED, _FALLBACK, _SPILLOVER = Lane.SHARED, Cause.FALLBACK, Cause.SPILLOVER


class Journal(Protocol):
    """Where the latest values of each series are noted, to outlive this process: a `meters.journal.Journal`."""

    def cell(self, kind: str, name: str, width: int) -> int:
        """The number of a series' place."""
        ...

    def note(self, cell: int, values: Sequence[int], settles: int) -> None:
        """These are its values now; they count the attempt `settles`, -1 for none."""
        ...

    def begin(self, cell: int, values: Sequence[int]) -> int:
        """An attempt is in flight, and will be counted there."""
        ...

    def progress(self, attempt: int, value: int) -> None:
        """How far it has come."""
        ...


_Key = tuple[str, str, str, str, str, bool]
"""A series; its lane is told by whether that is the shared one."""


class _Cell:
    """The counts of one series, and where the journal notes them."""

    __slots__ = ("_target", "_terms", "counts", "name", "place")

    def __init__(self, name: str, place: int) -> None:
        self.name = name
        self.place = place
        self.counts = [0] * len(COUNTERS)
        self._target: Target | None = None
        self._terms: tuple[int, ...] = ()

    def begun(self, attempt: Attempt, input_tokens: int) -> tuple[int, ...]:
        """The note of an attempt that begins; the terms of its target are made out once, which saves 1 us."""
        if self._target is not attempt.target:
            self._target = attempt.target
            self._terms = begun(attempt, input_tokens)[2:]
        return (input_tokens, int(attempt.ordinal == 0), *self._terms)


class Ledger:
    """Monotone counts per series (see `fields.COUNTERS`). Not thread-safe: one event loop's own."""

    def __init__(self, journal: Journal | None = None) -> None:
        self._journal = journal
        self._cells: dict[_Key, _Cell] = {}
        self._grown: set[_Cell] = set()

    def begin(self, facts: Facts, route: str, attempt: Attempt) -> int:
        """An attempt begins; what is returned is wanted back by `settle`. Should this process die first, it is charged
        by what is known of it then.
        """
        if self._journal is None:
            return NOT_NOTED
        cell = self._cell(facts, route, attempt.target)
        return self._journal.begin(cell.place, cell.begun(attempt, facts.input_tokens))

    def progress(self, begun: int, output_tokens: int) -> None:
        """So many output tokens have come so far."""
        if self._journal is not None:
            self._journal.progress(begun, output_tokens)

    def settle(self, facts: Facts, route: str, outcome: Outcome, begun: int = NOT_NOTED) -> Charge:
        """Count one finished attempt and say what it cost. Call it exactly once per attempt, in a `finally`."""
        charge = charge_of(outcome)
        cell = self._cell(facts, route, outcome.attempt.target)
        self._grown.add(cell)
        _count_attempt(cell.counts, outcome)
        _count_usage(cell.counts, charge)
        if self._journal is not None:
            self._journal.note(cell.place, cell.counts, begun)
        return charge

    def place(self, facts: Facts, route: str, target: Target) -> int:
        """The number of the place in the journal at which an attempt will be settled; -1 without a journal."""
        return self._cell(facts, route, target).place

    def changed(self) -> dict[str, Vector]:
        """Every series that has grown since the last call, by name, with its current counts."""
        grown, self._grown = self._grown, set()
        return {cell.name: tuple(cell.counts) for cell in grown}

    def totals(self) -> dict[str, Vector]:
        """Every series that has counted anything, by name."""
        return {cell.name: tuple(cell.counts) for cell in self._cells.values() if cell.counts[_ATTEMPTS]}

    def _cell(self, facts: Facts, route: str, target: Target) -> _Cell:
        # Not the lane itself: the hash of an enum's member is a call of Python.
        key = (facts.tenant.name, facts.key.name, facts.model, route, target.name, target.lane is _SHARED)
        return self._cells.get(key) or self._open(key)

    def _open(self, key: _Key) -> _Cell:
        tenant, caller, model, route, target, shared = key
        lane = Lane.SHARED if shared else Lane.DEDICATED
        name = series_name(Series(tenant, caller, model, route, target, lane))
        place = -1 if self._journal is None else self._journal.cell(SERIES, name, len(COUNTERS))
        cell = self._cells[key] = _Cell(name, place)
        return cell


def _count_attempt(counts: list[int], outcome: Outcome) -> None:
    attempt = outcome.attempt
    failure = outcome.failure
    counts[_ATTEMPTS] += 1
    counts[_BUSY_MS] += int(outcome.total_s * 1000.0 + 0.5)
    if outcome.ttft_s is not None:
        counts[_TTFT_MS] += int(outcome.ttft_s * 1000.0 + 0.5)
        counts[_TTFT_COUNT] += 1
    if attempt.ordinal == 0:
        counts[_REQUESTS] += 1
    if attempt.cause is _FALLBACK:
        counts[_FALLBACKS] += 1
    elif attempt.cause is _SPILLOVER and attempt.target.lane is _SHARED and failure is not Failure.FULL:
        counts[_SPILLED] += 1
    if failure is None:
        return
    if failure is Failure.CLIENT_LEFT or failure is Failure.STALLED_CLIENT:
        counts[_ABANDONED] += 1
    elif failure is not Failure.OUTRUN:
        counts[_FAILURES] += 1


def _count_usage(counts: list[int], charge: Charge) -> None:
    usage = charge.usage
    counts[_NANO_USD] += charge.nano_usd
    counts[_INPUT] += usage.input_tokens
    counts[_OUTPUT] += usage.output_tokens
    counts[_WORK_US] += charge.work_us
    if usage.cached_input_tokens:
        counts[_CACHED] += usage.cached_input_tokens
    if usage.cache_write_tokens:
        counts[_CACHE_WRITE] += usage.cache_write_tokens
    if usage.reasoning_tokens:
        counts[_REASONING] += usage.reasoning_tokens
    if usage.audio_input_tokens or usage.audio_output_tokens:
        counts[_AUDIO] += usage.audio_input_tokens + usage.audio_output_tokens
    if usage.estimated:
        counts[_ESTIMATED_TOKENS] += usage.input_tokens + usage.output_tokens
        counts[_ESTIMATED_ATTEMPTS] += 1
        counts[_ESTIMATED_NANO_USD] += charge.nano_usd
    if not charge.priced:
        counts[_UNPRICED] += 1
