"""What is predicted of a request grows with all that stands before it and with what was learned, and never less."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from proxy.policy.engine_profile import ASSUMED, LLAMA_70B_FP8_2XH100
from proxy.policy.model import Objective, Rules
from proxy.routing.outcome import Usage
from proxy.routing.predict import DEFAULT_TTFT_S, KV_SHARE, Aims, Prediction, Steps, aims
from proxy.routing.readings import Load
from proxy.routing.work import work_us
from tests.routing.policies import dedicated, itl_p99, loads, replaced, ttft_p99

STEPS = Steps(dedicated(profile=LLAMA_70B_FP8_2XH100))
TOKENS = st.integers(1, 30_000)
MORE = st.integers(1, 5000)


def predicted(load: Load, input_tokens: int = 1000, hit_tokens: int = 0, output_tokens: float = 200.0) -> Prediction:
    return STEPS.predict(load, input_tokens, hit_tokens, output_tokens)


def test_an_idle_replica_reads_the_prompt_at_once() -> None:
    """By hand, in seconds: one fixed part, 1000 tokens to read and attend over, and what they take of a second step."""
    found = predicted(Load())
    assert found.ttft_s == pytest.approx(16e-3 + 70e-3 + 0.9e-3 + 1000 / 2048 * 16e-3)
    assert found.raw_ttft_s == found.ttft_s
    assert found.fits


def test_a_queue_is_read_before_the_prompt_and_each_chunk_pays_for_a_step_of_the_streams() -> None:
    load = Load(waiting=3, queued_tokens=21_000, decoding=38, context_tokens=60_000)
    step_s = 16e-3 + 38 * 90e-6 + 60_000 * 30e-9
    attention_s = 1.8e-9 * 1000 * 500
    by_hand = step_s + 22_000 * 70e-6 + attention_s + 22_000 / (2048 - 38) * step_s
    assert predicted(load).ttft_s == pytest.approx(by_hand)


def test_the_gap_is_that_of_all_streams_stretched_by_the_prompts_and_bounded_by_a_full_step() -> None:
    busy = Load(waiting=1, queued_tokens=500, decoding=20, context_tokens=30_000, prefill_tokens_per_s=4000.0)
    decoding_s = 16e-3 + 20 * 90e-6 + 30_000 * 30e-9 + 2 * 90e-6 + 30e-9 * (500 + 1100)
    assert predicted(busy).itl_s == pytest.approx(decoding_s / (1 - 70e-6 * (4000 + 1000 / 5)))
    flooded = replaced(busy, prefill_tokens_per_s=1e6, queued_tokens=100_000)
    decoding_s += 30e-9 * 99_500
    full_s = decoding_s + (2048 - 20 - 1) * (70e-6 + 1.8e-9 * 101_000 / 2)
    assert predicted(flooded).full_s == pytest.approx(full_s)
    assert predicted(flooded).itl_s == pytest.approx(min(decoding_s / 0.15, full_s))


def test_full_steps_are_expected_where_nothing_else_is() -> None:
    assert not predicted(Load(decoding=4, context_tokens=4000)).saturated
    small = Steps(dedicated(profile=LLAMA_70B_FP8_2XH100, max_batched_tokens=384))
    flooded = Load(waiting=30, queued_tokens=60_000, decoding=60, context_tokens=90_000, prefill_tokens_per_s=9000.0)
    found = small.predict(flooded, 1000, 0, 200.0)
    assert found.saturated
    assert found.raw_itl_s == pytest.approx(found.full_s)


def test_a_cached_prompt_waits_less() -> None:
    load = Load(waiting=1, queued_tokens=4000, decoding=10, context_tokens=20_000)
    assert predicted(load, 2000, 1900).ttft_s < predicted(load, 2000, 0).ttft_s
    assert predicted(load, 2000, 1900).hit_tokens == 1900


def test_context_has_to_fit_into_what_the_profile_says_there_is_room_for() -> None:
    room = int(KV_SHARE * 471_000)
    assert predicted(Load(context_tokens=room - 1200)).fits
    assert not predicted(Load(context_tokens=room - 1199)).fits
    assert not predicted(Load(queued_tokens=room - 1199)).fits
    assert predicted(Load(context_tokens=room - 1100), output_tokens=100).fits


def test_what_nobody_has_said_of_memory_turns_nobody_away() -> None:
    assumed = Steps(dedicated())
    full = Load(context_tokens=10**9)
    assert assumed.kv_tokens == inf
    assert assumed.predict(full, 1000, 0, 200.0).fits
    assert assumed.predict(Load(), 1000, 0, 200.0).ttft_s == predicted(Load()).ttft_s
    assert ASSUMED.kv_tokens is not None


@given(loads, TOKENS, MORE)
def test_nothing_that_stands_before_a_request_makes_it_faster(load: Load, input_tokens: int, more: int) -> None:
    now = predicted(load, input_tokens)
    for name in ("queued_tokens", "decoding", "context_tokens"):
        later = predicted(replaced(load, **{name: getattr(load, name) + more}), input_tokens)
        assert later.ttft_s >= now.ttft_s, name
    for name in ("queued_tokens", "context_tokens", "prefill_tokens_per_s"):
        later = predicted(replaced(load, **{name: getattr(load, name) + more}), input_tokens)
        assert later.itl_s >= now.itl_s, name
        assert now.fits or not later.fits


@given(loads, st.integers(1, 200))
def test_another_stream_makes_the_gaps_of_all_longer_while_steps_are_not_full(load: Load, more: int) -> None:
    now, later = predicted(load), predicted(replaced(load, decoding=load.decoding + more))
    assume(not now.saturated and not later.saturated)
    assert later.raw_itl_s >= now.raw_itl_s


@given(loads, st.floats(1.0, 4.0))
def test_both_are_as_much_longer_as_their_factors(load: Load, times: float) -> None:
    now = predicted(load)
    slower = predicted(
        replaced(load, **{name: getattr(load, name) * times for name in ("ttft_factor", "itl_factor", "step_factor")})
    )
    assert (slower.raw_ttft_s, slower.raw_itl_s) == (now.raw_ttft_s, now.raw_itl_s)
    assert slower.itl_s == pytest.approx(times * now.itl_s)
    assert slower.full_s == pytest.approx(times * now.full_s)
    if load.overdue <= load.ttft_factor:
        assert slower.ttft_s == pytest.approx(times * now.ttft_s)
    assert slower.ttft_s >= now.ttft_s


@given(loads)
def test_gaps_are_never_longer_than_a_full_step(load: Load) -> None:
    found = predicted(load)
    assert found.itl_s <= found.full_s


@given(loads, st.floats(0.0, 20.0))
def test_a_wait_is_never_shorter_than_what_the_longest_waiting_has_had(load: Load, overdue: float) -> None:
    late = predicted(replaced(load, overdue=overdue))
    assert late.ttft_s >= overdue * late.raw_ttft_s
    assert late.ttft_s >= predicted(replaced(load, overdue=0.0)).ttft_s


@given(loads, st.floats(0.05, 1.0))
def test_a_replica_that_warms_up_waits_longer_in_proportion(load: Load, warmth: float) -> None:
    cold, warm = predicted(replaced(load, warmth=warmth)), predicted(replaced(load, warmth=1.0))
    assert cold.ttft_s == pytest.approx(warm.ttft_s / warmth)
    assert cold.itl_s == warm.itl_s


@given(TOKENS, st.integers(0, 29_999), st.integers(0, 3000))
def test_a_requests_own_work_is_that_by_which_gpu_hours_are_shared_out(inputs: int, cached: int, outputs: int) -> None:
    hit = min(cached, inputs - 1)
    usage = Usage(input_tokens=inputs, cached_input_tokens=hit, output_tokens=outputs)
    assert STEPS.work_s(inputs, hit, outputs) * 1e6 == pytest.approx(work_us(usage), abs=1.0)


def test_the_tightest_objective_of_all_counts_whatever_its_quantile() -> None:
    median = (Objective(rule="ttft_p50", field="ttft_p50_s", limit_s=0.5),)
    assert aims(Rules(), Rules(objectives=ttft_p99(2.0) + median)) == Aims(ttft_s=0.5, stated=True)
    both = aims(Rules(objectives=ttft_p99(1.0)), Rules(objectives=ttft_p99(3.0) + itl_p99(0.05)))
    assert both == Aims(ttft_s=1.0, itl_s=0.05, stated=True, required_ttft_s=1.0)


def test_a_route_that_says_nothing_spills_at_the_default_and_requires_nothing() -> None:
    assert aims(Rules(), Rules(regions=("eu-*",))) == Aims(ttft_s=DEFAULT_TTFT_S, stated=False)


def test_a_route_that_speaks_of_gaps_alone_does_not_mind_the_wait() -> None:
    assert aims(Rules(), Rules(objectives=itl_p99(0.05))) == Aims(ttft_s=inf, itl_s=0.05, stated=True)
    assert aims(Rules(objectives=itl_p99(0.05)), Rules()).required_itl_s == 0.05
