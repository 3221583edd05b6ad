"""The upstreams of a replay: engines that step, and shared APIs that answer after a while.

Theory of operation
-------------------
An engine is the step model behind the simulators that the proxy is tested with; here it lives on the replay's clock. It
takes one step at a time, and what a step brings about becomes known at its end. A shared API is a distribution: nothing
that is sent there waits for anything else, but for its limit by the minute.
"""

from __future__ import annotations

from collections import OrderedDict
from math import exp, log
from random import Random

from proxy.advisor.scenario import Scenario, SharedSpeed
from proxy.policy.engine_profile import ASSUMED, ASSUMED_MAX_BATCHED_TOKENS, EngineProfile
from proxy.policy.model import Target
from proxy.simulator.profile import Profile
from proxy.simulator.step_model import Admission, Step, StepModel

Z_99 = 2.3263478740408408
LONGEST_RUN_S = 60.0
UNBOUNDED_KV_TOKENS = 1 << 40


class Engine:
    """One replica. The replay asks for `start` whenever nothing runs, and tells when the step's end has come."""

    __slots__ = ("_cache", "_cache_ttl_s", "_plain", "_queue_limit", "_slow", "model", "running")

    def __init__(self, target: Target, replica: int, scenario: Scenario) -> None:
        truth = scenario.truth.get(target.name) or target.profile or ASSUMED
        self._plain = _profile(truth, target, scenario.max_seqs, 1.0)
        self._slow = [
            (one.span, _profile(truth, target, scenario.max_seqs, one.factor))
            for one in scenario.slowdowns
            if one.replica == replica
        ]
        self._queue_limit = scenario.queue_limit
        self._cache_ttl_s = scenario.cache_ttl_s
        self._cache: OrderedDict[int, float] = OrderedDict()
        self.model = StepModel(self._plain)
        self.running: Step | None = None

    def submit(self, request: int, input_tokens: int, output_tokens: int, hit_tokens: int) -> bool:
        """Send a request; False when the engine says that it is full."""
        if self._queue_limit is not None and self.model.waiting >= self._queue_limit:
            return False
        hit_tokens = min(hit_tokens, input_tokens - 1)
        admitted = self.model.submit(request, input_tokens, output_tokens, cached_tokens=hit_tokens)
        return admitted is Admission.ACCEPTED

    def start(self, now: float, until: float) -> float | None:
        """Begin a step, or several that only decode, up to the time `until`; when it will end, None with no work."""
        if self._slow:
            slow = next((profile for span, profile in self._slow if span.covers(now)), self._plain)
            self.model.profile = slow
        self.running = step = self.model.step(min(max(until - now, 0.0), LONGEST_RUN_S))
        return None if step is None else now + step.duration_s

    def cached(self, prefix: tuple[int, ...], block_tokens: int, now: float) -> int:
        """How many tokens of a prompt are in the engine's cache, which has all of its blocks from now on."""
        cache, oldest = self._cache, now - self._cache_ttl_s
        hits = 0
        for block in prefix:
            if cache.get(block, -1e300) < oldest:
                break
            hits += 1
        for block in reversed(prefix):
            cache[block] = now
            cache.move_to_end(block)
        most = self._plain.kv_tokens // block_tokens
        while len(cache) > most:
            cache.popitem(last=False)
        return hits * block_tokens


def _profile(truth: EngineProfile, target: Target, max_seqs: int, factor: float) -> Profile:
    chunk = target.max_batched_tokens or ASSUMED_MAX_BATCHED_TOKENS
    return Profile(
        name=truth.name,
        step_s=truth.step_s * factor,
        decode_s=truth.sequence_s * factor,
        kv_s=truth.context_token_s * factor,
        prefill_s=truth.prefill_token_s * factor,
        attention_s=truth.attention_s * factor,
        kv_tokens=truth.kv_tokens or UNBOUNDED_KV_TOKENS,
        max_batched_tokens=chunk,
        max_seqs=min(max_seqs, chunk),
    )


class SharedApi:
    """One shared target: its speed, its outages and its limit by the minute."""

    __slots__ = ("_down", "_mu", "_random", "_room_tokens", "_sigma", "_since_s", "_tokens_per_s", "tokens_per_s")

    def __init__(self, speed: SharedSpeed, scenario: Scenario, random: Random) -> None:
        self._mu = log(speed.ttft_median_s)
        self._sigma = log(speed.ttft_p99_s / speed.ttft_median_s) / Z_99
        self.tokens_per_s = speed.tokens_per_s
        self._random = random
        self._down = scenario.shared_down
        limit = scenario.shared_tokens_per_minute
        self._tokens_per_s = None if limit is None else limit / 60
        self._room_tokens = 0.0 if limit is None else float(limit)
        self._since_s = 0.0

    def is_down(self, now: float) -> bool:
        """Whether it cannot be reached."""
        return bool(self._down) and any(span.covers(now) for span in self._down)

    def admits(self, tokens: int, now: float) -> bool:
        """Whether the limit lets so many tokens through: a bucket of one minute's worth, refilled all the time."""
        rate = self._tokens_per_s
        if rate is None:
            return True
        self._room_tokens = min(60 * rate, self._room_tokens + rate * (now - self._since_s))
        self._since_s = now
        if self._room_tokens < tokens:
            return False
        self._room_tokens -= tokens
        return True

    def ttft_s(self) -> float:
        """The time to the first token of one request."""
        return exp(self._random.gauss(self._mu, self._sigma))
