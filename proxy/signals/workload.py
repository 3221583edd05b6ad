"""The work that one replica has before it, kept from its streams alone, and how right its profile has been.

Theory of operation
-------------------
A request's prompt is queued from the moment it is sent until its first token comes; then it is a stream with its
context, until it ends. Nothing is asked of the engine. A reply in one piece shows no first token: its prompt is taken
to be read when it was predicted to be.

What the other proxies have there is known from the background sync, a fraction of a second late. Since then they have
sent work too, most likely as this one has: what it sent since is counted for them as well, in the proportion of their
work to its own. When the sync falls silent their work is dropped, since an old number would be as wrong as none.

Traffic that goes past all proxies is told from the engine's own count (`foreign.py`), where it has one.

The factors are the 90th percentile of the latest observed ÷ predicted. So they rise as soon as a tenth of the latest
are worse, and fall when nearly all are better. Only observations under load tell anything: a wait that was predicted to
be short is mostly noise. How long a full step takes is told by the streams that were expected to see nothing else; and
as gaps are only told by answers that have ended, waits that got longer count for them at once.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Mapping
from heapq import heappop, heappush
from math import exp, inf, log

from proxy.routing.facts import Facts
from proxy.routing.outcome import Outcome
from proxy.routing.plan import Estimate
from proxy.routing.predict import ASSUMED_OUTPUT_TOKENS, RATE_S
from proxy.routing.readings import Load
from proxy.signals.engine_metrics import EngineReading
from proxy.signals.foreign import DEFAULT_CONTEXT_TOKENS, DEFAULT_PROMPT_TOKENS, ForeignLoad, with_foreign

QUANTILE = 0.9
LATEST = 64
"""How many observations count at most."""
BELIEVED_S = 60.0
LEAST = 10
"""How long each counts, unless so few are left."""
START_WEIGHT = 4
"""For how many observations the start value stands, until as many have come."""
SETTLED_SAMPLES = 30
"""From then on others may begin with what was learned here."""
TTFT_TELLS = 0.3
ITL_TELLS = 0.6
"""The share of the objective that has to be predicted for an observation to tell anything, unless that misses it."""
TTFT_LEAST = 0.1
"""The share of the objective below which no wait is taken to have been predicted."""
PACE_TOKENS = 32
"""Of shorter answers the gaps tell nothing."""
OVERDUE_FLOOR_S = 0.5
"""A wait shorter than that is never overdue."""
OTHERS_BELIEVED_S = 5.0
UNSURE = 1.25
"""How far the middle of the gaps may be off without a full step being so, too."""
UNSURE_P90 = 1.25
"""How far waits may be off without steps being so: waits are seen at once, and gaps at the end of an answer only."""
MOST_ALIKE = 8.0
MICRO = 1e6


class Factor:
    """Of the latest observed ÷ predicted, the 90th percentile, `value`, and the median, `middle`."""

    __slots__ = ("_latest", "_ranked", "_start", "middle", "samples", "value")

    def __init__(self) -> None:
        self._latest: deque[tuple[float, float]] = deque()
        self._ranked: list[float] = []
        self._start = START_WEIGHT
        self.samples = 0
        self.value = self.middle = 1.0

    def start(self, value: float) -> None:
        """Begin with what others have learned; of no effect once anything was observed here."""
        if not self.samples:
            self.value = self.middle = value

    def observe(self, ratio: float, now: float) -> None:
        """An observation was so many times as long as its prediction."""
        latest, ranked = self._latest, self._ranked
        if not self.samples:
            for _ in range(START_WEIGHT):
                latest.append((now, self.value))
                ranked.append(self.value)
        self.samples += 1
        latest.append((now, ratio))
        insort(ranked, ratio)
        while len(latest) > LATEST or (latest[0][0] < now - BELIEVED_S and len(latest) > LEAST):
            _, gone = latest.popleft()
            del ranked[bisect_left(ranked, gone)]
        if self._start:
            self._start -= 1
            _, gone = latest.popleft()
            del ranked[bisect_left(ranked, gone)]
        self.value = ranked[int(QUANTILE * (len(ranked) - 1) + 0.5)]
        self.middle = ranked[len(ranked) // 2]


class Job:
    """One request on the replica: waiting for its first token, then a stream. Its replica's `Workload` changes it."""

    __slots__ = ("begun_at", "context_tokens", "estimate", "fresh_tokens", "shows_first", "state")

    def __init__(self, input_tokens: int, hit_tokens: int, output_tokens: float, estimate: Estimate | None) -> None:
        self.fresh_tokens = input_tokens - hit_tokens
        # A stream's context grows by its answer: it is counted with half of it, the mean over its life.
        self.context_tokens = int(input_tokens + output_tokens / 2)
        self.estimate = estimate
        self.begun_at = 0.0
        self.shows_first = True
        self.state = WAITING


WAITING, DECODING, ENDED = range(3)


def job_of(facts: Facts, estimate: Estimate | None) -> Job:
    """What a request is for a replica, with what was predicted of it there."""
    if estimate is None:
        return Job(facts.input_tokens, 0, ASSUMED_OUTPUT_TOKENS, None)
    return Job(facts.input_tokens, estimate.hit_tokens, estimate.output_tokens, estimate)


class Workload:
    """One replica's, of this process and of the others as last heard."""

    __slots__ = (
        "_alike",
        "_begun_at",
        "_blind",
        "_context_tokens",
        "_decoding",
        "_foreign",
        "_itl",
        "_others",
        "_others_until",
        "_queued_tokens",
        "_rate",
        "_rate_at",
        "_serial",
        "_since_tokens",
        "_step",
        "_ttft",
        "_waiting",
    )

    def __init__(self) -> None:
        self._waiting: dict[Job, None] = {}  # in the order in which they were sent
        self._blind: list[tuple[float, int, Job]] = []
        self._serial = 0
        self._queued_tokens = self._decoding = self._context_tokens = 0
        self._rate = self._rate_at = 0.0
        self._begun_at = -inf
        self._ttft = Factor()
        self._itl = Factor()
        self._step = Factor()
        self._others = NONE
        self._others_until = 0.0
        self._since_tokens = 0
        self._alike = 0.0
        self._foreign = ForeignLoad()

    def begin(self, job: Job, now: float, *, shows_first: bool) -> None:
        """The request of `job` is sent; `shows_first` says that its first token will be seen."""
        job.begun_at = self._begun_at = now
        self._waiting[job] = None
        self._queued_tokens += job.fresh_tokens
        self._since_tokens += job.fresh_tokens
        job.shows_first = shows_first
        if not shows_first:
            estimate = job.estimate
            wait_s = 0.0 if estimate is None else estimate.ttft_s * self._ttft.value
            self._serial += 1
            heappush(self._blind, (now + wait_s, self._serial, job))

    def first(self, job: Job, now: float) -> None:
        """The first token of the request has come, or must have."""
        if job.state != WAITING:
            return
        if job.shows_first and job.estimate is not None:
            self._learn_ttft(job.estimate, now - job.begun_at, now)
        job.state = DECODING
        del self._waiting[job]
        self._queued_tokens -= job.fresh_tokens
        self._decoding += 1
        self._context_tokens += job.context_tokens
        elapsed_s = now - self._rate_at
        if elapsed_s > 0:
            self._rate *= exp(-elapsed_s / RATE_S)
            self._rate_at = now
        self._rate += job.fresh_tokens / RATE_S

    def end(self, job: Job, now: float) -> None:
        """The request has ended, whichever way."""
        if job.state == DECODING:
            self._decoding -= 1
            self._context_tokens -= job.context_tokens
        elif job.state == WAITING:
            del self._waiting[job]
            self._queued_tokens -= job.fresh_tokens
        job.state = ENDED

    def conclude(self, job: Job, outcome: Outcome, now: float) -> None:
        """The request has ended like that: its work is gone, and its times tell how right the profile is."""
        self.end(job, now)
        estimate = job.estimate
        if estimate is None:
            return
        if outcome.awaited_in_vain:
            self._learn_ttft(estimate, outcome.total_s, now)
        if outcome.itl_s is not None and outcome.usage.output_tokens >= PACE_TOKENS:
            self._learn_itl(estimate, outcome.itl_s, now)

    def _learn_ttft(self, estimate: Estimate, ttft_s: float, now: float) -> None:
        tells_s = TTFT_TELLS * estimate.ttft_aim_s
        if estimate.ttft_s * estimate.ttft_factor > tells_s:
            self._ttft.observe(ttft_s / estimate.ttft_s, now)
        elif ttft_s > estimate.ttft_aim_s:
            # Next to nothing was expected: a hiccup, or a profile of another kind of machine.
            self._ttft.observe(ttft_s / max(estimate.ttft_s, TTFT_LEAST * estimate.ttft_aim_s), now)

    def _learn_itl(self, estimate: Estimate, itl_s: float, now: float) -> None:
        predicted_s = estimate.itl_s * estimate.itl_factor
        if predicted_s > ITL_TELLS * estimate.itl_aim_s or itl_s > estimate.itl_aim_s:
            self._itl.observe(itl_s / estimate.itl_s, now)
            if estimate.saturated:
                self._step.observe(itl_s / estimate.itl_s, now)

    def read(self, now: float, warmth: float = 1.0) -> Load:
        """The load as it stands."""
        blind = self._blind
        while blind and blind[0][0] <= now:
            self.first(heappop(blind)[2], now)
        others = self._others if now < self._others_until else NONE
        overdue = 0.0
        for job in self._waiting:
            predicted_s = 0.0 if job.estimate is None else job.estimate.ttft_s
            overdue = (now - job.begun_at) / max(predicted_s, OVERDUE_FLOOR_S)
            break
        slower = self._ttft.value / UNSURE_P90
        load = Load(
            waiting=len(self._waiting) + others.waiting,
            queued_tokens=self._queued_tokens + others.queued_tokens + int(self._alike * self._since_tokens),
            decoding=self._decoding + others.decoding,
            context_tokens=self._context_tokens + others.context_tokens,
            prefill_tokens_per_s=self._prefill_tokens_per_s(now) + others.prefill_tokens_per_s,
            ttft_factor=self._ttft.value,
            itl_factor=max(self._itl.value, slower),
            step_factor=max(self._step.value, self._itl.middle / UNSURE, slower),
            samples=self._ttft.samples,
            overdue=overdue,
            begun_at=self._begun_at,
            warmth=warmth,
        )
        foreign = self._foreign.at(now)
        if not foreign:
            return load
        # Those of others are taken to be like ours.
        return with_foreign(
            load,
            foreign,
            prompt_tokens=load.queued_tokens / load.waiting if load.waiting else DEFAULT_PROMPT_TOKENS,
            context_tokens=load.context_tokens / load.decoding if load.decoding else DEFAULT_CONTEXT_TOKENS,
        )

    def gauges(self, key: str, now: float) -> dict[str, int]:
        """What the other proxies are told of this one's work on the replica that `key` names; they are added up."""
        told = {
            f"{key}:waiting": len(self._waiting),
            f"{key}:queued": self._queued_tokens,
            f"{key}:decoding": self._decoding,
            f"{key}:context": self._context_tokens,
            f"{key}:rate": int(self._prefill_tokens_per_s(now)),
        }
        if self._ttft.samples >= SETTLED_SAMPLES:
            told[f"{key}:ttft"] = round(log(self._ttft.value) * MICRO)
            told[f"{key}:itl"] = round(log(self._itl.value) * MICRO)
            told[f"{key}:settled"] = 1
        return {name: value for name, value in told.items() if value}

    def heard(self, reading: EngineReading, now: float) -> None:
        """What the engine says that it has to do: what is nobody's of ours is somebody else's."""
        others = self._others if now < self._others_until else NONE
        decoding, waiting = self._decoding + others.decoding, len(self._waiting) + others.waiting
        self._foreign.observe(reading, decoding, waiting, now)

    def absorb(self, key: str, others: Mapping[str, int], now: float) -> None:
        """The sum of what the other proxies tell of theirs."""
        told = others.get
        self._others = Load(
            waiting=told(f"{key}:waiting", 0),
            queued_tokens=told(f"{key}:queued", 0),
            decoding=told(f"{key}:decoding", 0),
            context_tokens=told(f"{key}:context", 0),
            prefill_tokens_per_s=told(f"{key}:rate", 0),
        )
        self._others_until = now + OTHERS_BELIEVED_S
        self._since_tokens = 0
        own = len(self._waiting) + self._decoding
        self._alike = min((self._others.waiting + self._others.decoding) / max(own, 1), MOST_ALIKE)
        settled = told(f"{key}:settled", 0)
        if settled:
            self._ttft.start(exp(told(f"{key}:ttft", 0) / MICRO / settled))
            self._itl.start(exp(told(f"{key}:itl", 0) / MICRO / settled))

    def _prefill_tokens_per_s(self, now: float) -> float:
        return self._rate * exp(-(now - self._rate_at) / RATE_S)


NONE = Load()
