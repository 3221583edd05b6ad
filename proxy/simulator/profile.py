"""The figures that make one simulated engine differ from another.

Theory of operation
-------------------
A profile is the linear step model's coefficients plus the engine's own limits. The built-in ones were fitted by
non-negative least squares to published throughput (TensorRT-LLM's performance overview v1.0, ten rows) and to the OCI
benchmark table of Llama-3.3-70B; model/published lies within 0.79-1.13. The form is that of Vidur (arXiv 2405.05465)
and Sarathi-Serve (arXiv 2403.02310). No figure here was measured on a GPU by this project.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One engine replica.

    A step costs `step_s + decode_s * n + kv_s * KV + sum(prefill_s * tokens + attention_s * tokens * context)` seconds.
    `max_batched_tokens` and `max_seqs` are vLLM's `--max-num-batched-tokens` and `--max-num-seqs`.
    `max_requests` is its `--max-num-queued-reqs`, which counts waiting *and* running requests; None is no limit.
    """

    name: str
    step_s: float
    decode_s: float
    kv_s: float
    prefill_s: float
    attention_s: float
    kv_tokens: int
    max_batched_tokens: int = 2048
    max_seqs: int = 256
    max_requests: int | None = None

    def __post_init__(self) -> None:
        if self.step_s <= 0 or min(self.decode_s, self.kv_s, self.prefill_s, self.attention_s) < 0:
            raise ValueError(f"profile `{self.name}`: costs are seconds, and a step takes some")
        if not 1 <= self.max_seqs <= self.max_batched_tokens:
            raise ValueError(f"profile `{self.name}`: max_seqs is at least 1 and at most max_batched_tokens")
        if self.kv_tokens < 2:
            raise ValueError(f"profile `{self.name}`: kv_tokens holds at least one prompt token and one answer token")


PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(
            name="70b-fp8-2xh100",
            step_s=16e-3,
            decode_s=90e-6,
            kv_s=0.030e-6,
            prefill_s=70e-6,
            attention_s=1.8e-9,
            kv_tokens=471_000,
        ),
        Profile(
            name="70b-fp8-1xh200",
            step_s=17e-3,
            decode_s=128e-6,
            kv_s=0.060e-6,
            prefill_s=111e-6,
            attention_s=5.4e-9,
            kv_tokens=365_000,
        ),
        Profile(
            name="8b-fp8-1xh100",
            step_s=6.5e-3,
            decode_s=25e-6,
            kv_s=0.015e-6,
            prefill_s=13.5e-6,
            attention_s=0.44e-9,
            kv_tokens=990_000,
            max_seqs=512,
        ),
    )
}
"""Built-in profiles by name: model size, weight format, GPUs of one replica."""
