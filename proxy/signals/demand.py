"""How many replicas each dedicated target would need for all the work that wants it, wherever it went.

Theory of operation
-------------------
Whoever scales a deployment by how busy it is never sees what left it for lack of room: spilling over would hide the
need for another replica. So both are counted, in engine time each second of wall time:

    needed = (work in flight on the replicas + work that was spilled or refused) / capacity of one replica

With n streams over K tokens of context, prompts read at r tokens a second, and Q tokens queued, a replica works at

    d r + (b n + c K) / step + d Q / WINDOW_S      with step = min(a + b n + c K, L)

since a stream takes a step for each of its tokens, which the objective L lets last no longer. One replica has the
capacity `1 - a / L`: what a step of the longest length that is allowed leaves for work. All of it is of the profile
that the target has. Both terms are averages over about `WINDOW_S`: of the first by looking again and again, of the
second by letting what was spilled decay.

Loads are of all proxies together already; of what was spilled each tells the others its own rate. So every proxy says
the same number, and one of them is enough to scale by. A target that somebody wanted lately needs a hundredth of a
replica at least: more than none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import exp, inf

from proxy.policy.engine_profile import ASSUMED
from proxy.policy.model import Lane, Snapshot, Target
from proxy.routing.facts import Facts
from proxy.routing.outcome import Failure, Outcome
from proxy.routing.place import expected_output_tokens
from proxy.routing.plan import Decision, Plan
from proxy.routing.predict import Steps, aims
from proxy.routing.readings import NO_OUTLOOK, Load, Outlook
from proxy.routing.shortages import short

WINDOW_S = 45.0
WANTED_S = 300.0
"""How long a target is wanted after the last request for it: as long as KEDA waits before it scales to zero."""
OTHERS_BELIEVED_S = 5.0
LEAST_NEEDED = 0.01
DEFAULT_ITL_S = 0.05
"""The objective of the gap between tokens, where no route has one: a slow reader's."""
LEAST_CAPACITY = 0.1
PREFIX = "spilled:"
_MICRO = 1e6


class Spilled:
    """One target's share of what this process had to send elsewhere, or to refuse: work in seconds."""

    __slots__ = ("_at", "_last_at", "_rate", "total_s")

    def __init__(self) -> None:
        self.total_s = 0.0
        self._rate = self._at = 0.0
        self._last_at = -inf

    def add(self, work_s: float, now: float) -> None:
        """So much more."""
        self._rate = self._decayed(now) + work_s / WINDOW_S
        self._at = self._last_at = now
        self.total_s += work_s

    def rate(self, now: float) -> float:
        """Work-seconds a second, over about `WINDOW_S`; 0 when nothing came for long."""
        return self._decayed(now) if now - self._last_at < WANTED_S else 0.0

    def _decayed(self, now: float) -> float:
        return self._rate * exp(-max(0.0, now - self._at) / WINDOW_S)


class Engine:
    """How one target's replicas work through what they are given. `itl_s` is the tightest objective of its routes."""

    __slots__ = ("_a", "_b", "_c", "_d", "_itl_s", "capacity", "steps")

    def __init__(self, target: Target, itl_s: float) -> None:
        profile = target.profile or ASSUMED
        self._a, self._b, self._c = profile.step_s, profile.sequence_s, profile.context_token_s
        self._d = profile.prefill_token_s
        self._itl_s = DEFAULT_ITL_S if itl_s == inf else itl_s
        self.capacity = max(1.0 - self._a / self._itl_s, LEAST_CAPACITY)
        self.steps = Steps(target)

    def working(self, load: Load) -> float:
        """The work that a replica is given each second, in seconds."""
        decoding_s = self._b * load.decoding + self._c * load.context_tokens
        step_s = min(self._a + decoding_s, self._itl_s)
        prefill = self._d * (load.prefill_tokens_per_s + load.queued_tokens / WINDOW_S)
        return prefill + (decoding_s / step_s if decoding_s else 0.0)


class _Wanted:
    """What is known of one dedicated target."""

    __slots__ = ("average", "engine", "last_at", "looked_at", "others", "others_until", "spilled")

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.spilled = Spilled()
        self.average = 0.0
        self.looked_at: float | None = None
        self.last_at = -inf
        self.others = self.others_until = 0.0

    def look(self, loads: Iterable[Load], now: float) -> None:
        """See what the replicas have to do."""
        given = list(loads)
        working = sum(self.engine.working(load) for load in given)
        if any(load.decoding or load.waiting for load in given):
            self.last_at = now
        elapsed_s = inf if self.looked_at is None else max(0.0, now - self.looked_at)
        self.average += (working - self.average) * (1.0 - exp(-elapsed_s / WINDOW_S))
        self.looked_at = now

    def needed(self, now: float) -> float:
        others = self.others if now < self.others_until else 0.0
        spilled = self.spilled.rate(now)
        if not spilled and not others and now - self.last_at >= WANTED_S:
            return 0.0
        return max((self.average + spilled + others) / self.engine.capacity, LEAST_NEEDED)


class Demand:
    """Of all dedicated targets of a policy. Nothing here waits."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._wanted: dict[str, _Wanted] = {}
        self.adopt(snapshot)

    def adopt(self, snapshot: Snapshot) -> None:
        """Follow another policy; what is known of a target stays with its name."""
        before, self._wanted = self._wanted, {}
        for target in snapshot.targets.values():
            if target.lane is Lane.DEDICATED:
                engine = Engine(target, _tightest_itl_s(snapshot, target))
                known = self._wanted[target.name] = before.get(target.name) or _Wanted(engine)
                known.engine = engine

    def decided(self, decision: Decision, facts: Facts, now: float, outlook: Outlook = NO_OUTLOOK) -> str | None:
        """Take note of a decision that leaves targets out; the answer is the dedicated target that had no room for it.

        What another dedicated target takes is in flight there. The work is that of the first of those without room,
        and counts once.
        """
        if isinstance(decision, Plan) and decision.attempts[0].target.lane is Lane.DEDICATED:
            return None
        name = next((name for name in short(decision.excluded) if name in self._wanted), None)
        if name is not None:
            output_tokens = expected_output_tokens(facts, outlook)
            wanted = self._wanted[name]
            wanted.spilled.add(wanted.engine.steps.work_s(facts.input_tokens, 0, output_tokens), now)
        return name

    def ended(self, outcome: Outcome, facts: Facts, now: float) -> None:
        """Take note of an attempt's end: an engine that said that it was full was wanted all the same."""
        wanted = self._wanted.get(outcome.attempt.target.name)
        if outcome.failure is Failure.FULL and wanted is not None:
            estimate = outcome.attempt.estimate
            expected = expected_output_tokens(facts, NO_OUTLOOK) if estimate is None else estimate.output_tokens
            wanted.spilled.add(wanted.engine.steps.work_s(facts.input_tokens, 0, expected), now)

    def look(self, target: str, loads: Iterable[Load], now: float) -> None:
        """See what the replicas of a target have to do, as often as it may have changed: a few times a second."""
        wanted = self._wanted.get(target)
        if wanted is not None:
            wanted.look(loads, now)

    def gauges(self, now: float) -> dict[str, int]:
        """For the other proxies: what was spilled here, in millionths of a replica's second each second."""
        rates = {PREFIX + name: wanted.spilled.rate(now) for name, wanted in self._wanted.items()}
        return {name: max(1, round(rate * _MICRO)) for name, rate in rates.items() if rate}

    def absorb(self, others: Mapping[str, int], now: float) -> None:
        """What the other proxies tell, all together."""
        for name, wanted in self._wanted.items():
            wanted.others = others.get(PREFIX + name, 0) / _MICRO
            wanted.others_until = now + OTHERS_BELIEVED_S

    def replicas_needed(self, now: float) -> dict[str, float]:
        """By target, of all proxies together."""
        return {name: wanted.needed(now) for name, wanted in self._wanted.items()}

    def spilled_work_s(self) -> dict[str, float]:
        """By target, what this process has ever spilled or refused for lack of room."""
        return {name: wanted.spilled.total_s for name, wanted in self._wanted.items()}


def _tightest_itl_s(snapshot: Snapshot, target: Target) -> float:
    models = {name for name, all_of in snapshot.models.items() if any(one.target.name == target.name for one in all_of)}
    routes = [one for one in snapshot.routes if one.match.models is None or not one.match.models.isdisjoint(models)]
    return min((aims(route.require, route.want).itl_s for route in routes), default=inf)
