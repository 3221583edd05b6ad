"""The step model agrees with what was fitted to published throughput, and the advice with the study of its use."""

from __future__ import annotations

import pytest
from proxy.policy.engine_steps import CHIPS, StepCost, billions_of, chunk_tokens, decoding_s, step_cost
from proxy.simulator.profile import PROFILES


@pytest.mark.parametrize(
    ("profile", "chip", "count", "billions"),
    [("70b-fp8-2xh100", "H100", 2, 70.0), ("70b-fp8-1xh200", "H200", 1, 70.0), ("8b-fp8-1xh100", "H100", 1, 8.0)],
)
def test_the_coefficients_are_within_a_third_of_the_fits(profile: str, chip: str, count: int, billions: float) -> None:
    cost, fit = step_cost(CHIPS[chip], count, billions, "fp8"), PROFILES[profile]
    assert cost is not None
    for ours, theirs in (
        (cost.step_s, fit.step_s),
        (cost.decode_s, fit.decode_s),
        (cost.context_s, fit.kv_s),
        (cost.prefill_s, fit.prefill_s),
    ):
        assert ours == pytest.approx(theirs, rel=0.34)


def test_fifty_milliseconds_on_two_h100_ask_for_a_step_of_384_tokens() -> None:
    """The chunk that a replay of production traces found best for that engine and objective."""
    cost = step_cost(CHIPS["H100"], 2, 70.0, "fp8")
    assert cost is not None
    assert chunk_tokens(cost, 0.05, 64, 64 * 1500) == pytest.approx(384, abs=64)


def test_the_step_of_the_advice_fits_the_objective() -> None:
    cost = StepCost(step_s=0.016, decode_s=90e-6, context_s=0.03e-6, prefill_s=70e-6)
    chunk = chunk_tokens(cost, 0.05, 64, 96_000)
    assert chunk is not None
    assert 0.04 < decoding_s(cost, 64, 96_000) + (chunk - 64) * cost.prefill_s <= 0.05


def test_no_chunk_is_advised_where_decoding_alone_takes_the_time() -> None:
    cost = StepCost(step_s=0.016, decode_s=90e-6, context_s=0.03e-6, prefill_s=70e-6)
    assert chunk_tokens(cost, 0.02, 64, 96_000) is None


def test_eight_bits_are_faster_only_where_the_chip_has_them() -> None:
    def prefill_s(chip: str, quantization: str) -> float:
        cost = step_cost(CHIPS[chip], 1, 8.0, quantization)
        assert cost is not None
        return cost.prefill_s

    assert prefill_s("H100", "fp8") < prefill_s("H100", "bf16")
    assert prefill_s("A100", "int8") == prefill_s("A100", "bf16")
    assert step_cost(CHIPS["H100"], 1, 8.0, "q4_k_m") is None


@pytest.mark.parametrize(
    ("model", "billions"),
    [
        ("meta-llama/Llama-3.3-70B-Instruct", 70.0),
        ("Qwen/Qwen2.5-1.5B", 1.5),
        ("llama-8b-fp8", 8.0),
        ("mistral-large-latest", None),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", None),
        ("Qwen/Qwen3-235B-A22B", None),
        ("openai/gpt-oss-20b", None),
        ("gpt-4.1-mini", None),
        ("llama-0b", None),
    ],
)
def test_a_dense_models_name_states_its_size(model: str, billions: float | None) -> None:
    assert billions_of(model) == billions
