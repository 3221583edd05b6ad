"""The breaker of one replica: a transition table over a frozen state.

Theory of operation
-------------------
    phase      event     next
    closed     success   closed, the run of failures forgotten
    closed     failure   closed, or open after five in a row, or when half of the last results (20 at least) failed
    open       elapsed   half-open
    open       needed    half-open, if it has been open for two seconds
    half-open  probe     half-open, and no other request is let through until the probe ends, or for ten seconds
    half-open  success   closed
    half-open  failure   open, for twice as long as the last time
    half-open  excluded  half-open, free for another probe
    closed     absent    open
    half-open  absent    open, for as long as the last time
    open       absent    open, and no probe for a moment
    open       present   closed
    half-open  present   closed

A pair that is not in the table changes nothing. The numbers are Envoy's outlier detection (five consecutive failures,
30 s base ejection) with exponential growth to five minutes and jitter, so that replicas ejected together are not probed
together; past ejections are forgotten after five minutes closed. A probe that is still streaming after ten seconds has
not failed either, so another one may follow it. As in gobreaker, every change of phase starts a new
*generation*, and a result that belongs to an older one is dropped; and a request that says nothing about health (the
client left, the request was rejected, the engine was full) is *excluded*: neither success nor failure. *Absent* and
*present* are said by whoever asks after a deployment that sleeps (`proxy/wake.py`): better than by a caller's request.
*Needed* is said when a request was refused for want of the replica: the next one may find out whether it is back, since
it has nothing to lose, and what it finds does not lengthen the ejection.

Nothing here reads a clock: `elapsed` is reported by whoever looks at the breaker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, auto

import msgspec

from proxy.routing.readings import Breaker

CONSECUTIVE_FAILURES = 5
FAILURE_SHARE = 0.5
MIN_RESULTS = 20
BASE_EJECTION_S = 30.0
MAX_EJECTION_S = 300.0
FORGIVEN_AFTER_S = 300.0
PROBE_PATIENCE_S = 10.0
ABSENT_S = 5.0
"""How long it is believed that nobody is there; who says so says it every second."""
NEEDED_AFTER_S = 2.0
"""How often a replica that nothing can stand in for is tried while it is ejected."""
JITTER = 0.2
"""An ejection lasts between 1 and 1.2 times its nominal length: never shorter, so the base stays a promise."""


class Event(Enum):
    """What can happen to a breaker."""

    SUCCESS = auto()
    FAILURE = auto()
    EXCLUDED = auto()
    ELAPSED = auto()
    NEEDED = auto()
    PROBE = auto()
    ABSENT = auto()
    PRESENT = auto()


class State(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One breaker at one time; times are seconds on the monotonic clock.

    `phase` has held since `since`. `until` is when an open breaker's ejection ends, or when a half-open one admits its
    next request. `ejections` counts those in a row.
    """

    phase: Breaker = Breaker.CLOSED
    generation: int = 0
    failures_in_a_row: int = 0
    ejections: int = 0
    since: float = 0.0
    until: float = 0.0

    def admits(self, now: float) -> bool:
        """Whether a request may be sent: always while closed, never while open, a probe at a time while half-open."""
        return self.phase is Breaker.CLOSED or (self.phase is Breaker.HALF_OPEN and now >= self.until)


class Moment(msgspec.Struct, frozen=True, gc=False):
    """The circumstances of an event.

    `failing` says that the recent share of failures is over its limit; `draw`, in [0, 1), is the jitter.
    """

    now: float
    failing: bool = False
    draw: float = 0.0


def step(state: State, event: Event, moment: Moment) -> State:
    """The state after `event`; the very same object when nothing changes."""
    transition = TRANSITIONS.get((state.phase, event))
    return state if transition is None else transition(state, moment)


def is_failing(successes: int, failures: int) -> bool:
    """Whether a window of results is bad enough to open a closed breaker without a run of failures."""
    results = successes + failures
    return results >= MIN_RESULTS and failures >= FAILURE_SHARE * results


def ejection_s(ejections: int, draw: float) -> float:
    """The length of the n-th ejection in a row (from 0): 30 s x 2^n, five minutes at most, plus up to 20 % jitter."""
    nominal_s: float = min(BASE_EJECTION_S * 2.0 ** min(ejections, 16), MAX_EJECTION_S)
    return nominal_s * (1 + JITTER * draw)


def _recover(state: State, moment: Moment) -> State:
    return state if state.failures_in_a_row == 0 else msgspec.structs.replace(state, failures_in_a_row=0)


def _suffer(state: State, moment: Moment) -> State:
    failures = state.failures_in_a_row + 1
    if failures < CONSECUTIVE_FAILURES and not moment.failing:
        return msgspec.structs.replace(state, failures_in_a_row=failures)
    forgiven = moment.now - state.since >= FORGIVEN_AFTER_S
    return _open(state, moment, 0 if forgiven else state.ejections)


def _reopen(state: State, moment: Moment) -> State:
    return _open(state, moment, state.ejections)


def _open(state: State, moment: Moment, ejections: int) -> State:
    return State(
        phase=Breaker.OPEN,
        generation=state.generation + 1,
        ejections=ejections + 1,
        since=moment.now,
        until=moment.now + ejection_s(ejections, moment.draw),
    )


def _offer_probe(state: State, moment: Moment) -> State:
    if moment.now < state.until:
        return state
    return State(phase=Breaker.HALF_OPEN, generation=state.generation + 1, ejections=state.ejections, since=moment.now)


def _offer_early(state: State, moment: Moment) -> State:
    if moment.now - state.since < NEEDED_AFTER_S:
        return state
    offered = _offer_probe(msgspec.structs.replace(state, until=moment.now), moment)
    return msgspec.structs.replace(offered, ejections=max(0, state.ejections - 1))


def _send_probe(state: State, moment: Moment) -> State:
    return msgspec.structs.replace(state, until=moment.now + PROBE_PATIENCE_S)


def _free_probe(state: State, moment: Moment) -> State:
    return msgspec.structs.replace(state, until=moment.now)


def _stay_open(state: State, moment: Moment) -> State:
    return msgspec.structs.replace(state, until=max(state.until, moment.now + ABSENT_S))


def _vanish(state: State, moment: Moment) -> State:
    return _open(state, moment, max(0, state.ejections - 1))


def _close(state: State, moment: Moment) -> State:
    return State(generation=state.generation + 1, ejections=state.ejections, since=moment.now)


TRANSITIONS: Mapping[tuple[Breaker, Event], Callable[[State, Moment], State]] = {
    (Breaker.CLOSED, Event.SUCCESS): _recover,
    (Breaker.CLOSED, Event.FAILURE): _suffer,
    (Breaker.OPEN, Event.ELAPSED): _offer_probe,
    (Breaker.OPEN, Event.NEEDED): _offer_early,
    (Breaker.HALF_OPEN, Event.PROBE): _send_probe,
    (Breaker.HALF_OPEN, Event.SUCCESS): _close,
    (Breaker.HALF_OPEN, Event.FAILURE): _reopen,
    (Breaker.HALF_OPEN, Event.EXCLUDED): _free_probe,
    (Breaker.CLOSED, Event.ABSENT): _vanish,
    (Breaker.HALF_OPEN, Event.ABSENT): _vanish,
    (Breaker.OPEN, Event.ABSENT): _stay_open,
    (Breaker.OPEN, Event.PRESENT): _close,
    (Breaker.HALF_OPEN, Event.PRESENT): _close,
}
