"""Demand in bins: exact sums, histograms that keep the work, other engines and growth by scaling."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from proxy.advisor.demand import SUMS, Demand, of_trace, request_sums, work_edges, work_rates
from proxy.advisor.trace import App, Trace
from proxy.policy.engine_profile import LLAMA_70B_FP8_2XH100
from proxy.routing.outcome import Usage
from proxy.routing.work import work_us

SLOW = replace(LLAMA_70B_FP8_2XH100, name="slow", sequence_s=300e-6)


def trace(seconds: float = 7200.0, *, seed: int = 1, began_at_s: float | None = None) -> Trace:
    draws = np.random.default_rng(seed)
    arrivals = np.sort(draws.uniform(0, seconds, int(seconds * 4)))
    return Trace(
        name="two apps",
        arrival_s=arrivals,
        input_tokens=draws.integers(1, 3000, len(arrivals)),
        output_tokens=draws.integers(1, 500, len(arrivals)),
        app=draws.integers(0, 2, len(arrivals)).astype(np.int32),
        apps=(App(name="chat"), App(name="search")),
        span_s=seconds,
        began_at_s=began_at_s,
    )


@pytest.fixture(scope="module")
def demand() -> Demand:
    return of_trace(trace(), LLAMA_70B_FP8_2XH100, 3.0)


def brute_excess(of: Trace, capacity: float, bin_s: float) -> float:
    work = request_sums(of.input_tokens, of.output_tokens) @ work_rates(LLAMA_70B_FP8_2XH100)
    binned = np.bincount((of.arrival_s // bin_s).astype(int), weights=work) / bin_s
    return float(np.clip(binned - capacity, 0, None).sum() * bin_s)


def test_the_work_of_a_request_is_that_which_gpu_hours_are_divided_by() -> None:
    of = trace(60.0)
    exact = [
        work_us(Usage(input_tokens=i, output_tokens=o)) for i, o in zip(of.input_tokens, of.output_tokens, strict=True)
    ]
    found = request_sums(of.input_tokens, of.output_tokens) @ work_rates(LLAMA_70B_FP8_2XH100) * 1e6
    assert found == pytest.approx(exact, abs=1.0)


def test_sums_are_kept_by_hour_and_app(demand: Demand) -> None:
    of = trace()
    chosen = (of.arrival_s >= 3600) & (of.app == 1)
    sums = dict(zip(SUMS, demand.sums[1, 1], strict=True))
    assert sums["requests"] == chosen.sum()
    assert sums["input_tokens"] == of.input_tokens[chosen].sum()
    assert sums["output_tokens"] == of.output_tokens[chosen].sum()


def test_every_second_is_in_a_bin(demand: Demand) -> None:
    assert demand.seconds.tolist() == [3600.0, 3600.0]


@pytest.mark.parametrize("capacity", [0.0, 0.3, 0.68, 1.0, 1.36])
def test_the_excess_is_what_the_bins_themselves_give(demand: Demand, capacity: float) -> None:
    whole = demand.work_s(LLAMA_70B_FP8_2XH100).sum()
    assert demand.excess(capacity).sum() == pytest.approx(brute_excess(trace(), capacity, 3.0), abs=0.002 * whole)


def test_a_slower_engine_has_more_work_of_the_same_requests(demand: Demand) -> None:
    scaled, metered = demand.on(SLOW), of_trace(trace(), SLOW, 3.0)
    assert scaled.work_s(SLOW).sum() == pytest.approx(metered.work_s(SLOW).sum())
    assert scaled.excess(0.9).sum() == pytest.approx(metered.excess(0.9).sum(), rel=0.1)


def test_growth_is_as_much_more_of_everything(demand: Demand) -> None:
    grown = demand.grown(1.5)
    assert grown.excess(0.9).sum() == pytest.approx(1.5 * demand.excess(0.6).sum())
    assert grown.sums.sum() == pytest.approx(1.5 * demand.sums.sum())


def test_days_are_those_of_the_calendar_where_it_is_known() -> None:
    from_22h = of_trace(trace(4 * 3600.0, began_at_s=22 * 3600.0), LLAMA_70B_FP8_2XH100, 3.0)
    assert from_22h.days.tolist() == [0, 0, 1, 1]
    assert of_trace(trace(4 * 3600.0), LLAMA_70B_FP8_2XH100, 3.0).days.tolist() == [0, 0, 0, 0]


def test_a_demand_beyond_all_buckets_is_in_the_last() -> None:
    edges = work_edges()
    flood = replace(
        trace(3.0),
        arrival_s=np.zeros(1),
        input_tokens=np.array([10**7]),
        output_tokens=np.array([1]),
        app=np.zeros(1, np.int32),
    )
    assert of_trace(flood, LLAMA_70B_FP8_2XH100, 3.0).counts[0, len(edges) - 2] == 1
