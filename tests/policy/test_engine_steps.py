"""The step model agrees with what was fitted to published throughput, and the advice with the study of its use."""

from __future__ import annotations

import pytest
from proxy.policy.engine_profile import LLAMA_70B_FP8_2XH100, ProfileSource
from proxy.policy.engine_profiles import PROFILES
from proxy.policy.engine_steps import billions_of, chip_of, chunk_tokens, decoding_s, estimated, precision_of


@pytest.mark.parametrize(
    ("profile", "chip", "count", "billions"),
    [("70b-fp8-2xh100", "H100", 2, 70.0), ("70b-fp8-1xh200", "H200", 1, 70.0), ("8b-fp8-1xh100", "H100", 1, 8.0)],
)
def test_the_coefficients_are_within_a_third_of_the_fits(profile: str, chip: str, count: int, billions: float) -> None:
    ours, fit = estimated(chip, count, billions, "fp8"), PROFILES[profile]
    assert ours is not None
    assert (ours.name, ours.source, ours.kv_tokens) == (profile, ProfileSource.ESTIMATED, None)
    for coefficient in ("step_s", "sequence_s", "context_token_s", "prefill_token_s"):
        assert getattr(ours, coefficient) == pytest.approx(getattr(fit, coefficient), rel=0.34)
    assert 0.5 < ours.attention_s / fit.attention_s < 2


def test_fifty_milliseconds_on_two_h100_ask_for_a_step_of_384_tokens() -> None:
    """The chunk that a replay of production traces found best for that engine and objective."""
    profile = estimated("H100", 2, 70.0, "fp8")
    assert profile is not None
    assert chunk_tokens(profile, 0.05, 64, 64 * 1500) == pytest.approx(384, abs=64)


def test_the_step_of_the_advice_fits_the_objective() -> None:
    profile = LLAMA_70B_FP8_2XH100
    chunk = chunk_tokens(profile, 0.05, 64, 96_000)
    assert chunk is not None
    assert 0.04 < decoding_s(profile, 64, 96_000) + (chunk - 64) * profile.prefill_token_s <= 0.05


def test_no_chunk_is_advised_where_decoding_alone_takes_the_time() -> None:
    assert chunk_tokens(LLAMA_70B_FP8_2XH100, 0.02, 64, 96_000) is None


def test_eight_bits_are_faster_only_where_the_chip_has_them() -> None:
    def prefill_s(chip: str, precision: str) -> float:
        profile = estimated(chip, 1, 8.0, precision)
        assert profile is not None
        return profile.prefill_token_s

    assert prefill_s("H100", "fp8") < prefill_s("H100", "bf16")
    assert prefill_s("A100", "int8") == prefill_s("A100", "bf16")
    assert estimated("H100", 1, 8.0, "q4_k_m") is None
    assert estimated("TPU", 1, 8.0, "bf16") is None


def test_chips_and_precisions_are_read_as_people_write_them() -> None:
    assert [chip_of(name) for name in ("H100", "nvidia-h100-80gb", "l40s")] == ["H100", "H100", "L40S"]
    assert precision_of("int4", "llama-fp8") == "int4"
    assert precision_of("unknown", "Llama-70B-FP8") == "fp8"
    assert precision_of("unknown", "llama-70b") == "bf16"


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
