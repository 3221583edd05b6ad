"""Lints of latency objectives: against the targets' own timeouts, their GPUs, and what they were seen to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from proxy.policy.checks import Check
from proxy.policy.engine_profile import ProfileSource
from proxy.policy.engine_steps import billions_of, chunk_tokens, decoding_s, precision_of
from proxy.policy.findings import Findings
from proxy.policy.lint.scope import Scope
from proxy.policy.model import Engine, Objective, Snapshot, Target
from proxy.policy.units import spell_duration

Observed = Mapping[str, Mapping[str, float]]
"""By target and rule (`ttft_p99`), the seconds that it was at least seen to need."""

ASSUMED_SEQUENCES = 64
ASSUMED_CONTEXT_TOKENS = 1500
TOLERANCE = 1.25
"""A chunk this much larger than advised is left alone: the advice is no more exact."""

_TIMEOUTS = {
    "ttft": ("first_token", "without a first token"),
    "itl": ("idle", "of silence"),
    "e2e": ("total", "in all"),
}
_FLAGS = {Engine.VLLM: "--max-num-batched-tokens", Engine.SGLANG: "--chunked-prefill-size"}


def lint_speed(snapshot: Snapshot, routes: Sequence[Scope], observed: Observed, findings: Findings) -> None:
    """All that can be said of the objectives of the routes."""
    for scope in routes:
        _timeouts(scope, findings)
        _observed(scope, observed, findings)
        _impossible_steps(scope, findings)
    for name, (objective, route) in _tightest_gaps(routes).items():
        _chunk_size(snapshot.targets[name], objective, route, findings)


def _timeouts(scope: Scope, findings: Findings) -> None:
    for loc, objective in scope.objectives:
        key, what = _TIMEOUTS[objective.field.partition("_")[0]]
        for target in scope.targets:
            timeout_s = getattr(target.timeouts, f"{key}_s")
            if timeout_s < objective.limit_s:
                message = (
                    f"`{objective.rule}` allows {spell_duration(objective.limit_s)}, "
                    f"and `{target.name}` is given up after {spell_duration(timeout_s)} {what}"
                )
                hint = f"raise `timeouts: {{{key}: ...}}` of `{target.name}`, or tighten the objective"
                findings.warning(Check.TIMEOUT_UNDER_OBJECTIVE, loc, message, hint)


def _observed(scope: Scope, observed: Observed, findings: Findings) -> None:
    for loc, objective in scope.objectives:
        rule = objective.field.removesuffix("_s")
        seen = {target.name: observed.get(target.name, {}).get(rule) for target in scope.targets}
        known = {name: seconds for name, seconds in seen.items() if seconds is not None}
        if known and len(known) == len(seen) and min(known.values()) > objective.limit_s:
            fastest = min(known, key=lambda name: known[name])
            message = (
                f"no target was ever seen to keep `{objective.rule}`: {_spelled(objective)} is allowed, "
                f"and the fastest, `{fastest}`, needs more than {_duration(known[fastest])}"
            )
            findings.warning(Check.OBJECTIVE_TOO_TIGHT, loc, message, "loosen it, or add a faster target")


def _impossible_steps(scope: Scope, findings: Findings) -> None:
    """No engine can be faster than its own empty step."""
    for loc, objective in scope.objectives:
        profiles = [target.profile for target in scope.targets if objective.field.startswith("itl_")]
        floors = [profile.step_s for profile in profiles if profile is not None]
        if floors and len(floors) == len(profiles) and min(floors) > objective.limit_s:
            message = (
                f"no target can keep `{objective.rule}`: {_spelled(objective)} is allowed, "
                f"and one step takes about {_duration(min(floors))} on the fastest"
            )
            findings.warning(Check.OBJECTIVE_TOO_TIGHT, loc, message, "loosen it, or spread the model over more GPUs")


def _tightest_gaps(routes: Sequence[Scope]) -> dict[str, tuple[Objective, str]]:
    """By target, the tightest objective on the gaps of nearly all replies, with the name of its route."""
    tightest: dict[str, tuple[Objective, str]] = {}
    for scope in routes:
        for _, objective in scope.objectives:
            for target in scope.targets if objective.field in ("itl_p90_s", "itl_p95_s", "itl_p99_s") else ():
                known = tightest.get(target.name)
                if known is None or objective.limit_s < known[0].limit_s:
                    tightest[target.name] = (objective, scope.route.name)
    return tightest


def _chunk_size(target: Target, objective: Objective, route: str, findings: Findings) -> None:
    profile, flag = target.profile, _FLAGS.get(target.engine) if target.engine else None
    if profile is None or flag is None:
        return
    sequences = target.max_in_flight or ASSUMED_SEQUENCES
    context = sequences * ASSUMED_CONTEXT_TOKENS
    chunk = chunk_tokens(profile, objective.limit_s, sequences, context)
    kept = f"`{objective.rule}` of route `{route}`, {_spelled(objective)}"
    basis = f"{_basis(target)}, {sequences} sequences of {ASSUMED_CONTEXT_TOKENS} tokens"
    if chunk is None:
        took = _duration(decoding_s(profile, sequences, context))
        message = (
            f"`{target.name}` has hardly any room for prompts within {kept}: decoding alone takes {took} ({basis})"
        )
        findings.warning(Check.CHUNK_SIZE, ("targets", target.name), message, "lower `max_in_flight`, or loosen it")
    elif target.max_batched_tokens is None or target.max_batched_tokens > TOLERANCE * chunk:
        message = f"start `{target.name}` with `{flag} {chunk}`: a full step then fits {kept} ({basis})"
        hint = f"and say so: `max_batched_tokens: {chunk}`"
        findings.warning(Check.CHUNK_SIZE, ("targets", target.name), message, hint)


def _basis(target: Target) -> str:
    gpus, profile = target.gpus, target.profile
    assert profile is not None
    if gpus is None or profile.source in (ProfileSource.STATED, ProfileSource.NAMED):
        return f"by the `engine_profile` of `{target.name}`"
    precision = precision_of(target.quantization, target.model)
    return f"estimated for {billions_of(target.model):g}B in {precision} on {gpus.count} {gpus.type}"


def _spelled(objective: Objective) -> str:
    if objective.rule.startswith("perceived_tps"):
        return f"{1 / objective.limit_s:.4g} tokens/s"
    return spell_duration(objective.limit_s)


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
