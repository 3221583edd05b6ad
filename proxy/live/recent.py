"""What this process did in the last minute: requests, tokens and latencies, by target and by route.

Theory of operation
-------------------
`note` is called for every request that has ended, and does next to nothing: a few sums in a *cell* (one for each route
and target that met), and the attempt itself on a short list. Once a second `tick` writes down where each cell stands,
so that what came lately is the difference to a mark of some seconds ago, and takes a sample of the attempts into the
windows of latencies. The sample is even over the second and bounded, so a proxy under load pays no more than an idle
one; of a hundred thousand requests it has two thousand a minute, which is enough for a 99th percentile.

Labels come from the policy, so there are as many cells as it has pairs that are in use; one that rested for a minute is
forgotten. The last decisions are kept as they are, in rings.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from proxy.live.cell import MARKS, Cell, Tally
from proxy.live.decisions import Ended, ended
from proxy.policy.model import Lane
from proxy.routing.outcome import Failure, Outcome
from proxy.routing.plan import Cause, Decision
from proxy.signals.windows import Durations
from proxy.telemetry.records import Record

DECISIONS = 50
NOTABLE = 25
LATENCY_S = 60.0
SAMPLES_PER_TICK = 512
"""Of all cells together: each costs two or three microseconds, on the loop that serves."""
SAMPLES_OF_CELL = 32
LEAST_OF_CELL = 4


class Latencies:
    """The recent distributions of one target or route, in seconds."""

    __slots__ = ("e2e", "itl", "ttft")

    def __init__(self) -> None:
        self.ttft = Durations(LATENCY_S)
        self.itl = Durations(LATENCY_S)
        self.e2e = Durations(LATENCY_S)

    def add(self, outcome: Outcome, now: float) -> None:
        """Count one attempt."""
        if outcome.ttft_s is not None:
            self.ttft.add(outcome.ttft_s, now)
        if outcome.itl_s is not None:
            self.itl.add(outcome.itl_s, now)
        if outcome.failure is None:
            self.e2e.add(outcome.total_s, now)


class Recent:
    """See the module's text. All times are monotonic; it begins at `now`."""

    def __init__(self, now: float) -> None:
        self.decisions: deque[Ended] = deque(maxlen=DECISIONS)
        self.notable: deque[Ended] = deque(maxlen=NOTABLE)
        self._cells: dict[tuple[str, str], Cell] = {}
        self._tallies: dict[tuple[str, str, str], Tally] = {}
        self._by_target: dict[str, Latencies] = {}
        self._by_route: dict[str, Latencies] = {}
        self._ticks: deque[float] = deque([now], maxlen=MARKS)

    def note(self, record: Record) -> None:
        """A request has ended. On the path of telemetry: cheap."""
        kept = ended(record)
        self.decisions.append(kept)
        outcomes, route = record.outcomes, record.decision.route
        if not outcomes:
            self._refused(record, route)
            self.notable.append(kept)
            return
        last = outcomes[-1]
        attempt = last.attempt
        target = attempt.target
        cell = self._cells.get((route, target.name))
        if cell is None:
            cell = self._cells[route, target.name] = Cell(target.lane)
        usage = last.usage
        cell.requests += 1
        cell.input_tokens += usage.input_tokens
        cell.output_tokens += usage.output_tokens
        cell.note(last)
        if last.failure is not None or attempt.cause is not Cause.PREFERRED or len(outcomes) > 1:
            self._unusual(record, kept, cell, route)

    def tick(self, now: float) -> list[Outcome]:
        """A second has passed: mark where the counts stand. Returns a sample of the attempts that ended in it."""
        sampled: list[Outcome] = []
        most = min(SAMPLES_OF_CELL, max(LEAST_OF_CELL, SAMPLES_PER_TICK // max(1, len(self._cells))))
        for (route, target), cell in list(self._cells.items()):
            outcomes = cell.sampled(most)
            if outcomes:
                self._sampled(route, target, outcomes, now)
                sampled += outcomes
            cell.mark()
            if cell.rested:
                del self._cells[route, target]
        for key, tally in list(self._tallies.items()):
            tally.mark()
            if tally.rested:
                del self._tallies[key]
        self._ticks.append(now)
        return sampled

    def forget_but(self, targets: frozenset[str], routes: frozenset[str]) -> None:
        """Another policy serves: what it does not name is of no interest any more."""
        self._by_target = {name: seen for name, seen in self._by_target.items() if name in targets}
        self._by_route = {name: seen for name, seen in self._by_route.items() if name in routes}

    def target(self, name: str) -> Latencies | None:
        """The latencies of a target; None if it had no request yet."""
        return self._by_target.get(name)

    def route(self, name: str) -> Latencies | None:
        """The latencies of a route's requests, wherever they were served."""
        return self._by_route.get(name)

    def span_s(self, ticks: int, now: float) -> float:
        """How long ago the mark of so many ticks ago was made; since the beginning, where there are not so many."""
        return now - self._ticks[max(0, len(self._ticks) - ticks)]

    def cells(self) -> Iterator[tuple[str, str, Cell]]:
        """Route, target and what was counted of both."""
        for (route, target), cell in self._cells.items():
            yield route, target, cell

    def tallies(self, kind: str, ticks: int) -> Iterator[tuple[str, str, int]]:
        """Route, rule and how many requests it `spilled` or `refused` since so many ticks ago."""
        for (told, route, rule), tally in self._tallies.items():
            if told == kind and (count := tally.since(ticks)):
                yield route, rule, count

    def _sampled(self, route: str, target: str, outcomes: list[Outcome], now: float) -> None:
        for latencies in (_of(self._by_target, target), _of(self._by_route, route)):
            for outcome in outcomes:
                latencies.add(outcome, now)

    def _refused(self, record: Record, route: str) -> None:
        refusal = record.refusal
        if refusal is not None and refusal.rule != Failure.CLIENT_LEFT.label:
            self._tally("refused", route, refusal.rule)

    def _unusual(self, record: Record, kept: Ended, cell: Cell, route: str) -> None:
        """Count what is out of the ordinary, and keep it, unless all of it is that a client left."""
        outcomes = record.outcomes
        failure = outcomes[-1].failure
        if failure is not None and failure is not Failure.CLIENT_LEFT:
            cell.failed += 1
        if len(outcomes) > 1:
            for outcome in outcomes[:-1]:
                self._failed_before(outcome, route)
        rule = spilled_by(record)
        if rule is not None:
            self._tally("spilled", route, rule)
        if failure is not Failure.CLIENT_LEFT or len(outcomes) > 1 or rule is not None:
            self.notable.append(kept)

    def _failed_before(self, outcome: Outcome, route: str) -> None:
        target = outcome.attempt.target
        cell = self._cells.setdefault((route, target.name), Cell(target.lane))
        cell.note(outcome)
        if outcome.failure is not None and outcome.failure.unhealthy:
            cell.failed += 1

    def _tally(self, kind: str, route: str, rule: str) -> None:
        key = (kind, route, rule)
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = Tally()
        tally.count += 1


def spilled_by(record: Record) -> str | None:
    """The rule that sent a request from dedicated to a shared target; None where none did.

    A dedicated engine that said itself that it is full counts like a decision that foresaw it.
    """
    outcomes = record.outcomes
    if not outcomes or outcomes[-1].attempt.target.lane is not Lane.SHARED:
        return None
    for outcome in outcomes[:-1]:
        if outcome.failure is Failure.FULL and outcome.attempt.target.lane is Lane.DEDICATED:
            return "engine_full"
    return first_rule(record.decision) if outcomes[0].attempt.cause is Cause.SPILLOVER else None


def first_rule(decision: Decision) -> str:
    """The first preference that left a target out."""
    for one in decision.excluded:
        if not one.hard:
            return one.rule
    return "none"


def _of(known: dict[str, Latencies], name: str) -> Latencies:
    found = known.get(name)
    if found is None:
        found = known[name] = Latencies()
    return found
