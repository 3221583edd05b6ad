"""The bound: below the cost of every policy that meets the SLO, and as high as that allows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.advisor.bound import Bound, BoundTerms, Method, lower_bound
from proxy.advisor.fluid import Floats
from proxy.advisor.trace import Trace
from tests.advisor.bound_scenes import TERMS, best_choice, feasible_cost, prices, trace

FEW = settings(max_examples=6, deadline=None)
BINNED = replace(TERMS, bin_s=1.0)
CENT = 1e7
"""In nano-USD: far more than the solver's tolerance, and far less than anything of interest."""


def shared(of: Trace, price: Floats, replicas: int = 1, terms: BoundTerms = BINNED) -> float:
    return lower_bound(of, price, terms, replicas=[replicas], method=Method.EXACT).best.shared_nano_usd


@FEW
@given(seed=st.integers(0, 10_000), replicas=st.integers(1, 2), share=st.floats(0.1, 1))
def test_no_policy_on_real_engines_costs_less(seed: int, replicas: int, share: float) -> None:
    """Whatever a policy keeps, an engine that works in steps serves it no faster than the fluid."""
    of = trace(seed, 200, 20.0)
    price = prices(of, seed)
    kept = np.random.default_rng(seed).uniform(size=len(of)) < share
    cost = feasible_cost(of, price, replicas, kept)
    for method in Method:
        bound = lower_bound(of, price, TERMS, replicas=[replicas], method=method)
        assert bound.nano_usd <= cost + 1
    assert lower_bound(of, price, TERMS).nano_usd <= min(cost, price.sum()) + 1


def test_a_good_policy_on_a_real_engine_comes_close() -> None:
    """Who keeps the dearest requests per token with hindsight pays little more: it is worth measuring against."""
    of = trace(11, 300, 60.0, longest=2000)
    price = prices(of)
    density = price / (of.input_tokens + 2 * of.output_tokens)
    cost = min(feasible_cost(of, price, 1, density >= np.quantile(density, q)) for q in np.linspace(0, 0.5, 6))
    bound = lower_bound(of, price, TERMS, replicas=[1])
    assert bound.nano_usd <= cost + 1 < 1.15 * bound.nano_usd


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_it_is_below_the_best_choice_of_all(seed: int) -> None:
    of = trace(seed, 5, 1.0, longest=20_000)  # longer prompts no single replica reads in time
    price = prices(of, seed)
    hourly = BINNED.replica_nano_usd_per_hour * of.span_s / 3600
    best = min([price.sum()] + [k * hourly + best_choice(of, price, BINNED, k, 1.0) for k in (1, 2)])
    assert lower_bound(of, price, BINNED, replicas=range(3)).nano_usd <= best + 1e3


@pytest.mark.parametrize("method", Method)
def test_a_prompt_that_one_replica_cannot_read_in_time_is_spilled_by_everybody(method: Method) -> None:
    of = trace(3, 20, 60.0, longest=2000)
    of.input_tokens[7] = 60_000
    price = prices(of)
    bound = lower_bound(of, price, TERMS, replicas=[50], method=method)
    assert bound.best.shared_nano_usd == pytest.approx(price[7], rel=1e-6)
    assert bound.best.kept[7] == 0.0
    late = replace(TERMS, ttft_s=60.0)
    assert lower_bound(of, price, late, replicas=[50], method=method).best.shared_nano_usd < price[7] / 100


@FEW
@given(seed=st.integers(0, 10_000), dearer=st.floats(1, 3))
def test_dearer_tokens_and_less_room_cost_more(seed: int, dearer: float) -> None:
    of = trace(seed, 150, 10.0)
    price = prices(of, seed)
    base = shared(of, price)
    assert shared(of, price * dearer) >= base - CENT
    assert shared(of, price, 2) <= base + CENT
    assert base <= price.sum()
    slower = replace(BINNED, profile=replace(BINNED.profile, prefill_token_s=90e-6, step_s=20e-3))
    assert shared(of, price, terms=slower) >= base - CENT


@FEW
@given(seed=st.integers(0, 10_000), patience=st.floats(1, 4))
def test_a_looser_objective_costs_less(seed: int, patience: float) -> None:
    of = trace(seed, 150, 10.0)
    price = prices(of, seed)
    assert shared(of, price, terms=replace(BINNED, ttft_s=2.0 * patience)) <= shared(of, price) + CENT
    assert shared(of, price, terms=replace(BINNED, pace_s=0.05 * patience)) <= shared(of, price) + CENT


def test_hits_are_work_that_need_not_be_done() -> None:
    of = trace(4, 200, 10.0)
    price = prices(of)
    half = lower_bound(of, price, BINNED, replicas=[1], hit_tokens=of.input_tokens // 2)
    assert half.best.shared_nano_usd < 0.8 * shared(of, price)


@pytest.fixture(scope="module")
def hour() -> tuple[Trace, Floats]:
    """A twentieth of it, really: some two replicas' worth of work."""
    of = trace(2, 1800, 200.0)
    return of, np.rint((of.input_tokens + of.output_tokens) * 720.0)


@pytest.fixture(scope="module")
def all_of_them(hour: tuple[Trace, Floats]) -> Bound:
    return lower_bound(*hour, TERMS, replicas=range(6))


def test_the_search_finds_the_best_number_of_replicas(hour: tuple[Trace, Floats], all_of_them: Bound) -> None:
    found = lower_bound(*hour, TERMS)
    assert (found.replicas, found.method) == (all_of_them.replicas, Method.EXACT)
    assert found.replicas >= 2
    assert found.nano_usd == pytest.approx(all_of_them.nano_usd, rel=1e-4)
    assert len(found.options) < len(all_of_them.options)


@pytest.mark.parametrize("nano_usd_per_hour", [500_000_000, 20_000_000_000, 10**12])
def test_one_bound_tells_those_at_other_prices(
    hour: tuple[Trace, Floats], all_of_them: Bound, nano_usd_per_hour: int
) -> None:
    searched = lower_bound(*hour, replace(TERMS, replica_nano_usd_per_hour=nano_usd_per_hour), method=Method.DUAL)
    told = all_of_them.at(nano_usd_per_hour)
    assert told.nano_usd == pytest.approx(searched.nano_usd, rel=0.003)
    assert told.replicas == searched.replicas


def test_every_optimum_bounds_the_others_too(hour: tuple[Trace, Floats], all_of_them: Bound) -> None:
    alone = lower_bound(*hour, TERMS, replicas=[2], method=Method.EXACT)
    for option in all_of_them.options:
        assert alone.beside(option.replicas) <= all_of_them.beside(option.replicas) * 1.001 + CENT
    assert alone.beside(2) == alone.nano_usd
    assert alone.beside(1) > alone.cost(alone.best) - alone.cost(replace(alone.best, shared_nano_usd=0.0))


@pytest.mark.parametrize("method", Method)
def test_it_says_what_it_spills(hour: tuple[Trace, Floats], method: Method) -> None:
    _, price = hour
    dear = lower_bound(*hour, replace(TERMS, replica_nano_usd_per_hour=20_000_000_000), replicas=[0, 1], method=method)
    best = dear.best
    assert (dear.replicas, dear.method) == (1, method)
    assert best.shared_nano_usd == pytest.approx(price @ (1 - best.kept), rel=0.03)
    assert dear.spilled_value_share == pytest.approx(best.shared_nano_usd / price.sum())
    assert dear.spilled_share == pytest.approx(1 - best.kept.mean())
    assert 0.01 < dear.spilled_share < 0.99
    assert dear.usd_per_hour == pytest.approx(dear.nano_usd / 1e9 * 18)
    assert dear.options[0].shared_nano_usd == dear.all_shared_nano_usd == price.sum()


def test_dear_gpus_are_not_bought() -> None:
    of = trace(2, 60, 60.0)
    bound = lower_bound(of, prices(of), replace(TERMS, replica_nano_usd_per_hour=10**13))
    assert (bound.replicas, bound.nano_usd, bound.spilled_share) == (0, prices(of).sum(), 1.0)


def test_an_engine_that_cannot_keep_the_pace_is_no_use() -> None:
    of = trace(2, 60, 60.0)
    assert lower_bound(of, prices(of), replace(TERMS, pace_s=0.01)).nano_usd == prices(of).sum()


def test_what_may_not_be_spilled_needs_room() -> None:
    of = trace(3, 600, 20.0)
    price = np.full(len(of), np.inf)
    bound = lower_bound(of, price, TERMS)
    assert bound.replicas > 1
    assert bound.best.shared_nano_usd == pytest.approx(0, abs=1e3)
    one_less = lower_bound(of, price, TERMS, replicas=[0, bound.replicas - 1])
    assert [one_less.beside(count) for count in (0, 1, bound.replicas - 1)] == [np.inf] * 3
    assert one_less.beside(bound.replicas) == bound.replicas * TERMS.replica_nano_usd_per_hour * of.span_s / 3600


def test_objectives_may_differ_and_who_has_none_waits_to_the_end() -> None:
    of = trace(3, 600, 20.0)
    price = prices(of)
    patient = np.arange(len(of)) % 2 == 0
    mixed = replace(BINNED, ttft_s=np.where(patient, np.inf, 2.0), pace_s=np.full(len(of), 0.05))
    assert (
        shared(of, price, terms=replace(BINNED, ttft_s=np.inf)) <= shared(of, price, terms=mixed) <= shared(of, price)
    )


def test_the_longest_step_is_what_counts() -> None:
    of = trace(3, 600, 20.0)
    price = prices(of)
    assert shared(of, price, terms=replace(BINNED, longest_step_s=0.04)) > shared(of, price)
    assert shared(of, price, terms=replace(BINNED, longest_step_s=0.05)) == shared(of, price)
    free = replace(BINNED, profile=replace(BINNED.profile, step_s=0.0))
    assert shared(of, price, terms=free) == pytest.approx(
        shared(of, price, terms=replace(BINNED, longest_step_s=np.inf))
    )


def test_nobody_asks_for_anything() -> None:
    empty = trace(0, 0, 60.0)
    bound = lower_bound(empty, np.zeros(0), replace(TERMS, ttft_s=np.zeros(0), pace_s=np.zeros(0)))
    assert (bound.nano_usd, bound.replicas, bound.spilled_share, bound.spilled_value_share) == (0.0, 0, 0.0, 0.0)


def test_it_refuses_what_makes_no_sense() -> None:
    of = trace(0, 2, 60.0)
    with pytest.raises(ValueError, match="every request has a price"):
        lower_bound(of, np.array([1.0]), TERMS)
    with pytest.raises(ValueError, match="every request has a price"):
        lower_bound(of, np.array([1.0, np.nan]), TERMS)
    with pytest.raises(ValueError, match="a replica costs something"):
        lower_bound(of, prices(of), replace(TERMS, replica_nano_usd_per_hour=0))
    for replicas in ([], [-1, 2]):
        with pytest.raises(ValueError, match="at least one number"):
            lower_bound(of, prices(of), TERMS, replicas=replicas)
