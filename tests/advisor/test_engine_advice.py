"""How to start an engine, checked by letting a simulated one be started so."""

from __future__ import annotations

from dataclasses import replace

import pytest
from proxy.advisor.engine_advice import Advice, advise
from proxy.policy.engine_profile import LLAMA_70B_FP8_2XH100, EngineProfile
from proxy.policy.engine_profiles import PROFILES
from proxy.simulator import profile as simulated
from proxy.simulator.step_model import StepModel

ITL_S, TTFT_S, INPUTS, OUTPUTS = 0.05, 2.0, 1155, 211


def advice(profile: EngineProfile, **changed: float) -> Advice | None:
    sizes = {"itl_s": ITL_S, "ttft_s": TTFT_S, "input_tokens": INPUTS, "output_tokens": OUTPUTS, **changed}
    return advise(profile, **sizes)  # type: ignore[arg-type]


def test_the_advice_is_that_of_the_study() -> None:
    """Chat on two H100 at 50 ms: a chunk of about 384, six requests a second (less the margin)."""
    found = advice(LLAMA_70B_FP8_2XH100)
    assert found is not None
    assert found.max_batched_tokens == pytest.approx(384, abs=64)
    assert found.requests_per_s == pytest.approx(0.9 * 6.2, rel=0.1)
    assert found.max_seqs < found.max_requests < 2 * found.max_seqs


@pytest.mark.parametrize("name", PROFILES)
def test_an_engine_that_is_kept_full_keeps_the_gap_and_the_rate(name: str) -> None:
    found = advice(PROFILES[name])
    assert found is not None
    shape = replace(
        simulated.PROFILES[name],
        max_batched_tokens=found.max_batched_tokens,
        max_seqs=min(found.max_seqs, found.max_batched_tokens),
    )
    model, now, asked, done, gaps = StepModel(shape), 0.0, 0, 0, []
    while now < 60.0:
        while asked <= now * found.requests_per_s:
            model.submit(asked, INPUTS, OUTPUTS)
            asked += 1
        step = model.step()
        if step is None:
            now = asked / found.requests_per_s
            continue
        now += step.duration_s
        gaps.append(step.duration_s)
        done += len(step.finished)
    assert max(gaps) <= 1.1 * ITL_S
    assert done > 0.75 * 60.0 * found.requests_per_s
    assert model.waiting < found.max_requests - found.max_seqs


def test_no_advice_is_given_where_nothing_helps() -> None:
    assert advice(LLAMA_70B_FP8_2XH100, itl_s=0.017) is None
    assert advice(LLAMA_70B_FP8_2XH100, ttft_s=0.03) is None
    assert advice(replace(LLAMA_70B_FP8_2XH100, kv_tokens=1000)) is None


def test_a_small_cache_holds_fewer_sequences() -> None:
    small, large = advice(replace(LLAMA_70B_FP8_2XH100, kv_tokens=30_000)), advice(LLAMA_70B_FP8_2XH100)
    assert small is not None
    assert large is not None
    assert small.max_seqs < large.max_seqs
    assert small.requests_per_s < large.requests_per_s
