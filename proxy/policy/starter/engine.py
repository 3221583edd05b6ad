"""How full an engine may run, and with which chunk, so that it keeps the pace that its answers are read or spoken at.

Theory of operation
-------------------
What a kind of application suggests suits the model that its figures were taken from. Where the name of another model
tells its size, the batch is halved until a step that holds a chunk of a prompt fits the objective (`engine_steps`, the
same estimate that `check` advises from). Where it does not, the suggestion stands.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.policy.engine_profiles import found_profile
from proxy.policy.engine_steps import chunk_tokens
from proxy.policy.lint.speed import ASSUMED_CONTEXT_TOKENS
from proxy.policy.model import Engine
from proxy.policy.starter.answers import DedicatedAnswer, GpusAnswer

FLAGS = {Engine.VLLM: "--max-num-batched-tokens", Engine.SGLANG: "--chunked-prefill-size"}
SMALLEST_BATCH = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Requests in flight and tokens in a step, of one replica; None where nothing is known of its steps."""

    max_in_flight: int
    max_batched_tokens: int | None = None


def fit(target: DedicatedAnswer, gpus: GpusAnswer, max_in_flight: int, gap_s: float | None) -> Fit:
    """The largest batch up to `max_in_flight` that keeps `gap_s` between tokens, with its chunk."""
    profile = found_profile(gpus.type, gpus.count, target.model, target.quantization or "unknown")
    if gap_s is None or profile is None or target.engine not in FLAGS:
        return Fit(max_in_flight=max_in_flight)
    batch = max_in_flight
    while batch >= SMALLEST_BATCH:
        chunk = chunk_tokens(profile, gap_s, batch, batch * ASSUMED_CONTEXT_TOKENS)
        if chunk is not None:
            return Fit(max_in_flight=batch, max_batched_tokens=chunk)
        batch //= 2
    return Fit(max_in_flight=max_in_flight)
