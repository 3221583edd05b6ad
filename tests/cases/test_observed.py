"""The words of readings and rates."""

from __future__ import annotations

from pathlib import Path

import pytest
from proxy.cases.given import read_given
from proxy.cases.observed import NOW_S, USUAL_EJECTION_S, USUAL_WAIT_S, scopes_of, span, successes
from proxy.policy.model import Snapshot
from proxy.policy.problem import Mistake
from proxy.routing.readings import Breaker, Load, Rate, Reading
from tests.cases.policies import compiled


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return compiled(tmp_path)


def observed(snapshot: Snapshot, **keys: object) -> Reading:
    (reading,) = read_given(snapshot, {"model": "chat", "tenant": "games"}, {"api": keys}).readings["api"]
    return reading


def test_one_mapping_stands_for_every_replica(snapshot: Snapshot) -> None:
    readings = read_given(snapshot, {"model": "chat", "tenant": "games"}, {"own": {"in_flight": 3}}).readings
    assert [(one.replica, one.in_flight) for one in readings["own"]] == [(0, 3), (1, 3)]


def test_a_list_has_one_for_each(snapshot: Snapshot) -> None:
    values = {"own": [{"in_flight": 3}, {"breaker": "half_open"}]}
    readings = read_given(snapshot, {"model": "chat", "tenant": "games"}, values).readings
    assert [(one.in_flight, one.breaker) for one in readings["own"]] == [(3, Breaker.CLOSED), (0, Breaker.HALF_OPEN)]


def test_times_count_from_the_time_of_the_case(snapshot: Snapshot) -> None:
    assert observed(snapshot, full=True).full_until == NOW_S + USUAL_WAIT_S
    assert observed(snapshot, full="5s").full_until == NOW_S + 5
    assert observed(snapshot, full=False).full_until == 0
    assert observed(snapshot, paced="30s").paced_until == NOW_S + 30
    assert observed(snapshot, breaker="open").open_until == NOW_S + USUAL_EJECTION_S


def test_quantiles_and_speeds_are_kept_in_seconds(snapshot: Snapshot) -> None:
    latency = observed(snapshot, ttft_p99="3s", e2e_p50="800ms", perceived_tps=20, perceived_tps_p50=50).latency
    assert (latency.ttft_p99_s, latency.e2e_p50_s) == (3.0, 0.8)
    assert (latency.itl_p99_s, latency.itl_p50_s) == (0.05, 0.02)
    assert latency.ttft_p50_s is None


def test_the_slower_counts_where_a_gap_and_a_speed_are_both_told(snapshot: Snapshot) -> None:
    assert observed(snapshot, itl_p99="100ms", perceived_tps=20).latency.itl_p99_s == 0.1


def test_an_uptime_without_a_count_of_failures_is_meant(snapshot: Snapshot) -> None:
    reading = observed(snapshot, uptime="98%")
    assert (reading.uptime, reading.failures) == (0.98, 2)
    assert observed(snapshot, uptime="98%", failures=1).failures == 1
    assert observed(snapshot, uptime="100%").failures == 0
    assert successes("0%") == 0.0


def test_rates_are_by_scope(snapshot: Snapshot) -> None:
    told = {"key:bank/ci": {"requests": 60, "tokens": "10k", "in_flight": 3, "frees_in": "20s"}}
    rates = read_given(snapshot, {"model": "chat", "tenant": "games"}, {}, told).rates
    assert rates == {"key:bank/ci": Rate(requests=60, tokens=10_000, in_flight=3, frees_in_s=20.0)}


def test_scopes_are_those_of_the_policy(snapshot: Snapshot) -> None:
    assert scopes_of(snapshot) == {
        *("tenant:bank", "tenant:games", "key:bank/ci"),
        *("route:eu", "route:default", "target:own", "target:api"),
    }


def test_a_span_is_a_flag_or_a_duration() -> None:
    with pytest.raises(Mistake, match="expected `true` or a duration, got `soon`"):
        span("soon")


def loads(snapshot: Snapshot, **keys: object) -> list[Load | None]:
    readings = read_given(snapshot, {"model": "chat", "tenant": "games"}, {"own": keys}).readings
    return [one.load for one in readings["own"]]


def test_the_work_of_a_dedicated_replica_may_be_stated(snapshot: Snapshot) -> None:
    stated = {"waiting": 9, "queued_tokens": "21k", "decoding": 38, "context_tokens": "60k", "ttft_factor": 1.4}
    load = Load(waiting=9, queued_tokens=21_000, decoding=38, context_tokens=60_000, ttft_factor=1.4, begun_at=NOW_S)
    assert loads(snapshot, **stated) == [load, load]
    assert loads(snapshot, itl_factor=0.5) == [Load(itl_factor=0.5, step_factor=0.5, begun_at=NOW_S)] * 2


def test_a_queue_is_somebodys_and_no_work_is_work_that_is_not_known(snapshot: Snapshot) -> None:
    assert loads(snapshot, queued_tokens=10) == [Load(waiting=1, queued_tokens=10, begun_at=NOW_S)] * 2
    assert loads(snapshot, queued_tokens=0) == [Load(begun_at=NOW_S)] * 2
    assert loads(snapshot, in_flight=3) == [None, None]


def test_nobody_knows_the_work_of_a_shared_target(snapshot: Snapshot) -> None:
    with pytest.raises(Mistake, match="nobody knows the work of shared target `api`"):
        observed(snapshot, decoding=3)


@pytest.mark.parametrize("value", [0, -1, "fast", "nan", 1001])
def test_a_factor_is_a_number_above_zero(snapshot: Snapshot, value: object) -> None:
    with pytest.raises(Mistake, match="expected a factor"):
        loads(snapshot, ttft_factor=value)
