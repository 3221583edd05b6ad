"""The load of a calibration is bounded, and tells the coefficients apart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from proxy.advisor.experiment import LEAST_PROMPT_TOKENS, cost, design, within


def test_the_runs_differ_in_what_they_are_to_tell() -> None:
    runs = design(8192, 32)
    seen = [run for run in runs if not run.held_out]
    decoding = {(run.decoders, run.prompt_tokens) for run in seen if not run.joining}
    assert {(1, 128), (32, 128), (32, 4096)} <= decoding
    assert any(run.joining and not run.decoders for run in seen)
    assert any(run.joining and run.decoders for run in seen)
    assert {bool(run.decoders) for run in runs if run.held_out and run.joining} == {True, False}


@given(st.integers(1, 10**6), st.integers(LEAST_PROMPT_TOKENS, 32_768), st.integers(2, 256))
def test_no_load_is_larger_than_it_may_be(most_tokens: int, prompt_tokens: int, concurrency: int) -> None:
    runs = within(most_tokens, prompt_tokens, concurrency)
    assert not runs or cost(runs) <= most_tokens
    assert all(run.decoders <= max(4, concurrency) for run in runs)
    assert all(length <= prompt_tokens for run in runs for length in (run.prompt_tokens, *run.joining))


def test_what_fits_is_not_made_smaller() -> None:
    assert within(cost(design(8192, 32)), 8192, 32) == design(8192, 32)
    assert within(1000, 8192, 32) == ()
    assert within(100_000, 8192, 32) not in ((), design(8192, 32))


def test_what_is_cheap_is_done_three_times() -> None:
    once = design(1024, 8)
    assert within(2 * cost(once), 1024, 8) == 2 * once
    assert within(9 * cost(once), 1024, 8) == 3 * once
