"""The upstreams of a replay: engines with caches and queues, APIs with moods and limits."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from statistics import quantiles

import pytest
from proxy.advisor.scenario import PLAIN, Scenario, SharedSpeed, Slowdown, Span
from proxy.advisor.world import Engine, SharedApi
from proxy.policy.model import Target
from tests.advisor.policies import pool

BLOCK = 512


def target() -> Target:
    return pool().targets["gpu"]


def engine(scenario: Scenario = PLAIN, replica: int = 0) -> Engine:
    return Engine(target(), replica, scenario)


def step_s(of: Engine, now: float = 0.0) -> float:
    end_s = of.start(now, now)
    assert end_s is not None
    return end_s - now


def test_an_engine_steps_as_its_profile_says() -> None:
    of = engine()
    assert of.start(0.0, 0.0) is None and of.running is None
    assert of.submit(1, 100, 10, 0)
    profile = target().profile
    assert profile is not None
    expected_s = profile.step_s + 100 * profile.prefill_token_s + profile.attention_s * 100**2 / 2
    assert step_s(of) == pytest.approx(expected_s)
    assert of.running is not None and of.running.first == (1,)


def test_what_is_true_of_engines_may_differ_from_the_policy() -> None:
    profile = target().profile
    assert profile is not None
    of = engine(Scenario(truth={"gpu": replace(profile, step_s=1.0)}))
    of.submit(1, 100, 10, 0)
    assert step_s(of) > 1.0


def test_only_the_replica_that_is_slow_is_slow_and_only_then() -> None:
    scenario = Scenario(slowdowns=(Slowdown(span=Span(from_s=10.0, to_s=20.0), replica=1, factor=2.0),))
    took = []
    for replica, now in ((0, 15.0), (1, 5.0), (1, 15.0), (1, 25.0)):
        of = engine(scenario, replica)
        of.submit(1, 100, 10, 0)
        took.append(step_s(of, now))
    assert took == pytest.approx([took[0], took[0], 2 * took[0], took[0]])


def test_an_engine_is_full_when_as_many_wait_as_it_lets() -> None:
    of = engine(Scenario(queue_limit=2))
    assert [of.submit(n, 100, 10, 0) for n in range(3)] == [True, True, False]
    of.start(0.0, 0.0)  # the first are admitted
    assert of.submit(3, 100, 10, 0)


def test_what_cannot_fit_is_refused() -> None:
    assert not engine().submit(1, 500_000, 10, 0)


def test_a_cached_prompt_is_read_but_for_its_last_token() -> None:
    cold, warm = engine(), engine()
    cold.submit(1, 300, 10, 0)
    warm.submit(1, 300, 10, 300)
    assert step_s(warm) < step_s(cold) - 0.015


def test_blocks_stay_in_the_cache_for_a_while() -> None:
    of = engine(Scenario(cache_ttl_s=100.0))
    assert of.cached((1, 2, 3), BLOCK, 0.0) == 0
    assert of.cached((1, 2, 4), BLOCK, 50.0) == 2 * BLOCK
    assert of.cached((5, 2, 3), BLOCK, 60.0) == 0  # what follows another beginning is another text
    assert of.cached((1, 2, 4), BLOCK, 140.0) == 3 * BLOCK
    assert of.cached((1, 2, 4), BLOCK, 300.0) == 0


def test_the_cache_holds_no_more_than_the_memory_does() -> None:
    of, prompt = engine(), tuple(range(100))
    of.cached(prompt, BLOCK, 0.0)
    assert of.cached(prompt, BLOCK, 1.0) == 100 * BLOCK
    of.cached(tuple(range(1000, 2000)), BLOCK, 2.0)  # 512,000 tokens
    assert of.cached(prompt, BLOCK, 3.0) == 0


def test_an_api_answers_after_a_lognormal_time() -> None:
    api = SharedApi(SharedSpeed(ttft_median_s=0.4, ttft_p99_s=1.6), PLAIN, Random(1))
    cuts = quantiles([api.ttft_s() for _ in range(20_000)], n=100)
    assert cuts[49] == pytest.approx(0.4, rel=0.03) and cuts[98] == pytest.approx(1.6, rel=0.1)
    assert not api.is_down(0.0) and api.admits(10**9, 0.0)


def test_an_api_lets_a_minute_of_tokens_through_and_then_what_flows_back() -> None:
    api = SharedApi(SharedSpeed(), Scenario(shared_tokens_per_minute=6000), Random(1))
    assert api.admits(6000, 0.0) and not api.admits(1, 0.0)
    assert api.admits(100, 1.0) and not api.admits(100, 1.5)
    assert not api.admits(6001, 1000.0) and api.admits(6000, 1000.0)


def test_an_api_is_away_while_it_is_said_to_be() -> None:
    api = SharedApi(SharedSpeed(), Scenario(shared_down=(Span(from_s=1.0, to_s=2.0),)), Random(1))
    assert [api.is_down(at_s) for at_s in (0.0, 1.5, 2.0)] == [False, True, False]
