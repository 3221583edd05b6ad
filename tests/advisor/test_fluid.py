"""The fluid: windows that only ever widen, the cheapest bins in them, and a bound at whatever rates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from proxy.advisor.fluid import Floats, Fluid, pour


def poured(arrival_s: Floats, prefill_by_s: Floats, decode_by_s: Floats, *, bin_s: float = 1.0) -> Fluid:
    ones = np.ones(len(arrival_s))
    return pour(
        price=ones,
        prefill_s=ones * 0.25,
        decode_s=ones * 0.5,
        arrival_s=arrival_s,
        prefill_by_s=prefill_by_s,
        decode_by_s=decode_by_s,
        bin_s=bin_s,
        capacity=0.5,
    )


def array(*values: float) -> Floats:
    return np.array(values, np.float64)


def test_windows_are_the_bins_that_they_touch() -> None:
    of = poured(array(0.2, 1.0, 3.9), array(0.9, 3.0, 4.1), array(2.5, 3.0, 6.0))
    prefill, decode = of.cheapest(array(6, 5, 4, 3, 2, 1))
    assert prefill.tolist() == [6, 4, 2]
    assert decode.tolist() == [4, 4, 1]
    assert (of.bins, of.levels, of.capacity_s) == (6, 2, 0.5)


def test_a_window_of_no_length_is_the_bin_it_is_in() -> None:
    prefill, _ = poured(array(1.0, 2.5), array(1.0, 2.5), array(3.0, 3.0)).cheapest(array(4, 9, 7))
    assert prefill.tolist() == [9, 7]


@given(
    windows=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 25), st.integers(0, 25)), min_size=1, max_size=9),
    seed=st.integers(0, 1000),
)
def test_the_pyramid_finds_the_minimum_of_every_window(windows: list[tuple[int, int, int]], seed: int) -> None:
    begin, prefill, decode = (np.array(column) for column in zip(*windows, strict=True))
    of = poured(begin + 0.5, begin + prefill + 0.7, begin + decode + 0.7)
    rates = np.random.default_rng(seed).uniform(0, 9, of.bins)

    def least(length: NDArray[np.int64]) -> list[float]:
        return [rates[b : b + n + 1].min() for b, n in zip(begin, length, strict=True)]

    found = of.cheapest(rates)
    assert (found[0].tolist(), found[1].tolist()) == (least(prefill), least(decode))


def test_the_bound_is_the_lower_of_price_and_work_less_the_worth_of_the_replicas() -> None:
    of = poured(array(0.0, 1.0), array(1.0, 2.0), array(2.0, 2.0))
    rates = array(3.0, 1.0)
    assert of.bound(rates, 0) == pytest.approx(1.0 + 0.75)  # 0.25 * 3 + 0.5 * 1 is more than its price of 1
    assert of.worth(rates) == pytest.approx(0.5 * 4.0)
    assert of.bound(rates, 3) == pytest.approx(1.75 - 6.0)


def test_the_typical_rate_leaves_out_what_has_no_price() -> None:
    of = poured(array(0.0, 1.0), array(1.0, 2.0), array(2.0, 2.0))
    assert of.typical_rate == pytest.approx(1 / 0.75)
    of.price[1] = np.inf
    assert of.typical_rate == pytest.approx(1 / 0.75)
    of.price[0] = np.inf
    assert of.typical_rate == 1.0


def test_nobody_is_no_work() -> None:
    of = poured(array(), array(), array())
    assert (len(of), of.bins, of.levels, of.bound(array(0.0), 2)) == (0, 1, 1, 0.0)
