"""How full a replica is, by whatever bounds it."""

from __future__ import annotations

import pytest
from proxy.live.saturation import Usual, saturation
from proxy.policy.engine_profile import LLAMA_70B_FP8_2XH100
from proxy.routing.predict import Aims
from proxy.routing.readings import Load, Reading
from tests.harness import dedicated

GPU = dedicated("gpu", "http://gpu/v1", profile=LLAMA_70B_FP8_2XH100)
CAPPED = dedicated("gpu", "http://gpu/v1", max_in_flight=8)


def reading(in_flight: int = 0, load: Load | None = None) -> Reading:
    return Reading(target="gpu", replica=0, as_of=0.0, in_flight=in_flight, load=load)


def test_nothing_known_is_not_empty() -> None:
    assert saturation(dedicated("gpu", "http://gpu/v1"), reading(3), Usual(), None) == (None, "")


def test_the_policys_bound_and_the_memory() -> None:
    assert saturation(CAPPED, reading(4), Usual(), None) == (0.5, "in_flight")
    assert saturation(CAPPED, reading(4), Usual(), 0.8) == (0.8, "kv")


def test_an_idle_replica_is_at_zero_and_a_queue_fills_it() -> None:
    usual = Usual(aims=Aims(ttft_s=1.0))
    assert saturation(GPU, reading(load=Load()), usual, None) == (0.0, "ttft")
    shares = [
        saturation(GPU, reading(load=Load(waiting=1, queued_tokens=tokens)), usual, None)[0]
        for tokens in (0, 2_000, 6_000, 20_000)
    ]
    assert shares == sorted(shares, key=lambda one: one or 0.0)
    assert shares[1] is not None
    assert 0.05 < shares[1] < 0.5
    assert shares[3] is not None
    assert shares[3] > 1.0


def test_streams_use_up_the_gap_between_tokens() -> None:
    usual = Usual(aims=Aims(ttft_s=60.0, itl_s=0.03))
    share, by = saturation(GPU, reading(load=Load(decoding=60, context_tokens=60_000)), usual, None)
    assert by == "itl"
    assert share is not None
    assert 0.2 < share < 2.0


def test_an_aim_that_an_idle_replica_misses_is_full() -> None:
    assert saturation(GPU, reading(load=Load()), Usual(aims=Aims(ttft_s=1e-6)), None)[0] == pytest.approx(1.0)
