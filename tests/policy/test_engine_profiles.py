"""Profiles are found by their names, and by what a target says of its GPUs and its model."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from proxy.policy.engine_profile import LLAMA_70B_FP8_2XH100, ProfileSource
from proxy.policy.engine_profiles import PROFILES, found_profile, profile_of, stated_profile
from proxy.policy.problem import Mistake
from proxy.simulator import profile as simulated


def test_the_simulator_runs_on_the_same_figures() -> None:
    for name, profile in PROFILES.items():
        shape, ours = asdict(simulated.PROFILES[name]), asdict(profile)
        assert [shape[key] for key in ("step_s", "decode_s", "kv_s", "prefill_s", "attention_s", "kv_tokens")] == [
            ours[key]
            for key in ("step_s", "sequence_s", "context_token_s", "prefill_token_s", "attention_s", "kv_tokens")
        ]
    assert PROFILES.keys() == simulated.PROFILES.keys()


def test_a_name_is_a_built_in_profile_or_spells_one_to_be_estimated() -> None:
    assert profile_of("70b-fp8-2xh100") is LLAMA_70B_FP8_2XH100
    other = profile_of("1.5b-bf16-1xl40s")
    assert other is not None
    assert (other.name, other.source) == ("1.5b-bf16-1xl40s", ProfileSource.ESTIMATED)
    assert other.step_s < LLAMA_70B_FP8_2XH100.step_s
    for unknown in ("gpt-7", "70b-fp8-2xtpu", "70b-q4-1xh100", "0b-fp8-1xh100", "70b-fp8-0xh100", ""):
        assert profile_of(unknown) is None


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Mistake) as refused:
        stated_profile("70b-on-a-toaster")
    assert refused.value.message == "unknown engine profile `70b-on-a-toaster`"
    assert all(name in refused.value.hint for name in (*PROFILES, "mi300x"))
    with pytest.raises(Mistake):
        stated_profile(70)


@pytest.mark.parametrize(
    ("gpus", "count", "model", "quantization", "name", "source"),
    [
        ("H100", 2, "meta-llama/Llama-3.3-70B-Instruct", "fp8", "70b-fp8-2xh100", ProfileSource.FOUND),
        ("nvidia-h200-141gb", 1, "llama-70b-FP8", "unknown", "70b-fp8-1xh200", ProfileSource.FOUND),
        ("A100", 4, "llama-70b", "unknown", "70b-bf16-4xa100", ProfileSource.ESTIMATED),
    ],
)
def test_a_target_has_the_profile_that_its_gpus_and_model_spell(
    gpus: str, count: int, model: str, quantization: str, name: str, source: ProfileSource
) -> None:
    profile = found_profile(gpus, count, model, quantization)
    assert profile is not None
    assert (profile.name, profile.source) == (name, source)


def test_nothing_is_found_for_what_nobody_knows() -> None:
    assert found_profile("CPU", 1, "llama-8b", "unknown") is None
    assert found_profile("H100", 1, "tiny", "unknown") is None
    assert found_profile("H100", 1, "llama-8b", "q4") is None
