"""How long a target's steps take, as a policy writes it or leaves it to be found."""

from __future__ import annotations

from pathlib import Path

import pytest
from proxy.policy.engine_profile import LLAMA_70B_FP8_2XH100, EngineProfile, ProfileSource
from proxy.policy.profile_terms import spell_profile
from tests.policy.policies import messages, one_target, target

OWN = 'lane: dedicated, url: "http://own:8000/v1"'
FIGURES = "step: 16ms, sequence: 90us, context_token: 30ns, prefill_token: 70us, attention: 1.8ns"


def profile(tmp_path: Path, keys: str) -> EngineProfile | None:
    return target(tmp_path, f"{OWN}, {keys}").profile


def test_a_profile_is_named(tmp_path: Path) -> None:
    assert profile(tmp_path, "model: up, engine_profile: 70b-fp8-2xh100") is LLAMA_70B_FP8_2XH100


def test_or_written_out(tmp_path: Path) -> None:
    found = profile(tmp_path, f"model: up, engine_profile: {{{FIGURES}, kv_tokens: 471k}}")
    assert found == EngineProfile(
        name="own",
        step_s=16e-3,
        sequence_s=90e-6,
        context_token_s=30e-9,
        prefill_token_s=70e-6,
        attention_s=1.8e-9,
        kv_tokens=471_000,
    )
    assert found.source is ProfileSource.STATED


def test_or_named_with_some_figures_changed(tmp_path: Path) -> None:
    found = profile(tmp_path, "model: up, engine_profile: {name: 70b-fp8-2xh100, step: 20ms, kv_tokens: 230k}")
    assert found is not None
    assert (found.name, found.source) == ("70b-fp8-2xh100, changed", ProfileSource.STATED)
    assert (found.step_s, found.kv_tokens) == (20e-3, 230_000)
    assert found.prefill_token_s == LLAMA_70B_FP8_2XH100.prefill_token_s


def test_or_found_by_gpus_and_model(tmp_path: Path) -> None:
    gpus = "gpus: {type: H100, count: 2, usd_per_hour: 2.99}"
    found = profile(tmp_path, f"model: llama-70b, quantization: fp8, {gpus}")
    assert found == LLAMA_70B_FP8_2XH100
    assert found.source is ProfileSource.FOUND
    assert profile(tmp_path, f"model: up, {gpus}") is None
    assert profile(tmp_path, "model: llama-70b") is None


def test_a_provider_has_none(tmp_path: Path) -> None:
    shared = "lane: shared, url: 'https://api.example.com/v1', model: llama-70b"
    assert target(tmp_path, shared).profile is None
    told = messages(tmp_path, one_target(f"{shared}, engine_profile: 70b-fp8-2xh100"))
    assert any("`engine_profile` does not fit a shared target" in message for message in told)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("70b-on-a-toaster", "unknown engine profile `70b-on-a-toaster`"),
        ("{step: 16ms, sequence: 90us}", "`context_token`, `prefill_token`, `attention` missing in the engine profile"),
        ("{name: 70b-fp8-2xh100, step: 0ms}", "a step, and a token of a prompt, take some time"),
        ("{name: 70b-fp8-2xh100, step: 16}", "expected a part of a step's time, got `16`"),
        ("{name: 70b-fp8-2xh100, steps: 16ms}", "unknown key `steps`"),
    ],
)
def test_what_makes_no_profile_is_refused(tmp_path: Path, keys: str, message: str) -> None:
    (told,) = messages(tmp_path, one_target(f"{OWN}, model: up, engine_profile: {keys}"))
    assert message in told


def test_a_profile_is_spelled_as_it_is_written(tmp_path: Path) -> None:
    spelled = spell_profile(LLAMA_70B_FP8_2XH100)
    assert spelled == f"{{{FIGURES}, kv_tokens: 471000}}"
    again = profile(tmp_path, f"model: up, engine_profile: {spelled}")
    assert again is not None
    assert spell_profile(again) == spelled
