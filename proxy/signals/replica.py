"""What this process knows of one replica, and the reading that it gives out.

Theory of operation
-------------------
A `Replica` is fed the beginning and the end of every attempt. Its `Reading` is kept until something changes it or
`READING_S` has passed, since most requests come between changes. *Full* is not *broken*: an engine or provider that
answers 429, 503 or 529 is left alone for as long as it asked, and its breaker hears nothing of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from proxy.policy.model import Lane, Target
from proxy.routing.outcome import Failure, Outcome
from proxy.routing.readings import UNMEASURED, Breaker, Quantiles, Quota, Reading
from proxy.signals.account import Account
from proxy.signals.breaker import BASE_EJECTION_S, Event, Moment, State, is_failing, step
from proxy.signals.inflight import InFlight
from proxy.signals.pace import UNHELD
from proxy.signals.warmth import Warmth
from proxy.signals.windows import Durations, Share
from proxy.signals.workload import Job, Workload

LATENCY_WINDOW_S = 30.0
"""Short: a target that is put last for missing a want gets no more samples, and has to become unknown again soon."""
HEALTH_WINDOW_S = BASE_EJECTION_S
"""No longer than the shortest ejection, so that the failures which led to one are never counted again after it."""
UPTIME_WINDOW_S = 300.0
READING_S = 0.25
MEASURED_S = 1.0
"""How long quantiles are believed: nothing that is decided on them changes faster, and they take a walk to find."""

MIN_FULL_S = 0.25
"""How long *full* is believed when no `Retry-After` came with it: a few engine steps, in which a sequence may end."""
MAX_FULL_S = {Lane.DEDICATED: 5.0, Lane.SHARED: 60.0}
"""The longest `Retry-After` that is believed: one's own queue drains in seconds, a provider's quota refills by the
minute; a longer wish costs one bounced request a minute."""

_CLOSED, _OPEN, _SUCCESS = Breaker.CLOSED, Breaker.OPEN, Event.SUCCESS
"""For the path of a request: CPython 3.11 takes 45 ns to find a member of an enum, and 9 to find a global."""


Transitions = Counter[tuple[str, Breaker]]
"""How often the breaker of a replica of a target came to each phase."""


class Replica:
    """One replica's moving state. `index` is its place in the current list of URLs, `key` what proxies call it among
    themselves: for a moment, one may have found more of them than another. `reading` is the last one that was
    made out, and good until `fresh_until`.
    """

    __slots__ = (
        "_draw",
        "_e2e",
        "_full_at",
        "_full_until",
        "_health",
        "_itl",
        "_latency",
        "_max_full_s",
        "_measured_until",
        "_succeeded",
        "_transitions",
        "_ttft",
        "_uptime",
        "account",
        "breaker",
        "fresh_until",
        "in_flight",
        "index",
        "key",
        "reading",
        "target",
        "warmth",
        "work",
    )

    def __init__(
        self,
        target: Target,
        index: int,
        draw: Callable[[], float],
        account: Account | None = None,
        key: str = "",
        transitions: Transitions | None = None,
    ) -> None:
        self.key = key
        self._transitions = Counter() if transitions is None else transitions
        self.breaker = State()
        self.in_flight = InFlight()
        self._draw = draw
        self._full_at = self._full_until = 0.0
        self._health = Share(HEALTH_WINDOW_S)
        self._uptime = Share(UPTIME_WINDOW_S)
        self._ttft = Durations(LATENCY_WINDOW_S)
        self._itl = Durations(LATENCY_WINDOW_S)
        self._e2e = Durations(LATENCY_WINDOW_S)
        self.warmth = Warmth()
        self.work: Workload | None = None
        self.place(target, index, account)

    def place(self, target: Target, index: int, account: Account | None = None) -> None:
        """Take a place in a policy, the first or a new one; what was observed stays."""
        self.target = target.name
        self.account = account
        self.index = index
        self._max_full_s = MAX_FULL_S[target.lane]
        if target.lane is not Lane.DEDICATED:
            self.work = None
        elif self.work is None:
            self.work = Workload()
        self.reading = Reading(target=target.name, replica=index, as_of=0.0)
        self._latency = UNMEASURED
        self._succeeded: float | None = None
        self._measured_until = 0.0
        self.fresh_until = 0.0

    def read(self, now: float) -> Reading:
        """The replica as it stands at `now`, or stood a moment ago if nothing has happened since."""
        if now >= self.fresh_until:
            self.reading = self._observe(now)
        return self.reading

    def admits(self, now: float) -> bool:
        """Whether a request may be sent now, by breaker and pace; for an attempt that was planned a while ago."""
        return self._breaker(now).admits(now) and self._paced(now)[0] <= now

    def begin(self, now: float) -> int:
        """A request is on its way. Returns the breaker's generation, which `end` wants back."""
        self.in_flight.own += 1
        self.fresh_until = 0.0
        state = self.breaker
        if state.phase is not _CLOSED:
            state = self.breaker = step(self._breaker(now), Event.PROBE, Moment(now))
        return state.generation

    def end(self, outcome: Outcome, generation: int, now: float) -> None:
        """The request has ended, whichever way."""
        self.in_flight.own -= 1
        self.fresh_until = 0.0
        failure = outcome.failure
        if outcome.ttft_s is not None:
            self._ttft.add(outcome.ttft_s, now)
        elif outcome.awaited_in_vain:
            self._ttft.add(outcome.total_s, now)
        if outcome.itl_s is not None:
            self._itl.add(outcome.itl_s, now)
        if failure is None:
            self._e2e.add(outcome.total_s, now)
            self._judge(_SUCCESS, generation, now)
        elif failure.unhealthy:
            self._judge(Event.FAILURE, generation, now)
        else:
            self._excuse(outcome, generation, now)

    def first(self, job: Job, now: float) -> None:
        """The first token of the request of `job` is on its way to the client."""
        if self.work is not None:
            self.work.first(job, now)
            self.fresh_until = 0.0

    def appeared(self, now: float) -> None:
        """It was not there a moment ago: no request has to find out that it is, and few are sent at first."""
        self.warmth.appeared(now)
        self._advance(Event.PRESENT, Moment(now))
        self.fresh_until = 0.0

    def needed(self, now: float) -> None:
        """A request was refused for want of it. Of a flood of refusals one in a while changes anything."""
        before = self.breaker
        self._advance(Event.NEEDED, Moment(now))
        if self.breaker is not before:
            self.fresh_until = 0.0

    def absent(self, now: float) -> None:
        """Nobody is there: no request has to find that out."""
        self._advance(Event.ABSENT, Moment(now, draw=self._draw()))
        self.fresh_until = 0.0

    def _judge(self, event: Event, generation: int, now: float) -> None:
        success = event is _SUCCESS
        self._uptime.add(success, now)
        state = self.breaker
        if generation != state.generation:
            return
        health = self._health
        health.add(success, now)
        if not success:
            self._advance(event, Moment(now, is_failing(health.successes, health.failures), self._draw()))
        elif state.failures_in_a_row or state.phase is not _CLOSED:
            self._advance(event, Moment(now))

    def _excuse(self, outcome: Outcome, generation: int, now: float) -> None:
        if outcome.failure is Failure.FULL:
            wish_s = outcome.retry_after_s or MIN_FULL_S
            self._full_at = now
            self._full_until = now + min(max(wish_s, MIN_FULL_S), self._max_full_s)
        if generation == self.breaker.generation:
            self._advance(Event.EXCLUDED, Moment(now))

    def _advance(self, event: Event, moment: Moment) -> None:
        before = self.breaker.phase
        self.breaker = step(self.breaker, event, moment)
        if self.breaker.phase is before:
            return
        self._transitions[self.target, self.breaker.phase] += 1
        if self.breaker.phase is Breaker.CLOSED:
            self.warmth.closed(moment.now)
        else:
            self.warmth.shut(moment.now)

    def _breaker(self, now: float) -> State:
        if self.breaker.phase is Breaker.OPEN and now >= self.breaker.until:
            self._advance(Event.ELAPSED, Moment(now))
        return self.breaker

    def _observe(self, now: float) -> Reading:
        # For nearly every request: nobody is called upon where all is well, which takes 1.15 us in the place of 1.5.
        state, account, work = self.breaker, self.account, self.work
        shut = False
        if state.phase is not _CLOSED:
            state = self._breaker(now)
            shut = not state.admits(now)
        paced_until, quota = UNHELD if account is None else account.read(now)
        self.fresh_until = min(now + READING_S, state.until) if shut else now + READING_S
        if now >= self._measured_until:
            self._measured_until = now + MEASURED_S
            self._latency = self._quantiles(now)
            self._succeeded = self._uptime.value(now)
        return Reading(
            target=self.target,
            replica=self.index,
            as_of=now,
            in_flight=self.in_flight.total(now),
            breaker=_OPEN if shut else state.phase,
            open_until=state.until,
            full_until=self._full_until,
            full_at=self._full_at,
            latency=self._latency,
            uptime=self._succeeded,
            failures=self._uptime.failures,
            paced_until=paced_until,
            quota=quota,
            load=None if work is None else work.read(now, self.warmth.at(now)),
        )

    def _paced(self, now: float) -> tuple[float, Quota | None]:
        return UNHELD if self.account is None else self.account.read(now)

    def _quantiles(self, now: float) -> Quantiles:
        ttft_p99_s, ttft_p95_s, ttft_p90_s, ttft_p50_s = self._ttft.quantiles(now)
        itl_p99_s, itl_p95_s, itl_p90_s, itl_p50_s = self._itl.quantiles(now)
        e2e_p99_s, e2e_p95_s, e2e_p90_s, e2e_p50_s = self._e2e.quantiles(now)
        return Quantiles(
            ttft_p50_s=ttft_p50_s,
            ttft_p90_s=ttft_p90_s,
            ttft_p95_s=ttft_p95_s,
            ttft_p99_s=ttft_p99_s,
            itl_p50_s=itl_p50_s,
            itl_p90_s=itl_p90_s,
            itl_p95_s=itl_p95_s,
            itl_p99_s=itl_p99_s,
            e2e_p50_s=e2e_p50_s,
            e2e_p90_s=e2e_p90_s,
            e2e_p95_s=e2e_p95_s,
            e2e_p99_s=e2e_p99_s,
        )
