"""How much of an engine's time a request takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from proxy.policy.engine_profile import LLAMA_70B_FP8_2XH100, EngineProfile
from proxy.policy.gpus import Gpus
from proxy.routing.outcome import Usage
from proxy.routing.work import attributed_nano_usd, work_us

TOKENS = st.integers(0, 10**6)


def test_the_time_to_read_and_to_write_is_that_of_the_step_model() -> None:
    """By hand, in microseconds: 1000 x 70 + 1.8e-3 x 1000^2 / 2 to read, 300 x (90 + 0.03 x 1150) to write."""
    assert work_us(Usage(input_tokens=1000, output_tokens=300)) == 70_000 + 900 + 37_350


def test_what_is_in_the_prefix_cache_is_not_read_again_but_attended_to() -> None:
    """The last 200 of 1000 tokens: 200 x 70 + 1.8e-3 x (1000^2 - 800^2) / 2."""
    assert work_us(Usage(input_tokens=1000, cached_input_tokens=800)) == 14_000 + 324


def test_the_model_gives_the_published_throughput_of_the_profile() -> None:
    """TensorRT-LLM publishes 898 output tokens/s for 5000 in and 500 out: the marginal work leaves room for that."""
    per_output_token_s = work_us(Usage(input_tokens=5000, output_tokens=500)) / 500 / 1e6
    assert 0.8 < per_output_token_s * 898 < 1.0


@given(TOKENS, TOKENS, TOKENS)
def test_no_work_is_free_or_negative_and_more_tokens_are_more_work(inputs: int, outputs: int, cached: int) -> None:
    work = work_us(Usage(input_tokens=inputs, output_tokens=outputs, cached_input_tokens=cached))
    assert work >= 0
    assert work > 0 or (outputs == 0 and cached >= inputs)
    assert work_us(Usage(input_tokens=inputs, output_tokens=outputs + 1, cached_input_tokens=cached)) > work
    assert (
        work_us(Usage(input_tokens=inputs + 1, output_tokens=outputs, cached_input_tokens=min(cached, inputs))) > work
    )


@given(TOKENS, TOKENS, TOKENS)
def test_the_figures_are_those_of_whole_nanoseconds(inputs: int, outputs: int, cached: int) -> None:
    """By hand, in nanoseconds: no factor between seconds and these may make a microsecond of nothing."""
    hit = min(cached, inputs)
    reading = (inputs - hit) * (70_000 + 1.8 * (inputs + hit) / 2)
    writing = outputs * (90_000 + 30 * (inputs + outputs / 2))
    usage = Usage(input_tokens=inputs, output_tokens=outputs, cached_input_tokens=cached)
    assert work_us(usage) == -int(-(reading + writing) // 1000)


def test_another_engine_has_another_profile() -> None:
    idle = EngineProfile(name="idle", step_s=1, sequence_s=0, context_token_s=0, prefill_token_s=1e-9, attention_s=0)
    assert work_us(Usage(input_tokens=1500, output_tokens=9), idle) == 2
    assert work_us(Usage(), LLAMA_70B_FP8_2XH100) == 0


def test_what_the_time_costs_is_its_part_of_the_hour() -> None:
    """1500 us of an engine that costs $3.60 an hour, which is $0.001 a second."""
    gpus = Gpus(type="H100", count=1, nano_usd_per_hour=3_600_000_000)
    slow = EngineProfile(name="slow", step_s=0, sequence_s=0, context_token_s=0, prefill_token_s=1e-6, attention_s=0)
    assert attributed_nano_usd(gpus, Usage(input_tokens=1500), slow) == 1500
    assert attributed_nano_usd(gpus, Usage(input_tokens=1500)) > 1500
