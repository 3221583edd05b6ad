"""The programme: as cheap as the plain one with a variable for each request and bin, and as trying every choice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.advisor.bound import fluid_of
from proxy.advisor.bound_program import optimum
from tests.advisor.bound_scenes import TERMS, best_choice, cheapest_flow, prices, trace

SMALL = settings(max_examples=20, deadline=None)
BINNED = replace(TERMS, bin_s=1.0)


@SMALL
@given(seed=st.integers(0, 10_000), count=st.integers(1, 12), replicas=st.integers(1, 2))
def test_it_is_the_cheapest_flow(seed: int, count: int, replicas: int) -> None:
    of = trace(seed, count, 1.5, longest=20_000)
    price = prices(of, seed)
    fluid = fluid_of(of, price, BINNED)
    found = optimum(fluid, replicas)
    assert found is not None
    assert found.shared == pytest.approx(cheapest_flow(of, price, BINNED, replicas, 1.0), rel=1e-6, abs=1e3)
    assert found.shared == pytest.approx(price @ (1 - found.kept), rel=1e-6, abs=1e3)


@SMALL
@given(seed=st.integers(0, 10_000), count=st.integers(1, 300))
def test_its_rates_make_the_bound_tight(seed: int, count: int) -> None:
    of = trace(seed, count, 20.0, longest=6000)
    fluid = fluid_of(of, prices(of, seed), BINNED)
    found = optimum(fluid, 1)
    assert found is not None
    assert fluid.bound(found.rates, 1) == pytest.approx(found.shared, rel=1e-5, abs=1e3)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_trying_every_choice_costs_more_by_no_more_than_what_is_cut(seed: int) -> None:
    """To spill whole what the optimum cuts is a choice too, so that the true optimum lies between the two."""
    of = trace(seed, 6, 1.0, longest=30_000)
    price = prices(of, seed)
    found = optimum(fluid_of(of, price, BINNED), 1)
    assert found is not None
    whole = best_choice(of, price, BINNED, 1, 1.0)
    cut = (found.kept > 1e-6) & (found.kept < 1 - 1e-6)
    assert found.shared <= whole + 1e3
    assert whole <= found.shared + price[cut] @ found.kept[cut] + 1e3


def test_what_may_not_be_spilled_is_kept_and_the_rest_makes_way() -> None:
    of = trace(3, 30, 1.0, longest=9000)
    price = prices(of)
    price[::3] = np.inf
    fluid = fluid_of(of, price, BINNED)
    found = optimum(fluid, 2)
    assert found is not None
    assert found.kept[::3] == pytest.approx(1.0)
    assert 0 < found.kept.mean() < 1
    assert fluid.bound(found.rates, 2) == pytest.approx(found.shared, rel=1e-5)


def test_no_flow_holds_too_much_that_may_not_be_spilled() -> None:
    of = trace(3, 300, 1.0, longest=9000)
    found = optimum(fluid_of(of, np.full(300, np.inf), BINNED), 1)
    assert found is not None
    assert (found.shared, found.rates.any(), found.kept.any()) == (np.inf, False, False)
