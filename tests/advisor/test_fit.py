"""The coefficients of a simulated engine are found again, from nothing but when its tokens came."""

from __future__ import annotations

from dataclasses import replace

import pytest
from proxy.advisor.experiment import design
from proxy.advisor.fit import Fit, TooLittle, fit
from proxy.advisor.timings import Observed
from proxy.simulator.profile import PROFILES, Profile
from tests.advisor.played import played

RUNS = design(8192, 32)
FIELDS = {
    "step_s": "step_s",
    "sequence_s": "decode_s",
    "context_token_s": "kv_s",
    "prefill_token_s": "prefill_s",
    "attention_s": "attention_s",
}


def assert_found(found: Fit, profile: Profile, within: float) -> None:
    for ours, theirs in FIELDS.items():
        assert getattr(found.profile, ours) == pytest.approx(getattr(profile, theirs), rel=within), ours


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("chunk", [384, 2048])
def test_an_engine_that_keeps_to_the_model_is_found_exactly(name: str, chunk: int) -> None:
    profile = replace(PROFILES[name], max_batched_tokens=chunk, max_seqs=256)
    found = fit(played(profile, RUNS, request_s=0.004))
    assert_found(found, profile, within=0.02)
    assert found.chunk_tokens == chunk
    assert found.request_s == pytest.approx(0.004, rel=0.05)
    assert found.ttft is not None
    assert found.itl is not None
    assert found.itl.p90 < 0.02
    assert found.ttft.median < 0.05  # of the step that is under way, half is assumed to be left
    assert found.ttft.count == 8


def test_events_that_come_late_by_chance_hardly_matter() -> None:
    found = fit(played(PROFILES["70b-fp8-2xh100"], RUNS, late_s=0.002))
    assert_found(found, PROFILES["70b-fp8-2xh100"], within=0.1)


def test_a_hiccup_moves_nothing() -> None:
    """One of the ten prompts that were read alone waited for a second."""
    profile = PROFILES["70b-fp8-2xh100"]
    runs = played(profile, RUNS)
    late = replace(runs[0].joined[3], times_s=(runs[0].joined[3].first_s + 1.0,))
    runs[0] = replace(runs[0], joined=(*runs[0].joined[:3], late, *runs[0].joined[4:]))
    assert_found(fit(runs), profile, within=0.05)


def test_the_error_is_that_of_runs_that_were_not_fitted() -> None:
    """With held-out runs of another engine, half as fast, the fit is the same and the error is what it is."""
    profile = PROFILES["70b-fp8-2xh100"]
    slow = replace(profile, step_s=2 * profile.step_s, decode_s=2 * profile.decode_s, kv_s=2 * profile.kv_s)
    mixed = [
        theirs if run.held_out else ours
        for run, ours, theirs in zip(RUNS, played(profile, RUNS), played(slow, RUNS), strict=True)
    ]
    found = fit(mixed)
    assert_found(found, profile, within=0.02)
    assert found.itl is not None
    assert found.itl.p90 == pytest.approx(0.5, abs=0.05)


def test_a_known_chunk_and_cache_are_taken_as_they_are() -> None:
    found = fit(played(PROFILES["8b-fp8-1xh100"], RUNS), chunk_tokens=2048, kv_tokens=990_000)
    assert (found.chunk_tokens, found.profile.kv_tokens) == (2048, 990_000)


def test_prompts_that_were_never_cut_show_no_chunk() -> None:
    profile = replace(PROFILES["70b-fp8-2xh100"], max_batched_tokens=16_384)
    found = fit(played(profile, RUNS))
    assert found.chunk_tokens is None
    assert_found(found, profile, within=0.02)


def test_too_few_runs_are_no_calibration() -> None:
    runs = played(PROFILES["70b-fp8-2xh100"], RUNS)
    with pytest.raises(TooLittle, match="decoding batch"):
        fit(runs[:3])
    with pytest.raises(TooLittle, match="lengths of a prompt"):
        fit(runs[:6])
    with pytest.raises(TooLittle):
        fit([])
    with pytest.raises(TooLittle):
        fit([Observed()])


def test_without_held_out_runs_no_error_is_claimed() -> None:
    found = fit([run for run in played(PROFILES["70b-fp8-2xh100"], RUNS) if not run.held_out])
    assert (found.ttft, found.itl) == (None, None)
