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

from dataclasses import dataclass

from proxy.policy.model import Gpus
from proxy.routing.outcome import Usage

US_PER_HOUR = 3_600_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What an engine's step takes, in nanoseconds: for a decoding sequence and for each token of its context, for a
    token of prefill, and for that token's attention to each token before it.
    """

    sequence_ns: float
    context_token_ns: float
    prefill_token_ns: float
    attention_ns: float


LLAMA_70B_FP8_2XH100 = Profile(sequence_ns=90_000, context_token_ns=30, prefill_token_ns=70_000, attention_ns=1.8)
"""Llama 3.3 70B in FP8 on two H100s, fitted by least squares to TensorRT-LLM's published throughput (version 1.0)."""


def work_us(usage: Usage, profile: Profile = LLAMA_70B_FP8_2XH100) -> int:
    """The engine time of one request, in microseconds, rounded up: no work is free."""
    into, out = usage.input_tokens, usage.output_tokens
    hit = min(usage.cached_input_tokens, into)
    prefill_ns = (into - hit) * (profile.prefill_token_ns + profile.attention_ns * (into + hit) / 2)
    decode_ns = out * (profile.sequence_ns + profile.context_token_ns * (into + out / 2))
    return -int(-(prefill_ns + decode_ns) // 1000)


def attributed_nano_usd(gpus: Gpus, usage: Usage) -> int:
    """What the engine time of `usage` costs at its replica's price by the hour, in nano-USD, rounded up."""
    return -(-work_us(usage) * gpus.replica_nano_usd_per_hour // US_PER_HOUR)
