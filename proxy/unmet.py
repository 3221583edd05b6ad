"""What dedicated targets could not take: said to whoever scales them, and reason to wake those that sleep.

Theory of operation
-------------------
Every decision that leaves a dedicated target out is told here, and every attempt that its engine turned away. Of that
the demand is reckoned (`signals/demand.py`), for an autoscaler; and where nobody answered at all, the target is woken,
if the policy says how (`wake.py`). Nothing of it is waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import Metric

from proxy.policy.model import Lane, Snapshot
from proxy.routing.facts import Facts
from proxy.routing.outcome import Failure, Outcome
from proxy.routing.plan import Decision, Plan
from proxy.routing.readings import Outlook, Readings
from proxy.routing.shortages import NOBODY_THERE
from proxy.signals.demand import Demand
from proxy.telemetry.metrics import count, gauge
from proxy.wake import Claims, Found, Waker

_UNANSWERED = frozenset({Failure.CONNECT, Failure.CONNECT_TIMEOUT})


class Unmet:
    """See the module's text. `survey` are the readings of all targets, `expected` how long an answer gets."""

    def __init__(
        self,
        snapshot: Snapshot,
        survey: Callable[[float], Readings],
        expected: Callable[[Facts], float | None],
        found: Found,
        claims: Claims,
    ) -> None:
        self._survey, self._expected = survey, expected
        self._demand = Demand(snapshot)
        self._waker = Waker(snapshot.targets.values(), found, claims)

    def start(self) -> None:
        """Wake who is needed from now on."""
        self._waker.start()

    async def aclose(self) -> None:
        """Leave off."""
        await self._waker.aclose()

    def adopt(self, snapshot: Snapshot) -> None:
        """Follow another policy."""
        self._demand.adopt(snapshot)
        self._waker.adopt(snapshot.targets.values())

    def left(self, decision: Decision, facts: Facts, now: float) -> None:
        """A decision left targets out."""
        if isinstance(decision, Plan) and decision.attempts[0].target.lane is Lane.DEDICATED:
            return
        self._demand.decided(decision, facts, now, Outlook(output_tokens=self._expected(facts)))
        for exclusion in decision.excluded:
            if exclusion.rule in NOBODY_THERE:
                self._waker.needs(exclusion.target, now)

    def failed(self, facts: Facts, outcome: Outcome, now: float) -> None:
        """An attempt came to nothing."""
        self._demand.ended(outcome, facts, now)
        if outcome.failure in _UNANSWERED or outcome.status == 503:
            self._waker.needs(outcome.attempt.target.name, now)

    def gauges(self, now: float) -> Mapping[str, int]:
        """For the other proxies; and a look at what the replicas have to do, as often as it is asked for."""
        for target, readings in self._survey(now).items():
            self._demand.look(target, [one.load for one in readings if one.load is not None], now)
        return self._demand.gauges(now)

    def absorb(self, others: Mapping[str, int], now: float) -> None:
        """What the other proxies tell."""
        self._demand.absorb(others, now)

    def metrics(self) -> Iterator[Metric]:
        """What Prometheus is told of it."""
        needed = [({"target": name}, value) for name, value in self._demand.replicas_needed(time.monotonic()).items()]
        yield gauge("replicas_needed", "For the work in flight and all that found no room", *needed)
        spilled = [({"target": name}, value) for name, value in self._demand.spilled_work_s().items()]
        yield count("spilled_work_seconds", "Engine time of what was spilled or refused for lack of room", *spilled)
        calls = [({"target": name, "outcome": outcome}, n) for (name, outcome), n in self._waker.calls.items()]
        yield count("wake_calls", "Calls of wake hooks", *calls)
