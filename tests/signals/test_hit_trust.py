"""What is assumed to be cached is believed as far as it proves right, by reports or by how soon answers begin."""

from __future__ import annotations

import random

import msgspec
import pytest
from proxy.policy.engine_profile import ASSUMED
from proxy.routing.outcome import Outcome, Usage
from proxy.routing.plan import Estimate
from proxy.signals.hit_trust import MIN_SAMPLES, HitTrust
from tests.routing.policies import dedicated
from tests.signals.attempts import attempt, outcome

TARGET = dedicated(profile=ASSUMED, max_batched_tokens=2048)
PER_TOKEN_S = ASSUMED.prefill_token_s + ASSUMED.step_s / 2048


def reported(cached_tokens: int, *, estimated: bool = False) -> Outcome:
    usage = Usage(input_tokens=4096, output_tokens=10, cached_input_tokens=cached_tokens, estimated=estimated)
    return outcome(attempt(TARGET), usage=usage)


def timed(ttft_s: float | None, predicted_s: float, hit_tokens: int = 0) -> Outcome:
    """An answer of an engine that reports nothing."""
    told = {"ttft_s": predicted_s, "hit_tokens": hit_tokens}
    estimate = Estimate(**{name: told.get(name, 1.0) for name in Estimate.__struct_fields__})  # type: ignore[arg-type]
    return outcome(msgspec.structs.replace(attempt(TARGET), estimate=estimate), ttft_s=ttft_s)


def test_caches_are_believed_in_until_something_speaks_against_it() -> None:
    trust = HitTrust()
    assert trust.share == 1.0
    for _ in range(100):
        trust.judge(2048, reported(0))
    assert trust.share == 1.0


def test_what_is_reported_is_followed() -> None:
    trust = HitTrust()
    for _ in range(400):
        trust.judge(2048, reported(1024))
    assert trust.share == pytest.approx(0.5, abs=0.01)
    for _ in range(400):
        trust.judge(2048, reported(4000))
    assert trust.share == pytest.approx(1.0, abs=0.01)


def test_an_engine_that_once_reported_and_caches_no_more_is_believed_no_more() -> None:
    trust = HitTrust()
    trust.judge(0, reported(64))
    for _ in range(600):
        trust.judge(2048, reported(0))
    assert trust.share < 0.01


def test_a_reply_without_usage_tells_nothing() -> None:
    trust = HitTrust()
    trust.judge(2048, reported(2048))
    for _ in range(100):
        trust.judge(2048, reported(0, estimated=True))
    assert trust.share == 1.0


@pytest.mark.parametrize("common", [0, 100])
@pytest.mark.parametrize("slowness", [0.5, 1.0, 2.5])
@pytest.mark.parametrize(("caches", "share"), [(1.0, 1.0), (0.5, 0.5), (0.0, 0.0)])
def test_the_first_tokens_of_a_silent_engine_tell_whether_it_caches(
    caches: float, share: float, slowness: float, common: int
) -> None:
    """Whatever its profile is off by, with noise of a quarter, and even if all prompts have a bit in common."""
    trust, draw = HitTrust(), random.Random(11)
    for number in range(1200):
        hit = 4096 if number % 2 else common
        whole_s = 0.05 + 4500 * PER_TOKEN_S
        believed_s = whole_s - trust.share * hit * PER_TOKEN_S
        really_s = (whole_s - caches * hit * PER_TOKEN_S) * slowness * draw.lognormvariate(0, 0.25)
        trust.judge(hit, timed(really_s, believed_s, int(trust.share * hit)))
    assert trust.share == pytest.approx(share, abs=0.15)


def test_first_tokens_tell_nothing_before_some_without_hits_were_seen_nor_when_little_was_to_be_saved() -> None:
    trust = HitTrust()
    for _ in range(200):
        trust.judge(4096, timed(1.0, 0.05, 4096))
    assert trust.share == 1.0
    for _ in range(MIN_SAMPLES):
        trust.judge(0, timed(0.1, 0.1))
    for _ in range(200):
        trust.judge(512, timed(1.0, 0.9, 512))
        trust.judge(4096, timed(None, 0.05, 4096))
    assert trust.share == 1.0
    trust.judge(4096, timed(1.0, 0.05, 4096))
    assert trust.share < 1.0
