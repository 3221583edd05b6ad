"""How much of an engine's time a request takes: the measure by which GPU time is divided among requests.

Theory of operation
-------------------
The step model of an engine (Orca, vLLM, Sarathi-Serve; fitted in the form of Vidur, arXiv 2405.05465): a step costs
`a + b*sequences + c*context + prefill`. What one request adds to the steps it takes part in is its work,

    w = d*(input - cached) + e*input^2/2 + output*(b + c*(input + output/2))

in engine seconds. The coefficients are those of a 70B model in FP8 on two H100s; for another engine they are as good as
the ratio between prefill and decode is the same, which is all that a division needs.
"""

from __future__ import annotations

from typing import NamedTuple

from proxy.policy.model import Gpus
from proxy.routing.outcome import Usage

US_PER_HOUR = 3_600_000_000


class Profile(NamedTuple):
    """The step model's coefficients: microseconds per sequence, per context token, per prompt token and its square."""

    sequence_us: float = 90.0
    context_us: float = 0.030
    prefill_us: float = 70.0
    attention_us: float = 0.0018


PROFILE = Profile()


def work_us(usage: Usage, profile: Profile = PROFILE) -> int:
    """The engine microseconds of `usage`, rounded up."""
    into, out = usage.input_tokens, usage.output_tokens
    prefill = (
        profile.prefill_us * (into - min(usage.cached_input_tokens, into)) + profile.attention_us * into * into / 2
    )
    decode = out * (profile.sequence_us + profile.context_us * (into + out / 2))
    return -int(-(prefill + decode) // 1)


def attributed_nano_usd(gpus: Gpus, usage: Usage) -> int:
    """What the engine time of `usage` costs at the replica's price by the hour, rounded up."""
    return -(-work_us(usage) * gpus.replica_nano_usd_per_hour // US_PER_HOUR)
