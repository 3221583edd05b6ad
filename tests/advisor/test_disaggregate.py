"""Coarse usage drawn apart: sums kept to the token, bursts learned from a fine trace, no token count beyond belief."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from proxy.advisor.demand import of_trace
from proxy.advisor.disaggregate import START, Coarse, Textures, drawn_demand, textures
from proxy.advisor.trace import App, Trace
from tests.advisor.weeks import OFFER, PROFILE

ROW_S = 600.0
SPAN_S = 6 * 3600.0


def bursty(scv: float, *, answers: float = 300.0, seed: int = 1) -> Trace:
    """One app whose gaps have this squared coefficient of variation: 2 requests a second, more by day."""
    draws = np.random.default_rng(seed)
    gaps = draws.gamma(1 / scv, scv / 2.0, 60_000)
    arrivals = np.cumsum(gaps)
    arrivals = arrivals[arrivals < SPAN_S]
    return Trace(
        name="bursty",
        arrival_s=arrivals,
        input_tokens=draws.integers(500, 3500, len(arrivals)),
        output_tokens=1 + draws.gamma(1.0, answers, len(arrivals)).astype(np.int64),
        app=np.zeros(len(arrivals), np.int32),
        apps=(App(name="one"),),
        span_s=SPAN_S,
    )


def summed(trace: Trace) -> Coarse:
    row = (trace.arrival_s // ROW_S).astype(np.int64)
    rows = int(SPAN_S // ROW_S)
    return Coarse(
        name="usage",
        row_s=ROW_S,
        start_s=np.arange(rows) * ROW_S,
        app=np.zeros(rows, np.int32),
        requests=np.bincount(row, minlength=rows),
        input_tokens=np.bincount(row, weights=trace.input_tokens, minlength=rows).astype(np.int64),
        output_tokens=np.bincount(row, weights=trace.output_tokens, minlength=rows).astype(np.int64),
        apps=trace.apps,
        span_s=SPAN_S,
    )


def drawn(usage: Coarse, known: Textures, seed: int = 3):  # type: ignore[no-untyped-def]
    return drawn_demand(usage, known, PROFILE, 3.0, np.random.default_rng(seed))


def test_requests_and_tokens_are_those_of_the_rows() -> None:
    trace = bursty(4.0)
    exact, found = of_trace(trace, PROFILE, 3.0), drawn(summed(trace), Textures())
    assert found.sums[:, 0, 0] == pytest.approx(exact.sums[:, 0, 0])
    assert found.sums[:, 0, 1] == pytest.approx(exact.sums[:, 0, 1])
    assert found.sums[:, 0, 3] == pytest.approx(exact.sums[:, 0, 3])
    assert found.seconds == pytest.approx(exact.seconds)


@pytest.mark.parametrize("scv", [1.0, 6.0])
def test_bursts_are_like_those_of_the_fine_trace(scv: float) -> None:
    """Learned from one day, drawn for another: what does not fit into the GPUs comes out within a few per cent."""
    other, trace = bursty(scv, seed=1), bursty(scv, seed=2)
    exact, found = of_trace(trace, PROFILE, 3.0), drawn(summed(trace), textures((other,), ROW_S))
    capacity = OFFER.capacity
    whole = exact.work_s(PROFILE).sum()
    assert found.work_s(PROFILE).sum() == pytest.approx(whole, rel=0.01)
    assert found.excess(capacity).sum() == pytest.approx(exact.excess(capacity).sum(), abs=0.01 * whole)


def test_at_face_value_rows_hide_what_spills() -> None:
    trace = bursty(6.0)
    exact, learned = of_trace(trace, PROFILE, 3.0), drawn(summed(trace), textures((trace,), ROW_S))
    flat = of_trace(trace, PROFILE, ROW_S)
    spilled = exact.excess(OFFER.capacity).sum()
    assert abs(learned.excess(OFFER.capacity).sum() - spilled) < 0.1 * abs(flat.excess(OFFER.capacity).sum() - spilled)


def test_an_app_that_nobody_saw_borrows_from_the_others() -> None:
    known = textures((bursty(6.0),), ROW_S)
    usage = replace(summed(bursty(6.0)), apps=(App(name="never seen"),))
    start, borrowed = drawn(usage, Textures()), drawn(usage, known)
    assert known.of("never seen") is known.other
    assert borrowed.excess(1.4).sum() > 1.2 * start.excess(1.4).sum()


def test_answers_of_another_regime_are_not_stretched_beyond_belief() -> None:
    """Seen with short answers of which a few are 80 times as long; now the mean itself is 40 times as long."""
    draws = np.random.default_rng(1)
    short = bursty(1.0, answers=20.0)
    rare = np.where(draws.random(len(short)) < 0.01, 1600, 4)
    known = textures((replace(short, output_tokens=rare),), ROW_S)
    long = bursty(1.0, answers=800.0)
    exact, found = of_trace(long, PROFILE, 3.0), drawn(summed(long), known)
    assert found.work_s(PROFILE).sum() == pytest.approx(exact.work_s(PROFILE).sum(), rel=0.02)


def test_too_few_requests_teach_nothing() -> None:
    assert textures((), ROW_S).of("one") is START
    few = bursty(1.0)
    few = replace(few, arrival_s=few.arrival_s[:20], input_tokens=few.input_tokens[:20])
    few = replace(few, output_tokens=few.output_tokens[:20], app=few.app[:20])
    assert textures((few,), ROW_S).of("one") is START


def test_the_same_seed_draws_the_same_requests() -> None:
    usage = summed(bursty(2.0))
    assert (drawn(usage, Textures()).counts == drawn(usage, Textures()).counts).all()
    assert (drawn(usage, Textures()).counts != drawn(usage, Textures(), seed=4).counts).any()
