"""How full a dedicated replica is: the most used of the things that bound it, 1 is full.

Theory of operation
-------------------
Three things may bound a replica: the policy's `max_in_flight`, the memory for context, and time. Of the first two the
share in use is what it is. Time is judged as the router does: what is predicted of one more request of the usual size,
against what the route that sends most requests here aims at. An idle replica is at 0 though its first token takes time,
too: what is used is the way from the prediction for an idle one to the aim.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from proxy.policy.model import Target
from proxy.routing.predict import ASSUMED_OUTPUT_TOKENS, ITL_MARGIN, MARGIN, Aims, Steps
from proxy.routing.readings import Load, Reading

ASSUMED_INPUT_TOKENS = 512.0


UNSTATED = Aims()


@dataclass(frozen=True, slots=True, kw_only=True)
class Usual:
    """The usual request at a target, in tokens, and what its route aims at."""

    input_tokens: float = ASSUMED_INPUT_TOKENS
    output_tokens: float = ASSUMED_OUTPUT_TOKENS
    aims: Aims = UNSTATED


def saturation(target: Target, reading: Reading, usual: Usual, kv_use: float | None) -> tuple[float | None, str]:
    """The share of its bound that a replica has in use, and which bound that is; None where none is known."""
    used = [("in_flight", reading.in_flight / target.max_in_flight)] if target.max_in_flight else []
    if kv_use is not None:
        used.append(("kv", kv_use))
    if reading.load is not None:
        used += _by_time(target, reading.load, usual)
    by, share = max(used, key=lambda one: one[1], default=("", None))
    return share, by


def _by_time(target: Target, load: Load, usual: Usual) -> list[tuple[str, float]]:
    steps = Steps(target)
    tokens = round(usual.input_tokens)
    now, idle = (steps.predict(one, tokens, 0, usual.output_tokens) for one in (load, _with_factors(load)))
    aims = usual.aims
    used = [("ttft", _used(now.ttft_s, idle.ttft_s, MARGIN * aims.ttft_s))]
    if aims.itl_s < inf:
        # Where a full step keeps the objective, no load can break it.
        limit_s = aims.itl_s if now.full_s <= aims.itl_s else ITL_MARGIN * aims.itl_s
        used.append(("itl", _used(now.itl_s, idle.itl_s, limit_s)))
    return used


def _with_factors(load: Load) -> Load:
    """The same replica without any work."""
    return Load(
        ttft_factor=load.ttft_factor, itl_factor=load.itl_factor, step_factor=load.step_factor, warmth=load.warmth
    )


def _used(now_s: float, idle_s: float, limit_s: float) -> float:
    """How far it is from idle to the limit; a limit that an idle replica misses is passed by anything."""
    if limit_s <= idle_s:
        return 1.0
    return min(max(0.0, (now_s - idle_s) / (limit_s - idle_s)), 9.99)
