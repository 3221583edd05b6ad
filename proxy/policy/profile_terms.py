"""Compiles `engine_profile`: how long a dedicated target's steps take, as stated or as GPUs and model suggest."""

from __future__ import annotations

from proxy.policy.checks import Check
from proxy.policy.document import Loc
from proxy.policy.engine_profile import EngineProfile, ProfileSource
from proxy.policy.engine_profiles import found_profile
from proxy.policy.findings import Findings
from proxy.policy.model import Gpus, Lane
from proxy.policy.schema import EngineProfileSpec, TargetSpec
from proxy.policy.units import spell_step_time

FIGURES = {
    "step": "step_s",
    "sequence": "sequence_s",
    "context_token": "context_token_s",
    "prefill_token": "prefill_token_s",
    "attention": "attention_s",
}
"""By key, the field of the profile that it sets."""

_HINT = "write what `spillway calibrate` prints, or begin with the `name:` of a known profile"


def compile_profile(loc: Loc, spec: TargetSpec, gpus: Gpus | None, findings: Findings) -> EngineProfile | None:
    """The profile of the target that has `spec`; None where neither it nor its GPUs and its model tell."""
    if spec.lane is not Lane.DEDICATED:
        return None
    if spec.engine_profile is not None:
        return _stated(loc, spec.engine_profile, findings)
    return None if gpus is None else found_profile(gpus.type, gpus.count, spec.model, spec.quantization)


def spell_profile(profile: EngineProfile) -> str:
    """The profile as a policy states one, with three digits of each figure."""
    figures = [f"{key}: {spell_step_time(getattr(profile, field))}" for key, field in FIGURES.items()]
    room = [] if profile.kv_tokens is None else [f"kv_tokens: {profile.kv_tokens}"]
    return f"{{{', '.join(figures + room)}}}"


def _stated(loc: Loc, spec: EngineProfileSpec, findings: Findings) -> EngineProfile | None:
    base = spec.name
    own = {field: value for key, field in FIGURES.items() if (value := getattr(spec, key)) is not None}
    if base is not None and not own and spec.kv_tokens is None:
        return base
    missing = [key for key in FIGURES if getattr(spec, key) is None]
    if base is None and missing:
        message = f"{', '.join(f'`{key}`' for key in missing)} missing in the engine profile"
        findings.problem(loc, message, _HINT, check=Check.MISSING_KEY)
        return None
    figures = {field: own[field] if field in own else getattr(base, field) for field in FIGURES.values()}
    if figures["step_s"] <= 0 or figures["prefill_token_s"] <= 0:
        message = "a step, and a token of a prompt, take some time"
        findings.problem(loc, message, _HINT, check=Check.INVALID_VALUE)
        return None
    kv_tokens = spec.kv_tokens if spec.kv_tokens is not None or base is None else base.kv_tokens
    name = "own" if base is None else f"{base.name}, changed"
    return EngineProfile(name=name, kv_tokens=kv_tokens, source=ProfileSource.STATED, **figures)
