"""How long one step of an inference engine takes, from its GPUs and the size of its model, and which chunk that allows.

Theory of operation
-------------------
The coefficients of a step (`EngineProfile`) follow from the model's size and the GPUs' data sheet, up to an efficiency:
reading the weights bounds a step's own time, moving the context that of each context token, and arithmetic that of each
prompt token. Attention is arithmetic too, 4 x layers x width operations for each token and each before it. The
efficiencies here make the model agree with fits to published throughput of TensorRT-LLM 1.0 (Llama 3.3 70B in fp8 on
two H100 and on one H200, 8B on one H100) within a third, attention within a factor of two. They are start values, not
measurements; how many tokens of context fit is not among them, since engines lay their caches out differently.

A chunk fits an objective L on the gap between tokens when the step that holds it does:
chunk <= sequences + (L - a - b * sequences - c * context) / d.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from proxy.policy.engine_profile import EngineProfile, ProfileSource

FIXED_S = 0.0035
WEIGHT_READS = 1.2
"""Time to read the weights, relative to what the memory's bandwidth allows."""
ARITHMETIC_EFFICIENCY = 0.56
ATTENTION_EFFICIENCY = 0.7
ATTENTION_FLOPS_OF_70B = 4 * 80 * 8192
"""For one token and one before it, in a model of 80 layers 8192 wide; layers x width grow more slowly than the size."""
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


def billions_of(model: str) -> float | None:
    """The size that the name of a dense model states, in billions; None without one, and for mixtures of experts."""
    found = _SIZE.search(model)
    size = float(found[1]) if found and not _SPARSE.search(model) else 0.0
    return size or None


def precision_of(quantization: str, model: str) -> str:
    """The number format of the weights: as stated, or as the model's name says, or else as weights are published."""
    if quantization != "unknown":
        return quantization
    return "fp8" if "fp8" in model.lower() else "bf16"


def chip_of(gpu_type: str) -> str:
    """The name in `CHIPS` of a type of GPU as people write it (`nvidia-h100-80gb`); it may not be there."""
    return gpu_type.upper().removeprefix("NVIDIA-").partition("-")[0]


def profile_name(chip: str, count: int, billions: float, precision: str) -> str:
    """What a dense model of this size on these GPUs is called: `70b-fp8-2xh100`."""
    return f"{billions:g}b-{precision}-{count}x{chip.lower()}"


def estimated(chip: str, count: int, billions: float, precision: str) -> EngineProfile | None:
    """The profile of a dense model on `count` GPUs; None for a chip or a number format that nobody knows."""
    size, sheet = _BYTES.get(precision), CHIPS.get(chip)
    if size is None or sheet is None:
        return None
    flops = sheet.flops_8 if size == 1.0 and sheet.flops_8 else sheet.flops_16
    slower = H100_BYTES_PER_S / (count * sheet.bytes_per_s)
    scale = billions / 70
    return EngineProfile(
        name=profile_name(chip, count, billions, precision),
        step_s=FIXED_S + WEIGHT_READS * billions * 1e9 * size / (count * sheet.bytes_per_s),
        sequence_s=DECODE_S_OF_70B * scale * slower,
        context_token_s=KV_S_OF_70B * scale**0.64 * slower,
        prefill_token_s=2 * billions * 1e9 / (count * flops * ARITHMETIC_EFFICIENCY),
        attention_s=ATTENTION_FLOPS_OF_70B * scale**0.74 / (count * sheet.flops_16 * ATTENTION_EFFICIENCY),
        source=ProfileSource.ESTIMATED,
    )


def decoding_s(profile: EngineProfile, sequences: float, context_tokens: float) -> float:
    """What a step takes that does nothing but decode."""
    return profile.step_s + profile.sequence_s * sequences + profile.context_token_s * context_tokens


def chunk_tokens(profile: EngineProfile, objective_s: float, sequences: int, context_tokens: int) -> int | None:
    """The largest step, in tokens, that keeps the objective with so much decoding; None when there is no room."""
    room = (MARGIN * objective_s - decoding_s(profile, sequences, context_tokens)) / profile.prefill_token_s
    return None if room < LEAST_CHUNK else max(1, round((sequences + room) / MULTIPLE)) * MULTIPLE
