"""Small traces for the bound, and their cost found in ways that share nothing with it."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import NDArray
from proxy.advisor.bound import BoundTerms
from proxy.advisor.engine_work import decode_s, prefill_s
from proxy.advisor.fluid import Floats
from proxy.advisor.replayed import MIN_PACE_TOKENS
from proxy.advisor.trace import App, Trace
from proxy.policy.engine_profile import LLAMA_70B_FP8_2XH100
from proxy.simulator.profile import PROFILES
from proxy.simulator.step_model import StepModel
from scipy.optimize import linprog

TTFT_S, PACE_S = 2.0, 0.05
TERMS = BoundTerms(profile=LLAMA_70B_FP8_2XH100, replica_nano_usd_per_hour=5_980_000_000, ttft_s=TTFT_S, pace_s=PACE_S)
ENGINE = replace(PROFILES["70b-fp8-2xh100"], max_batched_tokens=384, max_seqs=64)
"""Whose steps never take longer than the pace: 16 + 64 * .09 + 384 * .07 ms, and little for context."""


def trace(seed: int, count: int, seconds: float, *, longest: int = 3000) -> Trace:
    """`count` requests at random within `seconds`."""
    draws = np.random.default_rng(seed)
    return Trace(
        name="random",
        arrival_s=np.sort(draws.uniform(0, seconds, count)),
        input_tokens=draws.integers(1, longest, count),
        output_tokens=np.minimum(draws.geometric(1 / 150, count), 800),
        app=np.zeros(count, np.int32),
        apps=(App(name="chat"),),
        span_s=seconds,
    )


def prices(of: Trace, seed: int = 0) -> Floats:
    """$.72/.72 per million tokens, for some requests a provider that costs up to five times as much."""
    dear = np.random.default_rng(seed).uniform(1, 5, len(of))
    return np.rint((of.input_tokens + of.output_tokens) * 720 * dear)


def windows(of: Trace, terms: BoundTerms, bin_s: float) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """The first bin of each request, and the last one of its prefill and of its decode."""
    prefill_by = of.arrival_s + terms.ttft_s
    decode_by = prefill_by + np.maximum(of.output_tokens - 1, MIN_PACE_TOKENS) * terms.pace_s
    ends = [np.ceil(by / bin_s).astype(np.int64) - 1 for by in (prefill_by, decode_by)]
    return np.floor(of.arrival_s / bin_s).astype(np.int64), ends


def cheapest_flow(
    of: Trace, price: Floats, terms: BoundTerms, replicas: int, bin_s: float, kept: tuple[int, ...] | None = None
) -> float:
    """What the shared lane is paid in the cheapest flow: a variable for each request and bin, no pyramid. `kept` says
    which requests stay; then infinite if they do not fit.
    """
    begin, ends = windows(of, terms, bin_s)
    count, bins = len(of), int(ends[1].max()) + 1
    works = (prefill_s(of, terms.profile), decode_s(of, terms.profile))
    pours = [(i, p, b) for i in range(count) for p in (0, 1) for b in range(begin[i], ends[p][i] + 1)]
    done, full = np.zeros((2 * count, count + len(pours))), np.zeros((bins, count + len(pours)))
    for part in (0, 1):
        done[part * count + np.arange(count), np.arange(count)] = works[part]
    for column, (i, part, at) in enumerate(pours, count):
        done[part * count + i, column] = -1
        full[at, column] = 1
    capacity = replicas * (1 - terms.profile.step_s / float(np.max(terms.pace_s))) * bin_s
    share = [(0, 1)] * count if kept is None else [(k, k) for k in kept]
    found = linprog(
        np.concatenate((-price, np.zeros(len(pours)))) / 1e9,
        A_ub=full,
        b_ub=np.full(bins, capacity),
        A_eq=done,
        b_eq=np.zeros(2 * count),
        bounds=share + [(0, None)] * len(pours),
    )
    return float(price.sum() + found.fun * 1e9) if found.status == 0 else float("inf")


def best_choice(of: Trace, price: Floats, terms: BoundTerms, replicas: int, bin_s: float) -> float:
    """What the shared lane is paid when each request is kept or spilled whole, by trying all ways."""
    return min(cheapest_flow(of, price, terms, replicas, bin_s, kept) for kept in product((0, 1), repeat=len(of)))


def served(of: Trace, kept: NDArray[np.bool_], replicas: int) -> NDArray[np.bool_]:
    """Which of the requests that are `kept` meet the SLO on real engines, taken in turn by whoever is free first."""
    met = np.zeros(len(of), np.bool_)
    order = np.nonzero(kept)[0]
    for replica in range(replicas):
        _run(of, deque(order[replica::replicas].tolist()), met)
    return met


def _run(of: Trace, coming: deque[int], met: NDArray[np.bool_]) -> None:
    engine, now, first = StepModel(ENGINE), 0.0, {}
    while coming or engine.unfinished:
        if not engine.unfinished:
            now = max(now, float(of.arrival_s[coming[0]]))
        while coming and of.arrival_s[coming[0]] <= now:
            request = coming.popleft()
            engine.submit(request, int(of.input_tokens[request]), int(of.output_tokens[request]))
        step = engine.step()
        assert step is not None and step.duration_s <= PACE_S
        now += step.duration_s
        first |= dict.fromkeys(step.first, now)
        for request in step.finished:
            pace_s = (now - first[request]) / max(of.output_tokens[request] - 1, MIN_PACE_TOKENS)
            met[request] = first[request] - of.arrival_s[request] <= TTFT_S and pace_s <= PACE_S


def feasible_cost(of: Trace, price: Floats, replicas: int, kept: NDArray[np.bool_]) -> float:
    """What a policy pays that keeps `kept` as far as the SLO allows, with hindsight: it spills what would miss it."""
    while (missed := kept & ~served(of, kept, replicas)).any():
        kept = kept & ~missed
    return float(price[~kept].sum()) + replicas * TERMS.replica_nano_usd_per_hour * of.span_s / 3600
