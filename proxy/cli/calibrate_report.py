"""What `calibrate` found, in words and as JSON: the profile, its error, how to start the engine, and what to paste."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from proxy.advisor.engine_advice import Advice
from proxy.advisor.fit import Error, Fit
from proxy.policy.profile_terms import FIGURES, spell_profile
from proxy.policy.units import spell_duration, spell_step_time

_MEANINGS = {
    "step": "each step",
    "sequence": "for each sequence that decodes",
    "context_token": "for each token of their contexts",
    "prefill_token": "for each token of a prompt",
    "attention": "for each token of a prompt and each before it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What the engine is to keep, for requests of so many tokens."""

    itl_s: float
    ttft_s: float
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The whole of it. `runs` of `planned` were carried out."""

    target: str
    url: str
    model: str
    fit: Fit
    aim: Aim
    advice: Advice | None
    runs: int
    planned: int
    tokens: int
    seconds: float


def as_text(found: Calibration) -> str:
    """For a person."""
    return "\n".join(_lines(found))


def as_json(found: Calibration) -> str:
    """For a program: seconds and tokens."""
    fit = found.fit
    told: dict[str, Any] = {
        "target": found.target,
        "url": found.url,
        "model": found.model,
        "runs": found.runs,
        "planned_runs": found.planned,
        "tokens": found.tokens,
        "seconds": round(found.seconds, 3),
        "profile": {name: getattr(fit.profile, name) for name in (*FIGURES.values(), "kv_tokens")},
        "request_s": fit.request_s,
        "chunk_tokens": fit.chunk_tokens,
        "error": {"ttft": fit.ttft and asdict(fit.ttft), "itl": fit.itl and asdict(fit.itl)},
        "aim": asdict(found.aim),
        "advice": found.advice and asdict(found.advice),
        "policy": _policy(found),
    }
    return orjson.dumps(told, option=orjson.OPT_INDENT_2).decode()


def _lines(found: Calibration) -> Iterator[str]:
    fit, aim = found.fit, found.aim
    short = "" if found.runs == found.planned else f" of {found.planned}, which is all that there was time for"
    yield f"{found.target}: {found.model} at {found.url}"
    yield f"{found.runs} runs{short}; {found.tokens:,} tokens in {found.seconds:.0f} s"
    for key, field in FIGURES.items():
        yield f"  {key:<14}{spell_step_time(getattr(fit.profile, field)):>8}  {_MEANINGS[key]}"
    yield f"  {'a request':<14}{spell_step_time(fit.request_s):>8}  beside its steps; a profile has no place for it"
    if fit.profile.kv_tokens is not None:
        yield f"  {'kv_tokens':<14}{fit.profile.kv_tokens:>8}  of context fit, as the engine says"
    cut = "no prompt was long enough to be cut" if fit.chunk_tokens is None else f"{fit.chunk_tokens} tokens"
    yield f"  {'a step holds':<14}{cut:>8}"
    yield "error on runs that were not fitted, |predicted / observed - 1|"
    yield f"  first token   {_error(fit.ttft)}"
    yield f"  gaps          {_error(fit.itl)}"
    size = f"requests of {aim.input_tokens} + {aim.output_tokens} tokens"
    objectives = f"{spell_duration(aim.itl_s)} between tokens and a first token within {spell_duration(aim.ttft_s)}"
    if found.advice is None:
        yield f"no way to start it keeps {objectives} with {size}: shorten them, or spread the model over more GPUs"
    else:
        yield f"to keep {objectives} with {size}, start it with"
        yield f"  {_flags(found.advice)}"
        yield f"and it takes {found.advice.requests_per_s:.3g} of them a second"
    yield "in the policy"
    yield from (f"    {line}" for line in _policy(found))


def _flags(advice: Advice) -> str:
    return (
        f"--max-num-batched-tokens {advice.max_batched_tokens} --max-num-seqs {advice.max_seqs}"
        f" --max-num-queued-reqs {advice.max_requests}"
    )


def _policy(found: Calibration) -> list[str]:
    lines = [f"engine_profile: {spell_profile(found.fit.profile)}"]
    if found.advice is not None:
        lines.append(f"max_batched_tokens: {found.advice.max_batched_tokens}")
        lines.append(f"max_in_flight: {found.advice.max_requests}")
    return lines


def _error(error: Error | None) -> str:
    if error is None:
        return "unknown: no such run was carried out"
    return f"median {error.median:.1%}, 90th percentile {error.p90:.1%} of {error.count}"
