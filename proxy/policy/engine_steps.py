"""How long one step of an inference engine takes, from its GPUs and the size of its model: to advise a chunk size.

Theory of operation
-------------------
An engine that batches continuously works in steps of

    a + b * (decoding sequences) + c * (their context tokens) + d * (prompt tokens)        seconds,

the linear model of Vidur (arXiv 2405.05465) and Sarathi-Serve (arXiv 2403.02310). Reading the weights bounds a, moving
the context c, and arithmetic d, so each follows from the model's size and the GPUs' data sheet, up to an efficiency.
The efficiencies here make the model agree with fits to published throughput of TensorRT-LLM 1.0 (Llama 3.3 70B in fp8
on two H100 and on one H200, 8B on one H100) within a third. They are start values for advice, not measurements.

A chunk fits an objective L on the gap between tokens when the step that holds it does:
chunk <= sequences + (L - a - b * sequences - c * context) / d.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

FIXED_S = 0.0035
WEIGHT_READS = 1.2
"""Time to read the weights, relative to what the memory's bandwidth allows."""
ARITHMETIC_EFFICIENCY = 0.56
DECODE_S_OF_70B = 180e-6
KV_S_OF_70B = 0.06e-6
"""Per sequence and per context token of a 70B model, on one H100."""
H100_BYTES_PER_S = 3.35e12
MARGIN = 0.9
"""A step that was planned for less than the objective keeps it on bad steps too."""
MULTIPLE = 64
LEAST_CHUNK = 64

_SIZE = re.compile(r"(?<![A-Za-z0-9.])(\d{1,4}(?:\.\d)?)[bB](?![A-Za-z0-9])")
_SPARSE = re.compile(r"(?i)\d+x\d+b|[-_]a\d+(?:\.\d)?b|gpt-oss|mixtral|deepseek-(?:v|r)|maverick|scout")
_BYTES = {"fp8": 1.0, "int8": 1.0, "w8a8": 1.0, "bf16": 2.0, "fp16": 2.0}
_BYTES |= dict.fromkeys(("fp4", "int4", "nvfp4", "mxfp4", "awq", "gptq", "w4a16"), 0.5)
PRECISIONS = frozenset({*_BYTES, "fp32", "fp6", "int6"})
"""The words for a number format that are in use."""


@dataclass(frozen=True, slots=True)
class Chip:
    """One GPU's data sheet: memory bandwidth, dense arithmetic in 16 and in 8 bits (None: not built in)."""

    bytes_per_s: float
    flops_16: float
    flops_8: float | None


CHIPS = {
    "A100": Chip(2.0e12, 312e12, None),
    "H100": Chip(H100_BYTES_PER_S, 989e12, 1979e12),
    "H200": Chip(4.8e12, 989e12, 1979e12),
    "B200": Chip(8.0e12, 2250e12, 4500e12),
    "L4": Chip(0.3e12, 121e12, 242e12),
    "L40S": Chip(0.864e12, 362e12, 733e12),
    "MI300X": Chip(5.3e12, 1307e12, 2615e12),
}


@dataclass(frozen=True, slots=True)
class StepCost:
    """The four coefficients, in seconds: a step's own, per decoding sequence, per context token, per prompt token."""

    step_s: float
    decode_s: float
    context_s: float
    prefill_s: float


def billions_of(model: str) -> float | None:
    """The size that the name of a dense model states, in billions; None without one, and for mixtures of experts."""
    found = _SIZE.search(model)
    size = float(found[1]) if found and not _SPARSE.search(model) else 0.0
    return size or None


def step_cost(chip: Chip, count: int, billions: float, quantization: str) -> StepCost | None:
    """The cost of a step of a dense model on `count` GPUs; None for a quantization nobody knows the size of."""
    size = _BYTES.get(quantization)
    if size is None:
        return None
    flops = chip.flops_8 if size == 1.0 and chip.flops_8 else chip.flops_16
    slower = H100_BYTES_PER_S / (count * chip.bytes_per_s)
    scale = billions / 70
    return StepCost(
        step_s=FIXED_S + WEIGHT_READS * billions * 1e9 * size / (count * chip.bytes_per_s),
        decode_s=DECODE_S_OF_70B * scale * slower,
        context_s=KV_S_OF_70B * scale**0.64 * slower,
        prefill_s=2 * billions * 1e9 / (count * flops * ARITHMETIC_EFFICIENCY),
    )


def decoding_s(cost: StepCost, sequences: int, context_tokens: int) -> float:
    """What a step takes that does nothing but decode."""
    return cost.step_s + cost.decode_s * sequences + cost.context_s * context_tokens


def chunk_tokens(cost: StepCost, objective_s: float, sequences: int, context_tokens: int) -> int | None:
    """The largest step, in tokens, that keeps the objective with so much decoding; None when there is no room."""
    room = (MARGIN * objective_s - decoding_s(cost, sequences, context_tokens)) / cost.prefill_s
    return None if room < LEAST_CHUNK else max(1, round((sequences + room) / MULTIPLE)) * MULTIPLE
