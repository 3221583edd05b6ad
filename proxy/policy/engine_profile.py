"""How long the steps of an inference engine take: the few numbers from which waits and gaps are predicted.

Theory of operation
-------------------
An engine that batches continuously works in steps. With n sequences decoding over K tokens of context together, and
chunks of prompt of t tokens at a mean context of x, a step takes

    a + b n + c K + sum(d t + e t x)

the linear model of Vidur (arXiv 2405.05465), Splitwise (arXiv 2311.18677) and Sarathi-Serve (arXiv 2403.02310).
Nobody has to know these numbers well: they are start values, and what is observed of each replica corrects them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class ProfileSource(StrEnum):
    """How a profile came to be a target's."""

    STATED = "stated in the policy"
    NAMED = "built in, named in the policy"
    FOUND = "built in for these GPUs and this model"
    ESTIMATED = "estimated from the GPUs' data sheet and the model's size"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineProfile:
    """One replica of an engine; all times in seconds.

    `step_s` is a, what a step takes whatever is in it; `sequence_s` is b, for each decoding sequence;
    `context_token_s` is c, for each token of their context; `prefill_token_s` is d, for each token of a prompt; and
    `attention_s` is e, for each token of a prompt and each token before it. `kv_tokens` is the room for context, None
    where nobody knows. Where it came from makes no difference to what it says.
    """

    name: str
    step_s: float
    sequence_s: float
    context_token_s: float
    prefill_token_s: float
    attention_s: float
    kv_tokens: int | None = None
    source: ProfileSource = field(default=ProfileSource.STATED, compare=False)


LLAMA_70B_FP8_2XH100 = EngineProfile(
    name="70b-fp8-2xh100",
    step_s=16e-3,
    sequence_s=90e-6,
    context_token_s=30e-9,
    prefill_token_s=70e-6,
    attention_s=1.8e-9,
    kv_tokens=471_000,
    source=ProfileSource.NAMED,
)
"""Llama 3.3 70B in FP8 on two H100s, fitted by least squares to TensorRT-LLM's published throughput (version 1.0)."""

ASSUMED = LLAMA_70B_FP8_2XH100
"""Where nothing is said of a target: a replica's observed ÷ predicted brings any start value right in time."""

ASSUMED_MAX_BATCHED_TOKENS = 2048
"""The tokens of one step where the policy does not say: vLLM's long-standing default."""
