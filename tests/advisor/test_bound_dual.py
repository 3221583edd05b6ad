"""The ascent: never above the exact bound, and close below it, whatever the prices and windows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.advisor.bound import fluid_of
from proxy.advisor.bound_dual import _Softened, ascend
from proxy.advisor.bound_program import optimum
from scipy.optimize import check_grad
from tests.advisor.bound_scenes import TERMS, prices, trace


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 400), replicas=st.integers(1, 3))
def test_it_is_never_above_the_exact_bound(seed: int, count: int, replicas: int) -> None:
    of = trace(seed, count, 20.0, longest=6000)
    fluid = fluid_of(of, prices(of, seed), TERMS)
    exact = optimum(fluid, replicas)
    assert exact is not None
    rates = ascend(fluid, replicas).rates
    assert (rates >= 0).all()
    assert 0 <= fluid.bound(rates, replicas) <= exact.shared * (1 + 1e-6) + 1e3


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("spread", [1, 30, 300])
def test_it_comes_within_a_hundredth(replicas: int, spread: float) -> None:
    of = trace(5, 1200, 100.0)
    price = prices(of) * np.where(np.arange(len(of)) % 2, spread, 1)
    fluid = fluid_of(of, price, TERMS)
    exact = optimum(fluid, replicas)
    assert exact is not None
    ascent = ascend(fluid, replicas)
    assert fluid.bound(ascent.rates, replicas) > 0.99 * exact.shared > 0
    assert ascent.kept.mean() == pytest.approx(exact.kept.mean(), abs=0.03)


def test_another_start_leads_to_the_same_bound() -> None:
    of = trace(5, 1200, 200.0)
    fluid = fluid_of(of, prices(of), TERMS)
    cold = fluid.bound(ascend(fluid, 1).rates, 1)
    warm = fluid.bound(ascend(fluid, 1, ascend(fluid, 2).rates).rates, 1)
    assert warm == pytest.approx(cold, rel=0.003)


def test_more_room_than_work_costs_nothing() -> None:
    of = trace(5, 50, 200.0)
    fluid = fluid_of(of, prices(of), TERMS)
    ascent = ascend(fluid, 20)
    assert fluid.bound(ascent.rates, 20) == 0
    assert ascent.kept == pytest.approx(1.0)


def test_the_gradient_is_that_of_the_softened_bound() -> None:
    of = trace(1, 60, 10.0, longest=6000)
    fluid = fluid_of(of, prices(of), replace(TERMS, bin_s=1.0))
    softened = _Softened(fluid, 1, fluid.typical_rate, 0.1)
    rates = np.random.default_rng(0).uniform(0, 1.5, fluid.bins)
    assert check_grad(lambda x: softened(x)[0], lambda x: softened(x)[1], rates) < 1e-5
