"""The descent: as low as other methods get, never below zero, with or without anything to gain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.advisor.fluid import Floats
from proxy.advisor.projected_lbfgs import Objective, dot, minimum
from scipy.optimize import nnls


def least_squares(matrix: Floats, target: Floats) -> Objective:
    def objective(at: Floats) -> tuple[float, Floats]:
        miss = matrix @ at - target
        return float(miss @ miss) / 2, matrix.T @ miss

    return objective


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 15))
def test_it_solves_least_squares_without_negatives(seed: int, size: int) -> None:
    draws = np.random.default_rng(seed)
    matrix, target = draws.normal(size=(size + 5, size)), draws.normal(size=size + 5)
    found = minimum(least_squares(matrix, target), np.full(size, 0.5), 300)
    _, distance = nnls(matrix, target)
    assert (found >= 0).all()
    assert np.linalg.norm(matrix @ found - target) == pytest.approx(distance, rel=1e-4)


def test_steps_of_very_different_sizes_are_learned() -> None:
    steepness = np.logspace(0, 3, 20)

    def bowl(at: Floats) -> tuple[float, Floats]:
        return float((steepness * (at - 1) ** 2).sum()), 2 * steepness * (at - 1)

    assert minimum(bowl, np.zeros(20), 300) == pytest.approx(1.0, abs=1e-3)


def test_it_stays_where_nothing_is_lower() -> None:
    slope = np.array([1.0, 2.0])
    assert minimum(lambda at: (float((slope * at).sum()), slope), np.zeros(2), 10).tolist() == [0.0, 0.0]
    assert minimum(lambda _: (3.0, np.zeros(2)), np.array([1.0, 0.0]), 10).tolist() == [1.0, 0.0]


def test_a_slope_leads_to_the_edge() -> None:
    slope = np.array([1.0, 2.0])
    assert minimum(lambda at: (float((slope * at).sum()), slope), np.ones(2), 60).tolist() == [0.0, 0.0]


def test_the_inner_product_is_one() -> None:
    assert dot(np.array([1.0, 2.0]), np.array([3.0, 4.0])) == 11.0
