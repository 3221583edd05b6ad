"""Which replica of a dedicated target takes one more request, and in which words to say that none should.

Theory of operation
-------------------
Each replica that is up is asked what it would make of the request (`predict.py`). The best of the feasible ones is the
one with the least `ttft / aim + itl / aim / 2`: the objectives make seconds of the one and of the other comparable. A
prompt that a replica has in its cache waits less there, so requests stay with their prefix by themselves.

A replica that only its own factors condemn is tried once in `PROBE_S`: they may be out of date. Of those that are not
feasible, the one with the shortest wait is remembered: it is who serves when nobody else can.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import msgspec

from proxy.policy.model import Traffic
from proxy.routing.facts import Facts
from proxy.routing.plan import Estimate, Exclusion
from proxy.routing.predict import (
    ASSUMED_OUTPUT_TOKENS,
    DEFAULT_TTFT_S,
    ITL_MARGIN,
    MARGIN,
    PROBE_S,
    Aims,
    Figures,
    Prediction,
    Steps,
)
from proxy.routing.readings import Load, Outlook, Reading

IDLE = Load()


class Placed(msgspec.Struct, frozen=True, gc=False):
    """One replica, and what is predicted of the request there."""

    reading: Reading
    prediction: Prediction

    @property
    def load(self) -> Load:
        """The replica's."""
        return self.reading.load or IDLE


class Placement(msgspec.Struct, frozen=True, gc=False):
    """The best of the feasible replicas, the second best, and the least bad of the others; None where there is none."""

    best: Placed | None
    second: Placed | None
    nearest: Placed | None


def aims_of(aims: Aims, facts: Facts) -> Aims:
    """What a request is to keep to: nobody waits for one that is offline, unless its route says so."""
    return UNHURRIED if facts.traffic is Traffic.OFFLINE and not aims.stated else aims


UNHURRIED = Aims(ttft_s=inf)


def expected_output_tokens(facts: Facts, outlook: Outlook) -> float:
    """How long the answers get, all of a request's together."""
    expected, allowed = outlook.output_tokens, facts.max_output_tokens
    if expected is None:
        expected = ASSUMED_OUTPUT_TOKENS
    return (expected if allowed is None or expected < allowed else allowed) * facts.choices


def place(steps: Steps, usable: Sequence[Reading], facts: Facts, aims: Aims, outlook: Outlook, now: float) -> Placement:
    """Find a place for the request among the replicas in `usable`, which have room by count."""
    input_tokens, output_tokens = facts.input_tokens, expected_output_tokens(facts, outlook)
    ttft_aim_s, itl_aim_s = aims.ttft_s, aims.itl_s
    ttft_limit_s = MARGIN * ttft_aim_s
    ttft_scale_s = ttft_aim_s if ttft_aim_s < inf else DEFAULT_TTFT_S
    hits = outlook.hits.get(steps.target.name)
    most_hit = input_tokens - 1 if input_tokens else 0
    figures_of = steps.figures
    best: _Seen | None = None
    second: _Seen | None = None
    nearest: _Seen | None = None
    best_score = second_score = least_s = inf
    for reading in usable:
        load = reading.load or IDLE
        hit = 0 if hits is None else hits[reading.replica]
        if hit >= input_tokens:
            hit = most_hit
        figures = figures_of(load, input_tokens, hit, output_tokens)
        ttft_s, itl_s, raw_ttft_s, raw_itl_s, full_s, _, fits = figures
        itl_limit_s = itl_aim_s if full_s <= itl_aim_s else ITL_MARGIN * itl_aim_s
        if fits and (
            (ttft_s <= ttft_limit_s and itl_s <= itl_limit_s)
            or (
                now - load.begun_at >= PROBE_S
                and load.overdue <= load.ttft_factor
                and raw_ttft_s <= ttft_limit_s
                and raw_itl_s <= itl_limit_s
            )
        ):
            score = ttft_s / ttft_scale_s + 0.5 * itl_s / itl_aim_s
            if score < best_score:
                second, second_score = best, best_score
                best, best_score = (reading, figures, hit), score
            elif score < second_score:
                second, second_score = (reading, figures, hit), score
        elif ttft_s < least_s:
            nearest, least_s = (reading, figures, hit), ttft_s
    return Placement(_placed(best), _placed(second), _placed(nearest))


_Seen = tuple[Reading, Figures, int]


def _placed(seen: _Seen | None) -> Placed | None:
    if seen is None:
        return None
    reading, figures, hit_tokens = seen
    return Placed(reading, Prediction(*figures, hit_tokens))


def predicted(steps: Steps, reading: Reading, facts: Facts, outlook: Outlook) -> Prediction:
    """What one replica would make of the request, whatever is wanted."""
    found = place(steps, (reading,), facts, UNHURRIED, outlook, reading.as_of)
    placed = found.best or found.nearest
    assert placed is not None
    return placed.prediction


def estimate(placed: Placed, facts: Facts, aims: Aims, outlook: Outlook) -> Estimate:
    """What was predicted, for whoever will see how it went."""
    prediction = placed.prediction
    return Estimate(
        ttft_s=prediction.raw_ttft_s,
        itl_s=prediction.raw_itl_s,
        saturated=prediction.saturated,
        ttft_factor=prediction.ttft_s / prediction.raw_ttft_s,
        itl_factor=prediction.itl_s / prediction.raw_itl_s,
        ttft_aim_s=aims.ttft_s,
        itl_aim_s=aims.itl_s,
        hit_tokens=prediction.hit_tokens,
        output_tokens=expected_output_tokens(facts, outlook),
    )


def too_slow(steps: Steps, placed: Placed, ttft_limit_s: float, itl_aim_s: float) -> Exclusion:
    """Why even the nearest of a target's replicas is not to take the request."""
    prediction, load = placed.prediction, placed.load
    target = steps.target.name
    state = f"queue {_thousands(load.queued_tokens)} tokens, {load.decoding} streams"
    if prediction.ttft_s > ttft_limit_s:
        return Exclusion(target, "ttft", f"predicted {_s(prediction.ttft_s)} ({state})", _s(ttft_limit_s), False)
    itl_limit_s = ITL_MARGIN * itl_aim_s
    if prediction.itl_s > itl_limit_s:
        return Exclusion(target, "itl", f"predicted {_ms(prediction.itl_s)} ({state})", _ms(itl_limit_s), False)
    held = f"{_thousands(load.context_tokens + load.queued_tokens)} tokens of context"
    return Exclusion(target, "kv", held, f"{_thousands(int(steps.kv_tokens))} tokens in memory", False)


def _s(seconds: float) -> str:
    if seconds < 1:
        return _ms(seconds)
    return f"{seconds:.0f} s" if seconds >= 100 else f"{seconds:.2f}".rstrip("0").rstrip(".") + " s"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _thousands(tokens: int) -> str:
    return f"{tokens / 1000:.0f}k" if tokens >= 10_000 else f"{tokens / 1000:.1f}k" if tokens >= 1000 else str(tokens)
