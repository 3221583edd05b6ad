"""Engine profiles by name, and the one that goes with a target's GPUs and its model.

Theory of operation
-------------------
A name says size, number format and GPUs of one replica: `70b-fp8-2xh100`. Where published throughput was fitted, its
profile is built in; every other name of this form is estimated from the data sheet (`engine_steps`). A target that
names none gets the one whose name its `gpus`, `quantization` and `model` spell, if they do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from proxy.policy.engine_profile import LLAMA_70B_FP8_2XH100, EngineProfile, ProfileSource
from proxy.policy.engine_steps import (
    CHIPS,
    billions_of,
    chip_of,
    estimated,
    precision_of,
    profile_name,
)
from proxy.policy.problem import Mistake
from proxy.policy.variables import revealed, shown

PROFILES: Mapping[str, EngineProfile] = {
    profile.name: profile
    for profile in (
        LLAMA_70B_FP8_2XH100,
        EngineProfile(
            name="70b-fp8-1xh200",
            step_s=17e-3,
            sequence_s=128e-6,
            context_token_s=60e-9,
            prefill_token_s=111e-6,
            attention_s=5.4e-9,
            kv_tokens=365_000,
            source=ProfileSource.NAMED,
        ),
        EngineProfile(
            name="8b-fp8-1xh100",
            step_s=6.5e-3,
            sequence_s=25e-6,
            context_token_s=15e-9,
            prefill_token_s=13.5e-6,
            attention_s=0.44e-9,
            kv_tokens=990_000,
            source=ProfileSource.NAMED,
        ),
    )
}
"""Llama 3 in FP8, fitted by non-negative least squares to TensorRT-LLM's published throughput (version 1.0)."""

NAME = r"([0-9]{1,4}(?:\.[0-9])?)b-([a-z0-9]+)-([1-9][0-9]{0,2})x([a-z0-9]+)"


def profile_of(name: str) -> EngineProfile | None:
    """The profile of that name; None where it is neither built in nor spells what can be estimated."""
    known, spelled = PROFILES.get(name), re.fullmatch(NAME, name)
    if known is not None or spelled is None:
        return known
    size, precision, count, chip = spelled.groups()
    return estimated(chip.upper(), int(count), float(size), precision) if float(size) else None


def stated_profile(value: object) -> EngineProfile:
    """The profile that a policy names."""
    name = revealed(value)
    profile = profile_of(name) if isinstance(name, str) else None
    if profile is None:
        chips = ", ".join(chip.lower() for chip in CHIPS)
        hint = f"one of {', '.join(PROFILES)}; or size, number format and GPUs of another, on {chips}"
        raise Mistake(f"unknown engine profile {shown(value)}", hint)
    return profile


def found_profile(gpu_type: str, count: int, model: str, quantization: str) -> EngineProfile | None:
    """The profile of `model` on these GPUs; None where its name tells no size, or nobody knows the GPUs."""
    billions, chip, precision = billions_of(model), chip_of(gpu_type), precision_of(quantization, model)
    if billions is None:
        return None
    known = PROFILES.get(profile_name(chip, count, billions, precision))
    if known is not None:
        return replace(known, source=ProfileSource.FOUND)
    return estimated(chip, count, billions, precision)
