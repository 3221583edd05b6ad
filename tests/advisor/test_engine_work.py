"""Work of requests: what the engine model itself spends on them, and the hits that no cache can exceed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from proxy.advisor.engine_work import decode_s, most_hits, prefill_s
from proxy.advisor.trace import App, Trace
from proxy.policy.engine_profile import LLAMA_70B_FP8_2XH100
from proxy.simulator.profile import PROFILES
from proxy.simulator.step_model import StepModel

ENGINE = replace(PROFILES["70b-fp8-2xh100"], max_batched_tokens=384)


def trace(
    input_tokens: list[int],
    output_tokens: list[int],
    arrival_s: list[float] | None = None,
    prefix: tuple[tuple[int, ...], ...] | None = None,
) -> Trace:
    count = len(input_tokens)
    return Trace(
        name="few",
        arrival_s=np.array(arrival_s or [0.0] * count),
        input_tokens=np.array(input_tokens),
        output_tokens=np.array(output_tokens),
        app=np.zeros(count, np.int32),
        apps=(App(name="chat"),),
        span_s=60.0,
        prefix=prefix,
        block_tokens=100,
    )


def engine_s(of: Trace, hits: list[int]) -> float:
    """What the model of an engine spends on all requests of a trace at once, less what its steps cost anyway."""
    engine = StepModel(ENGINE)
    for request, (into, out, hit) in enumerate(zip(of.input_tokens, of.output_tokens, hits, strict=True)):
        engine.submit(request, int(into), int(out), cached_tokens=hit)
    spent = 0.0
    while (step := engine.step()) is not None:
        spent += step.duration_s - step.count * ENGINE.step_s
    return spent


@pytest.mark.parametrize("hits", [[0, 0, 0], [0, 1000, 15]])
def test_work_is_what_the_engine_spends_on_the_request_alone_and_in_a_batch(hits: list[int]) -> None:
    requests = trace([500, 2345, 16], [1, 200, 33])
    work = prefill_s(requests, LLAMA_70B_FP8_2XH100, np.array(hits)) + decode_s(requests, LLAMA_70B_FP8_2XH100)
    assert engine_s(requests, hits) == pytest.approx(work.sum())


def test_a_hit_beyond_the_prompt_is_the_prompt() -> None:
    assert prefill_s(trace([500], [1]), LLAMA_70B_FP8_2XH100, 600).tolist() == [0.0]


def test_a_request_without_an_answer_decodes_nothing() -> None:
    assert decode_s(trace([500, 500], [0, 1]), LLAMA_70B_FP8_2XH100).tolist() == [0.0, 0.0]


def test_no_prefixes_no_hits() -> None:
    assert most_hits(trace([500], [1]), 2.0).tolist() == [0]


def test_a_block_hits_if_another_request_brought_it_before_the_prompt_must_be_read() -> None:
    prefix = ((1, 2, 3), (1, 2, 9), (1, 2, 9, 4), (7, 7), (1, 2, 3))
    requests = trace([300, 350, 390, 200, 280], [1] * 5, [0.0, 5.0, 6.0, 6.0, 9.0], prefix)
    # The first comes long before anyone. The second's last block comes with the third, within its objective; the
    # third's own comes with nobody else. A block that a prompt repeats is not there before that prompt.
    assert most_hits(requests, 2.0).tolist() == [0, 300, 300, 0, 280]
    assert most_hits(requests, 0.5).tolist() == [0, 200, 300, 0, 280]
    assert most_hits(requests, np.array([5.0, 0.0, 0.0, 0.0, 0.0])).tolist() == [200, 200, 300, 0, 280]
