"""How to start an engine so that it keeps a gap between tokens and a wait for the first one, from its profile.

Theory of operation
-------------------
Requests of `in` and `out` tokens bring work w = d in + e in^2 / 2 + out (b + c (in + out / 2)). If every step takes the
objective L, less a margin m, the engine takes what is left of it after its fixed part a: r = (m L - a) / (w L) requests
a second. Then r out L of them decode at one time, and r in L tokens of prompts go into each step beside them: that is
the batch and the chunk at which both kinds of work come out even. A quarter more sequences are let in, because requests
do not come evenly.

In T seconds to the first token, less the margin, (m T - s0) / (d + s0 / room) tokens of prompts are read, at s0 for the
decoding part of a step and `room` for what a chunk leaves prompts: so many may wait, and no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from proxy.policy.engine_profile import EngineProfile
from proxy.policy.engine_steps import MARGIN, chunk_tokens, decoding_s

SLACK = 1.25
"""Sequences that are let in, relative to those that decode when both kinds of work are even."""
MULTIPLE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """For one replica: tokens of a step, sequences that decode, requests in it at one time (waiting ones included),
    and the requests a second that it then takes.
    """

    max_batched_tokens: int
    max_seqs: int
    max_requests: int
    requests_per_s: float


def advise(
    profile: EngineProfile, *, itl_s: float, ttft_s: float, input_tokens: int, output_tokens: int
) -> Advice | None:
    """How to start the engine for requests of this size; None when it cannot keep the objectives."""
    held = input_tokens + output_tokens / 2
    read_s = profile.prefill_token_s * input_tokens + profile.attention_s * input_tokens**2 / 2
    work_s = read_s + output_tokens * (profile.sequence_s + profile.context_token_s * held)
    per_s = (MARGIN * itl_s - profile.step_s) / (work_s * itl_s)
    even = per_s * output_tokens * itl_s
    if profile.kv_tokens is not None:
        even = min(even, profile.kv_tokens / SLACK / (input_tokens + output_tokens))
    if even < 1:
        return None
    chunk = chunk_tokens(profile, itl_s, round(even), round(even * held))
    if chunk is None:
        return None
    plain_s = decoding_s(profile, round(even), round(even * held))
    reads_s = profile.prefill_token_s + profile.attention_s * input_tokens / 2 + plain_s / max(1, chunk - even)
    waiting = int((MARGIN * ttft_s - plain_s) / reads_s / input_tokens)
    if waiting < 1:
        return None
    seqs = ceil(SLACK * even / MULTIPLE) * MULTIPLE
    per_s = even / (output_tokens * itl_s)
    return Advice(max_batched_tokens=chunk, max_seqs=seqs, max_requests=seqs + waiting, requests_per_s=per_s)
