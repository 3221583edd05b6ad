"""The work that one replica has before it, kept from its streams alone, and how right its profile has been.

Theory of operation
-------------------
A request's prompt is queued from the moment it is sent until its first token comes; then it is a stream with its
context, until it ends. Nothing is asked of the engine. A reply in one piece shows no first token: its prompt is taken
to be read when it was predicted to be. What the other proxies have there is known from the background sync, a fraction
of a second late, and is dropped when the sync falls silent, since an old number would be as wrong as none.

The factors follow the 90th percentile of observed ÷ predicted by stochastic approximation on the logarithm (Robbins and
Monro, 1951): up by 0.9 steps after an observation beyond it, down by 0.1 steps after one within. Steps are large at
first, and grow again when observations fall on one side for so long that the replica must have changed. Only
observations under load tell anything: a wait that was predicted to be short is mostly noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heappop, heappush
from math import exp, inf, log

from proxy.routing.facts import Facts
from proxy.routing.outcome import Failure, Outcome
from proxy.routing.plan import Estimate
from proxy.routing.predict import ASSUMED_OUTPUT_TOKENS, RATE_S
from proxy.routing.readings import Load

QUANTILE = 0.9
STEP = 0.02
FIRST_STEP = 0.2
SETTLED_SAMPLES = 30
"""Until then the steps get shorter, from the first to the lasting one."""
ABOVE_IN_A_ROW = 3
BELOW_IN_A_ROW = 40
"""So many observations on one side come by chance about once in a thousand, and once in seventy, times."""
MOST_FACTOR = 50.0
TTFT_TELLS = 0.3
ITL_TELLS = 0.6
"""The share of the objective that has to be predicted for an observation to tell anything."""
PACE_TOKENS = 32
"""Of shorter answers the gaps tell nothing."""
OVERDUE_FLOOR_S = 0.5
"""A wait shorter than that is never overdue."""
OTHERS_BELIEVED_S = 5.0
MICRO = 1e6


class Factor:
    """The 90th percentile of observed ÷ predicted, as it goes; `log` is its logarithm."""

    __slots__ = ("_run", "log", "samples")

    def __init__(self) -> None:
        self.log = 0.0
        self._run = 0  # observations on one side so far: above where positive, below where negative
        self.samples = 0

    @property
    def value(self) -> float:
        """What to multiply a prediction by."""
        return exp(self.log)

    def start(self, at_log: float) -> None:
        """Begin with what others have learned; of no effect once anything was observed here."""
        if not self.samples:
            self.log = at_log

    def observe(self, ratio: float) -> None:
        """An observation was so many times as long as its prediction."""
        step = STEP
        if self.samples < SETTLED_SAMPLES:
            step = FIRST_STEP + (STEP - FIRST_STEP) * self.samples / SETTLED_SAMPLES
        self.samples += 1
        above = log(max(ratio, 1 / MOST_FACTOR)) > self.log
        if above:
            self._run = self._run + 1 if self._run > 0 else 1
            if self._run > ABOVE_IN_A_ROW:
                step *= 4
        else:
            self._run = self._run - 1 if self._run < 0 else -1
            if -self._run > BELOW_IN_A_ROW:
                step *= 4
        self.log += step * (QUANTILE if above else QUANTILE - 1)
        self.log = min(max(self.log, -log(MOST_FACTOR)), log(MOST_FACTOR))


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
        "_begun_at",
        "_blind",
        "_context_tokens",
        "_decoding",
        "_itl",
        "_others",
        "_others_until",
        "_queued_tokens",
        "_rate",
        "_rate_at",
        "_serial",
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
        self._others = NONE
        self._others_until = 0.0

    def begin(self, job: Job, now: float, *, shows_first: bool) -> None:
        """The request of `job` is sent; `shows_first` says that its first token will be seen."""
        job.begun_at = self._begun_at = now
        self._waiting[job] = None
        self._queued_tokens += job.fresh_tokens
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
            self._learn_ttft(job.estimate, now - job.begun_at)
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
        if outcome.failure is Failure.FIRST_TOKEN_TIMEOUT:
            self._learn_ttft(estimate, outcome.total_s)
        if outcome.itl_s is not None and outcome.usage.output_tokens >= PACE_TOKENS:
            self._learn_itl(estimate, outcome.itl_s)

    def _learn_ttft(self, estimate: Estimate, ttft_s: float) -> None:
        if estimate.ttft_s * estimate.ttft_factor > TTFT_TELLS * estimate.ttft_aim_s:
            self._ttft.observe(ttft_s / estimate.ttft_s)

    def _learn_itl(self, estimate: Estimate, itl_s: float) -> None:
        if estimate.itl_s * estimate.itl_factor > ITL_TELLS * estimate.itl_aim_s:
            self._itl.observe(itl_s / estimate.itl_s)

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
        return Load(
            waiting=len(self._waiting) + others.waiting,
            queued_tokens=self._queued_tokens + others.queued_tokens,
            decoding=self._decoding + others.decoding,
            context_tokens=self._context_tokens + others.context_tokens,
            prefill_tokens_per_s=self._prefill_tokens_per_s(now) + others.prefill_tokens_per_s,
            ttft_factor=self._ttft.value,
            itl_factor=self._itl.value,
            samples=self._ttft.samples,
            overdue=overdue,
            begun_at=self._begun_at,
            warmth=warmth,
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
            told[f"{key}:ttft"] = round(self._ttft.log * MICRO)
            told[f"{key}:itl"] = round(self._itl.log * MICRO)
            told[f"{key}:settled"] = 1
        return {name: value for name, value in told.items() if value}

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
        settled = told(f"{key}:settled", 0)
        if settled:
            self._ttft.start(told(f"{key}:ttft", 0) / MICRO / settled)
            self._itl.start(told(f"{key}:itl", 0) / MICRO / settled)

    def _prefill_tokens_per_s(self, now: float) -> float:
        return self._rate * exp(-(now - self._rate_at) / RATE_S)


NONE = Load()
