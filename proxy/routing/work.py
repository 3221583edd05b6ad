"""How much of an engine's time a request takes, so that the hours of a GPU can be shared out among those it served.

Theory of operation
-------------------
A batching engine's step takes `a + b n + c K + sum(d t + e t x)`: with n sequences decoding over K tokens of context
together, and t tokens prefilled at a context of x. The constant a is nobody's; the rest is linear in what a request
brings along, so that a request's own, marginal time is, with `in` tokens of input, `hit` of them in the prefix cache,
and `out` of output,

    work = d (in - hit)  +  e (in^2 - hit^2) / 2  +  out (b + c (in + out / 2))

the time to read the prompt, to attend over it, and to decode out tokens while the context grows. The model is the one
of Vidur (arXiv 2405.05465) and Splitwise (arXiv 2311.18677). Only the ratio of one request's work to another's decides
what either is charged of a GPU-hour: an engine that is uniformly faster than its profile changes nobody's share.
"""

from __future__ import annotations

from math import ceil

from proxy.policy.engine_profile import ASSUMED, EngineProfile
from proxy.policy.model import Gpus
from proxy.routing.outcome import Usage

US_PER_HOUR = 3_600_000_000
_US = 1e6
_DIGITS = 6
"""A picosecond: what the factor between seconds and microseconds leaves behind it is rounded away."""


def work_us(usage: Usage, profile: EngineProfile = ASSUMED) -> int:
    """The engine time of one request, in microseconds, rounded up: no work is free."""
    into, out = usage.input_tokens, usage.output_tokens
    hit = min(usage.cached_input_tokens, into)
    reading_s = (into - hit) * (profile.prefill_token_s + profile.attention_s * (into + hit) / 2)
    decoding_s = out * (profile.sequence_s + profile.context_token_s * (into + out / 2))
    return ceil(round((reading_s + decoding_s) * _US, _DIGITS))


def attributed_nano_usd(gpus: Gpus, usage: Usage, profile: EngineProfile = ASSUMED) -> int:
    """What the engine time of `usage` costs at its replica's price by the hour, in nano-USD, rounded up."""
    return -(-work_us(usage, profile) * gpus.replica_nano_usd_per_hour // US_PER_HOUR)
