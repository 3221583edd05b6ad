"""Fits an engine's profile to what was observed of its streams, and says how far it is off on runs that it did not see.

Theory of operation
-------------------
The rows of `timings` are linear in the coefficients a, b, c, d, e and in o, what a request takes beside its steps. They
are solved by least squares, each row by what may be wrong with it: a share of what it took, since engines are not quite
linear, and the moment of its two ends, which are seen late by chance. No coefficient is below zero, and the loss grows
linearly beyond what is usual, so that a hiccup of the machine moves nothing (scipy's `least_squares` with `soft_l1`,
begun at the solution of `nnls`).

The chunk is not asked of anybody. Decoding and joining determine the coefficients without it; then it is the one whose
steps would be most like the longest gaps that were seen while prompts were read. With that the prompts that were read
alone join the fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from math import log2
from statistics import median

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares, nnls

from proxy.advisor.timings import Observed, Row, decoding, joining, reading
from proxy.policy.engine_profile import EngineProfile
from proxy.policy.engine_steps import decoding_s

USUAL_SHARE = 0.003
USUAL_S = 1e-3
"""What is usually wrong with a row: a share of what it took, and with its ends together."""
OUTLIER = 2.0
"""How many times that is no longer usual."""
MULTIPLE = 64
ROUND = 0.12
"""Chunks are powers of two, unless somebody chose another: so far from one, one is meant."""
LEAST = 1e-9
NEGLIGIBLE = 1e-4
"""The share of every row below which a coefficient is none: the solver stays off zero itself."""
NAME = "calibrated"

Matrix = NDArray[np.float64]


class TooLittle(Exception):
    """What was observed does not tell the coefficients; the text says what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """|predicted / observed - 1| over `count` predictions, as shares."""

    median: float
    p90: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """`request_s` is what a request takes beside its steps. `chunk_tokens` are those of a step, where prompts were
    long enough to be cut, and None where they were not. Errors are those of held-out runs, None without any.
    """

    profile: EngineProfile
    request_s: float
    chunk_tokens: int | None
    ttft: Error | None
    itl: Error | None


def fit(runs: Sequence[Observed], *, chunk_tokens: int | None = None, kv_tokens: int | None = None) -> Fit:
    """The profile that fits the runs best. `chunk_tokens` is the engine's `max_num_batched_tokens`, where it is known.

    Raises `TooLittle`.
    """
    seen = [run for run in runs if not run.held_out]
    steps = [*chain.from_iterable(map(decoding, seen)), *chain.from_iterable(map(joining, seen))]
    if len({row.sequences for row in steps if not row.prompt_tokens}) < 2:
        raise TooLittle("fewer than two sizes of a decoding batch were observed")
    if len({row.prompt_tokens for row in steps if row.prompt_tokens}) < 2:
        raise TooLittle("fewer than two lengths of a prompt were observed beside decoding sequences")
    first = _profile(_solved(steps, beside=False), kv_tokens)
    found = _chunk(first, steps)
    chunk = chunk_tokens or found or max(row.prompt_tokens for row in steps)
    alone = [row for run in seen for row in reading(run, chunk)]
    solution = _solved([*steps, *alone], alone=len(alone), beside=bool(alone))
    profile, request_s = _profile(solution, kv_tokens), float(solution[5])
    held = [run for run in runs if run.held_out]
    return Fit(
        profile=profile,
        request_s=request_s,
        chunk_tokens=chunk_tokens or found,
        ttft=_error(_ttfts(profile, request_s, chunk, held)),
        itl=_error((step_s(profile, row), row.seconds) for run in held for row in (*decoding(run), *joining(run))),
    )


def step_s(profile: EngineProfile, row: Row) -> float:
    """What the steps of a row take by the profile."""
    return (
        profile.step_s * row.steps
        + profile.sequence_s * row.sequences
        + profile.context_token_s * row.context_tokens
        + profile.prefill_token_s * row.prompt_tokens
        + profile.attention_s * row.attention
    )


def _solved(rows: Sequence[Row], *, beside: bool, alone: int = 0) -> Matrix:
    """a, b, c, d, e and o; the last `alone` rows are of requests that waited for nobody."""
    observed = np.array([row.seconds for row in rows])
    usual = np.hypot(USUAL_SHARE * observed, [USUAL_S / row.averaged for row in rows])
    matrix = np.array(
        [(row.steps, row.sequences, row.context_tokens, row.prompt_tokens, row.attention, 0.0) for row in rows]
    )
    matrix[len(rows) - alone :, 5] = float(beside)
    weighted, aim = matrix / usual[:, np.newaxis], observed / usual
    scale = np.linalg.norm(weighted, axis=0)
    scale[scale == 0] = 1.0
    weighted /= scale
    start, _ = nnls(weighted, aim)
    solved = least_squares(
        lambda solution: weighted @ solution - aim,
        np.maximum(start, LEAST * aim.sum()),
        jac=lambda _: weighted,
        bounds=(0.0, np.inf),
        loss="soft_l1",
        f_scale=OUTLIER,
    )
    share = np.max(weighted * solved.x / aim[:, np.newaxis], axis=0)
    found: Matrix = np.where(share < NEGLIGIBLE, 0.0, solved.x / scale)
    if found[0] <= 0 or found[3] <= 0:
        raise TooLittle("it was too uneven to tell a step from a prompt's token: others use the engine, or its machine")
    return found


def _profile(solution: Matrix, kv_tokens: int | None) -> EngineProfile:
    a, b, c, d, e = map(float, solution[:5])
    return EngineProfile(
        name=NAME,
        step_s=a,
        sequence_s=b,
        context_token_s=c,
        prefill_token_s=d,
        attention_s=e,
        kv_tokens=kv_tokens,
    )


def _chunk(profile: EngineProfile, rows: Iterable[Row]) -> int | None:
    """How many tokens the engine puts into a step, decoding sequences included; None where no prompt was cut."""
    joined = [row for row in rows if row.prompt_tokens]
    longest = max(row.prompt_tokens for row in joined)
    sizes = range(MULTIPLE, longest + 2 * MULTIPLE, MULTIPLE)
    best = min(sizes, key=lambda size: sum(_unlike(profile, row, size) for row in joined))
    power: int = 2 ** round(log2(best))
    chunk = power if abs(best / power - 1) < ROUND else best
    return chunk if chunk < longest else None


def _unlike(profile: EngineProfile, row: Row, size: int) -> float:
    """How far the longest steps of a row are from those of a prompt that is cut into chunks of `size`."""
    room = max(1, size - round(row.sequences / row.steps))
    places = range(0, row.prompt_tokens, room)
    plain_s = _plain_s(profile, row)
    steps = sorted((plain_s + _read_s(profile, row.prompt_tokens, place, room) for place in places), reverse=True)
    expected = [*steps[: len(row.longest_s)], *[plain_s] * (len(row.longest_s) - len(steps))]
    apart = sum(abs(one - other) for one, other in zip(expected, row.longest_s, strict=True))
    return apart / sum(row.longest_s)


def _read_s(profile: EngineProfile, prompt_tokens: int, place: int, room: int) -> float:
    """Reading the chunk of a prompt that begins at `place`."""
    tokens = min(room, prompt_tokens - place)
    return tokens * (profile.prefill_token_s + profile.attention_s * (place + tokens / 2))


def _plain_s(profile: EngineProfile, row: Row) -> float:
    """A step of the row without a prompt in it."""
    sequences, context = row.sequences / row.steps, row.context_tokens / row.steps
    return decoding_s(profile, sequences, context)


def _ttfts(
    profile: EngineProfile, request_s: float, chunk: int, runs: Sequence[Observed]
) -> Iterable[tuple[float, float]]:
    """Predicted and observed: alone, and beside others, who have begun half of a step on average."""
    for run in runs:
        for row in reading(run, chunk):
            yield request_s + step_s(profile, row), row.ttft_s
        for row in joining(run):
            chunks = -(-row.prompt_tokens // max(1, round(chunk - row.sequences / row.steps)))
            prompt = Row(seconds=0.0, steps=0.0, prompt_tokens=row.prompt_tokens)
            yield request_s + (chunks + 0.5) * _plain_s(profile, row) + step_s(profile, prompt), row.ttft_s


def _error(pairs: Iterable[tuple[float, float]]) -> Error | None:
    errors = [abs(predicted / observed - 1) for predicted, observed in pairs]
    if not errors:
        return None
    return Error(median=median(errors), p90=float(np.quantile(errors, 0.9)), count=len(errors))
