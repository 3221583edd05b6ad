"""Pauses after failures: ever longer, up to a limit, never below what the server asks for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.discovery.backoff import LONGEST_ADVICE_S, pause_s


@pytest.mark.parametrize(("failures", "longest_s"), [(1, 0.1), (2, 0.2), (5, 1.6), (8, 10.0), (10_000, 10.0)])
def test_twice_as_long_each_time(failures: int, longest_s: float) -> None:
    pauses = [pause_s(failures, draw, first_s=0.1, longest_s=10.0) for draw in (0.0, 0.5, 1.0)]
    assert pauses == pytest.approx([longest_s / 2, longest_s * 0.75, longest_s])


@given(st.integers(1, 100), st.floats(0.0, 1.0, exclude_max=True), st.floats(0.0, 1e6))
def test_never_sooner_than_the_server_asks_for_unless_that_is_absurd(
    failures: int, draw: float, advised_s: float
) -> None:
    waited_s = pause_s(failures, draw, first_s=0.1, longest_s=10.0, advised_s=advised_s)
    assert min(advised_s, LONGEST_ADVICE_S) <= waited_s <= max(10.0, 1.1 * LONGEST_ADVICE_S)
