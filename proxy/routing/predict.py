"""What a replica would make of one more request: when its first token comes, and how fast the rest.

Theory of operation
-------------------
With Q tokens of prompt queued, n streams decoding over K tokens of context, and steps as in the replica's profile, the
first token of a prompt of x tokens that no cache holds comes after all that is queued and x itself have been read, in
chunks of what a step has room for beside the decoding streams, each chunk paying the fixed part of a step:

    s0   = a + b n + c K                        room = max(B - n, 64)
    ttft = s0 + (Q + x) d + e x (hit + x / 2) + (Q + x) / room s0

Afterwards a step of decoding is stretched by what prompts take of the engine's time, at the rate r at which they have
been coming, but by no more than one full chunk:

    s1   = a + b n' + c K'                      full = s1 + (B - n') (d + e x')
    itl  = min(s1 / (1 - min(.85, d (r + x / 5))), full)

where n' and K' are the streams and their context once all that is queued, and the request, decode as well, and x' is
the mean of the queued prompts.

Both are multiplied by the replica's own factors, the 90th percentile of what was observed against what was predicted;
so wrong profiles, slow GPUs and other people's traffic are all one kind of error, and are learned away. The wait is
never taken to be shorter than the one that the longest waiting request already has.

A replica is *feasible* for a request when both predictions keep the route's objectives with a margin, and the context
fits into its memory. Where a full step keeps the objective of the gap, no margin is needed: steps cannot get longer.
Source: the economics of DESIGN section 6.
"""

# ruff: noqa: PLR1730, FURB136 - a call takes longer than a comparison, and `figures` is asked for every replica

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import msgspec

from proxy.policy.engine_profile import ASSUMED, ASSUMED_MAX_BATCHED_TOKENS
from proxy.policy.model import Rules, Target
from proxy.routing.readings import Load

MARGIN = 0.9
"""Of the objective of the first token: the prediction is to stay below it."""
ITL_MARGIN = 0.85
"""Of the objective of the gap, where steps may get longer than it."""
KV_SHARE = 0.95
LEAST_ROOM_TOKENS = 64
MOST_PREFILL_SHARE = 0.85
SATURATED = 0.95
"""The share of a full step from which on a stream tells how long full steps are."""
RATE_S = 5.0
"""The rate of prompts is that of about so long, which the next prompt adds to."""
PROBE_S = 2.0
"""A replica that only its own factors condemn gets one request in this time, or it could never show that it is well."""
DEFAULT_TTFT_S = 2.0
"""Where a route says nothing: what spilling over keeps to, while there is a lawful target to spill over to."""
ASSUMED_OUTPUT_TOKENS = 256.0
"""Of an answer, where nothing is known of its app and it sets itself no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aims:
    """What a route wants of the first token and of the gap between tokens, in seconds; infinite where it does not say.

    `stated` is False where the first is only the default, which is a reason to spill over but never one to refuse. What
    gates ask for, of either, is `required`, so that nothing is served that is predicted to miss it.
    """

    ttft_s: float = DEFAULT_TTFT_S
    itl_s: float = inf
    stated: bool = False
    required_ttft_s: float = inf
    required_itl_s: float = inf


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """Of one request on one replica, in seconds: times its factors, and as its profile has them (`raw`).

    `full_s` is how long a full step takes, and `saturated` says that nothing else is expected. `fits` says that there
    is room for its context.
    """

    ttft_s: float
    itl_s: float
    raw_ttft_s: float
    raw_itl_s: float
    full_s: float
    saturated: bool
    fits: bool
    hit_tokens: int


Figures = tuple[float, float, float, float, float, bool, bool]
"""The fields of a `Prediction`, but the last."""


def aims(require: Rules, want: Rules) -> Aims:
    """The tightest that the rules ask for, at whatever quantile."""
    required_ttft_s, required_itl_s = _tightest(require, "ttft"), _tightest(require, "itl")
    ttft_s, itl_s = min(required_ttft_s, _tightest(want, "ttft")), min(required_itl_s, _tightest(want, "itl"))
    stated = min(ttft_s, itl_s) < inf
    return Aims(
        ttft_s=ttft_s if stated else DEFAULT_TTFT_S,
        itl_s=itl_s,
        stated=stated,
        required_ttft_s=required_ttft_s,
        required_itl_s=required_itl_s,
    )


def _tightest(rules: Rules, kind: str) -> float:
    return min((one.limit_s for one in rules.objectives if one.field.startswith(kind)), default=inf)


class Steps:
    """How a target's replicas step: its profile and the size of its chunks, made ready to predict with."""

    __slots__ = ("_a", "_b", "_c", "_chunk", "_d", "_e", "kv_tokens", "target")

    def __init__(self, target: Target) -> None:
        profile = target.profile or ASSUMED
        self.target = target
        self._a, self._b, self._c = profile.step_s, profile.sequence_s, profile.context_token_s
        self._d, self._e = profile.prefill_token_s, profile.attention_s
        self._chunk = target.max_batched_tokens or ASSUMED_MAX_BATCHED_TOKENS
        # What nobody has said is no reason to turn a request away.
        kv_tokens = None if target.profile is None else profile.kv_tokens
        self.kv_tokens = inf if kv_tokens is None else KV_SHARE * kv_tokens

    def predict(self, load: Load, input_tokens: int, hit_tokens: int, output_tokens: float) -> Prediction:
        """What the request would see on a replica with such a load."""
        return Prediction(*self.figures(load, input_tokens, hit_tokens, output_tokens), hit_tokens)

    def figures(self, load: Load, input_tokens: int, hit_tokens: int, output_tokens: float) -> Figures:
        """What `predict` finds, for whoever asks for every replica of every request: it calls no function."""
        b, d, n = self._b, self._d, load.decoding
        x = input_tokens - hit_tokens
        queue = load.queued_tokens + x
        s0 = self._a + b * n + self._c * load.context_tokens
        room = self._chunk - n
        if room < LEAST_ROOM_TOKENS:
            room = LEAST_ROOM_TOKENS
        raw_ttft_s = s0 + queue * d + self._e * x * (hit_tokens + x / 2) + queue / room * s0

        held = input_tokens + output_tokens / 2
        prefill = d * (load.prefill_tokens_per_s + x / RATE_S)
        if prefill > MOST_PREFILL_SHARE:
            prefill = MOST_PREFILL_SHARE
        s1 = s0 + b * (load.waiting + 1) + self._c * (load.queued_tokens + held)
        raw_itl_s = s1 / (1 - prefill)
        chunk = room - load.waiting
        if chunk < LEAST_ROOM_TOKENS:
            chunk = LEAST_ROOM_TOKENS
        raw_full_s = s1 + chunk * (d + self._e * queue / (load.waiting + 1))
        if raw_itl_s > raw_full_s:
            raw_itl_s = raw_full_s
        full_s = raw_full_s * load.step_factor
        itl_s = raw_itl_s * load.itl_factor

        factor = load.ttft_factor
        return (
            raw_ttft_s * (factor if factor > load.overdue else load.overdue) / load.warmth,
            itl_s if itl_s < full_s else full_s,
            raw_ttft_s,
            raw_itl_s,
            full_s,
            raw_itl_s >= SATURATED * raw_full_s,
            load.context_tokens + load.queued_tokens + held + output_tokens / 2 <= self.kv_tokens,
        )

    def work_s(self, input_tokens: int, hit_tokens: int, output_tokens: float) -> float:
        """The engine time that is the request's own: see `work.py`."""
        x = input_tokens - hit_tokens
        return x * (self._d + self._e * (hit_tokens + x / 2)) + output_tokens * (
            self._b + self._c * (input_tokens + output_tokens / 2)
        )
