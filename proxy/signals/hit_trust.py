"""How much of what is assumed to be in a target's caches really is.

Theory of operation
-------------------
An engine may cache nothing at all, cache in other blocks, or lose what it had; so the share of the assumed tokens that
were really read from the cache is followed, as a ratio of two decaying sums. It begins at 1: engines cache unless they
are told not to.

Who says what was read from the cache is `usage`, but many an engine is silent there unless it is started with a flag
(vLLM's `--enable-prompt-tokens-details`, SGLang's `--enable-cache-report`), and a silent one cannot be told from one
without a cache. Until a target has ever reported a cached token, its first tokens are the evidence: a prompt with so
many cached ones is read sooner, by what the profile says they take; prompts of which next to nothing is assumed to be
cached show how far the profile is off. Only prompts whose first token would come in half the time, or less, then tell
anything.
"""

from __future__ import annotations

from math import exp, log

from proxy.policy.engine_profile import ASSUMED, ASSUMED_MAX_BATCHED_TOKENS
from proxy.policy.model import Target
from proxy.routing.outcome import Outcome
from proxy.routing.plan import Estimate

DECAY = 1 - 1 / 64
"""Per observation: about the last hundred count."""
PRIOR_TOKENS = 4096.0
"""The first observations stand beside so many tokens that were where they were assumed to be."""
MIN_SAMPLES = 20
"""Prompts with little in the cache that must have been seen before the first tokens of others tell anything."""
LITTLE = 0.1
MUCH = 0.5
"""Shares of the time to the first token that a prompt's hits would save."""
FARTHEST_OFF = 0.5
"""A first token that came earlier or later than either case explains counts for no more than this beyond it."""
SHORTEST_S = 1e-6


class HitTrust:
    """One target's. `share` is what to multiply assumed tokens by, from 0 to 1."""

    __slots__ = ("_actual", "_assumed", "_log_ratio", "_misses", "_reports", "share")

    def __init__(self) -> None:
        self._actual = self._assumed = PRIOR_TOKENS
        self._log_ratio = 0.0
        self._misses = 0
        self._reports = False
        self.share = 1.0

    def judge(self, assumed_tokens: int, outcome: Outcome) -> None:
        """An attempt has succeeded, on a replica that was taken to have so many tokens of its prompt."""
        usage, estimate = outcome.usage, outcome.attempt.estimate
        self._reports = self._reports or usage.cached_input_tokens > 0
        if self._reports:
            if assumed_tokens and not usage.estimated:
                self._observe(assumed_tokens, min(usage.cached_input_tokens, assumed_tokens))
        elif estimate is not None and outcome.ttft_s is not None:
            self._time(assumed_tokens, outcome.attempt.target, estimate, max(outcome.ttft_s, SHORTEST_S))

    def _time(self, assumed_tokens: int, target: Target, estimate: Estimate, ttft_s: float) -> None:
        whole_s = estimate.ttft_s + _saved_s(target, estimate.hit_tokens)
        saved_s = _saved_s(target, assumed_tokens)
        if saved_s <= LITTLE * whole_s:
            self._misses += 1
            weight = max(1 / self._misses, 1 - DECAY)
            self._log_ratio += weight * (log(ttft_s / (whole_s - saved_s)) - self._log_ratio)
        elif saved_s >= MUCH * whole_s and self._misses >= MIN_SAMPLES:
            share = (whole_s - ttft_s / exp(self._log_ratio)) / saved_s
            self._observe(assumed_tokens, assumed_tokens * min(max(share, -FARTHEST_OFF), 1 + FARTHEST_OFF))

    def _observe(self, assumed_tokens: int, actual_tokens: float) -> None:
        self._assumed = DECAY * self._assumed + assumed_tokens
        self._actual = DECAY * self._actual + actual_tokens
        self.share = min(max(self._actual / self._assumed, 0.0), 1.0)


def _saved_s(target: Target, tokens: int) -> float:
    """What it takes to read so many tokens at the beginning of a prompt, with the steps that they fill."""
    profile = target.profile or ASSUMED
    chunk = target.max_batched_tokens or ASSUMED_MAX_BATCHED_TOKENS
    return tokens * (profile.prefill_token_s + profile.step_s / chunk + profile.attention_s * tokens / 2)
