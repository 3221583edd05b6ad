"""A replay loses nothing, repeats itself, and does to its world what a proxy would do to the real one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from proxy.advisor.bound import BoundTerms, lower_bound
from proxy.advisor.replay_bound import shared_nano_usd
from proxy.advisor.replayed import MIN_PACE_TOKENS, REFUSED, Replayed
from proxy.advisor.scenario import Scenario, SharedSpeed, Slowdown, Span
from proxy.advisor.simulate import simulate
from proxy.advisor.trace import Trace
from proxy.policy.engine_profile import LLAMA_70B_FP8_2XH100
from proxy.signals.tracker import Tracker
from proxy.simulator.profile import PROFILES
from proxy.simulator.step_model import StepModel
from tests.advisor.policies import pool
from tests.advisor.traffic import crowd, steady

REPLICA_NANO_USD = 5_980_000_000
GPU, API = 0, 1
CROWD = crowd(1200, 9.0)
"""More than one replica can take."""


def replay(trace: Trace = CROWD, replicas: int = 1, scenario: Scenario | None = None, seed: int = 0) -> Replayed:
    return simulate(trace, pool(), replicas={"gpu": replicas}, scenario=scenario or Scenario(), seed=seed)


def columns(run: Replayed) -> list[NDArray[np.generic]]:
    return [run.target, run.route, run.reason, run.spilled, run.ttft_s, run.pace_s, run.e2e_s, run.nano_usd]


def same(one: Replayed, other: Replayed) -> bool:
    return all(
        np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(columns(one), columns(other), strict=True)
    )


def by_target(run: Replayed) -> dict[str, int]:
    return {name: int((run.target == index).sum()) for index, name in enumerate(run.targets)}


def test_every_request_has_one_end_and_the_bill_adds_up() -> None:
    run = replay()
    on_gpu, on_api = run.target == GPU, run.target == API
    assert run.targets == ("gpu", "api")
    assert on_gpu.any() and on_api.any() and (on_gpu | on_api).all()
    for column in (run.ttft_s, run.pace_s, run.e2e_s):
        assert np.isfinite(column).all()
    assert (run.e2e_s >= run.ttft_s).all()
    decode_s = run.pace_s * np.maximum(CROWD.output_tokens - 1, MIN_PACE_TOKENS)
    assert np.allclose(run.ttft_s + decode_s, run.e2e_s, rtol=1e-3, atol=1e-3)
    assert (run.nano_usd[on_gpu] == 0).all()
    assert run.gpu_nano_usd == round(REPLICA_NANO_USD * CROWD.span_s / 3600)
    assert run.nano_usd_in_all == run.gpu_nano_usd + int(run.nano_usd[on_api].sum())
    assert np.array_equal(run.spilled, on_api)


def test_without_gpus_everything_costs_what_the_price_list_says() -> None:
    run = replay(replicas=0)
    assert by_target(run) == {"api": len(CROWD)} and not run.spilled.any()
    tokens = CROWD.input_tokens + CROWD.output_tokens
    assert np.array_equal(run.nano_usd, tokens * 720)
    assert run.nano_usd_in_all == int(tokens.sum()) * 720


def test_the_seed_settles_everything() -> None:
    one = replay(seed=3)
    assert same(one, replay(seed=3))
    assert not same(one, replay(seed=4))


def test_more_replicas_keep_more() -> None:
    kept = [by_target(replay(replicas=count)).get("gpu", 0) for count in range(4)]
    assert kept == sorted(kept) and kept[0] == 0 and kept[1] < kept[2] and kept[3] == len(CROWD)


def test_requests_that_one_engine_serves_alone_take_what_its_steps_take() -> None:
    trace = crowd(60, 1.0)
    run = replay(trace)
    assert by_target(run)["gpu"] == len(trace)
    assert np.allclose(run.e2e_s, alone(trace), atol=1e-4)


def alone(trace: Trace) -> NDArray[np.float64]:
    """How long one engine takes for each request, step by step, with nothing of a replay about it."""
    model, now, coming = StepModel(replace(PROFILES["70b-fp8-2xh100"], max_batched_tokens=384)), 0.0, 0
    took_s = np.zeros(len(trace))
    while coming < len(trace) or model.unfinished:
        if not model.unfinished:
            now = float(trace.arrival_s[coming])
        while coming < len(trace) and trace.arrival_s[coming] <= now:
            model.submit(coming, int(trace.input_tokens[coming]), int(trace.output_tokens[coming]))
            coming += 1
        step = model.step()
        assert step is not None
        now += step.duration_s
        for request in step.finished:
            took_s[request] = now - trace.arrival_s[request]
    return took_s


def test_a_provider_that_is_away_serves_nobody_and_few_wait_past_their_time() -> None:
    away = Span(from_s=40.0, to_s=80.0)
    run = replay(scenario=Scenario(shared_down=(away,)))
    during = np.array([away.covers(at_s) for at_s in CROWD.arrival_s])
    assert not (run.target[during] == API).any()
    assert (run.target[during] == REFUSED).any() and np.isnan(run.ttft_s[run.target == REFUSED]).all()
    assert (run.ttft_s[during & (run.target == GPU)] <= 2.0).mean() > 0.98
    assert (run.target[~during] == API).any()


def test_a_limit_by_the_minute_is_kept() -> None:
    limit = 30_000
    run = replay(scenario=Scenario(shared_tokens_per_minute=limit))
    tokens = CROWD.input_tokens + CROWD.output_tokens
    spent = tokens[run.target == API].sum()
    assert 0 < spent <= limit * (1 + CROWD.span_s / 60)
    assert spent < tokens[replay().target == API].sum()
    assert (run.target == REFUSED).any()


def test_a_slow_replica_is_given_less_and_what_it_has_takes_longer() -> None:
    slow = Slowdown(span=Span(from_s=0.0, to_s=CROWD.span_s), factor=3.0)
    well, ill = replay(replicas=2), replay(replicas=2, scenario=Scenario(slowdowns=(slow,)))
    assert ill.met.mean() > 0.9
    assert by_target(ill)["gpu"] < by_target(well)["gpu"]
    assert np.median(ill.pace_s[ill.target == GPU]) > np.median(well.pace_s[well.target == GPU])


def test_what_shared_apis_are_like_is_told() -> None:
    quick = SharedSpeed(ttft_median_s=0.1, ttft_p99_s=0.1001, tokens_per_s=1000.0)
    run = replay(replicas=0, scenario=Scenario(shared={"api": quick}))
    assert np.allclose(run.ttft_s, 0.1, atol=1e-3)
    assert np.allclose(run.e2e_s, run.ttft_s + (CROWD.output_tokens - 1) / 1000, atol=1e-4)


def test_several_proxies_do_as_one_that_knows_all() -> None:
    one, four = replay(), replay(scenario=Scenario(proxies=4))
    assert four.met.mean() > 0.99
    assert by_target(four)["gpu"] == pytest.approx(by_target(one)["gpu"], rel=0.1)


def test_proxies_tell_one_another_to_the_end_of_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after a pause in which nothing is under way."""
    heard_s: list[float] = []
    absorb = Tracker.absorb

    def overheard(tracker: Tracker, others: Mapping[str, int], now: float) -> None:
        heard_s.append(now)
        absorb(tracker, others, now)

    monkeypatch.setattr(Tracker, "absorb", overheard)
    trace = replace(steady(10, 1.0), arrival_s=np.arange(10) * 1.0 + np.repeat([0.0, 90.0], 5), span_s=100.0)
    replay(trace, scenario=Scenario(proxies=2, sync_s=0.5))
    assert len(heard_s) == pytest.approx(2 * 99.0 / 0.5, abs=4) and max(heard_s) >= 98.5


def test_an_engine_that_is_full_sends_a_request_on() -> None:
    at_once = replace(steady(40, 1e-3), span_s=60.0)
    run = replay(at_once, scenario=Scenario(queue_limit=2))
    assert 2 <= by_target(run)["gpu"] <= 5
    assert (run.target != REFUSED).all()


def test_prompts_that_begin_alike_are_read_once() -> None:
    trace = steady(50, 2.0, input_tokens=4096)
    alike = replace(trace, prefix=((1, 2, 3, 4, 5, 6, 7, 8),) * len(trace))
    apart = replace(trace, prefix=tuple(tuple(range(8 * n, 8 * n + 8)) for n in range(len(trace))))
    hit, missed = replay(alike), replay(apart)
    assert np.median(hit.ttft_s) < 0.2 * np.median(missed.ttft_s)
    assert same(replay(alike, scenario=Scenario(cache_ttl_s=0)), replay(trace))


@pytest.mark.parametrize("replicas", [0, 1, 2])
def test_nothing_that_is_replayed_undercuts_the_bound(replicas: int) -> None:
    trace = crowd(500, 8.0, surge=2.0)
    run = replay(trace, replicas)
    terms = BoundTerms(
        profile=LLAMA_70B_FP8_2XH100, replica_nano_usd_per_hour=REPLICA_NANO_USD, ttft_s=2.0, pace_s=0.05
    )
    bound = lower_bound(trace, shared_nano_usd(trace, pool()), terms)
    missed_nano_usd = int(run.trace.output_tokens[~run.met].sum() + run.trace.input_tokens[~run.met].sum()) * 720
    assert bound.nano_usd <= run.nano_usd_in_all + missed_nano_usd
    assert bound.beside(replicas) <= run.nano_usd_in_all + missed_nano_usd


def test_spilling_costs_less_than_either_lane_alone() -> None:
    """A calm that one replica serves, and a surge for which two or three more would idle most of the time."""
    trace = crowd(1500, 4.0, surge=5.0)
    costs = {count: replay(trace, count) for count in range(5)}
    assert costs[1].met.mean() > 0.99
    alone = [run.nano_usd_in_all for count, run in costs.items() if count == 0 or not run.spilled.mean() > 0.02]
    assert costs[1].nano_usd_in_all < 0.9 * min(alone)


def test_the_reasons_are_counted_and_progress_is_told() -> None:
    told: list[int] = []
    run = simulate(CROWD, pool(), replicas={"gpu": 1}, policy="mine", progress=told.append)
    assert told == [0] and run.policy == "mine" and run.wall_s > 0
    reason = {run.reasons[index] for index in run.reason[run.target == API]}
    assert reason <= {"ttft", "itl", "kv"} and reason
    assert {run.reasons[index] for index in run.reason[run.target == GPU]} == {"preferred"}
