"""What Prometheus is told of the state of things, and only in words of the policy."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import Metric
from proxy.gauges import policy_gauges, process_gauges, replica_gauges
from proxy.policy.status import PolicyStatus
from proxy.routing.explain.explained import Uptime
from proxy.routing.readings import Breaker, Load, Reading


def shown(families: Iterable[Metric]) -> dict[str, float]:
    """Every sample, by its name and labels."""
    return {
        f"{sample.name}{{{','.join(f'{name}={value}' for name, value in sorted(sample.labels.items()))}}}": sample.value
        for family in families
        for sample in family.samples
    }


def reading(target: str, replica: int = 0, **more: object) -> Reading:
    return Reading(target=target, replica=replica, as_of=0.0, **more)  # type: ignore[arg-type]


def test_a_replica_shows_its_breaker_and_a_dedicated_one_its_work() -> None:
    load = Load(queued_tokens=300, decoding=4, ttft_factor=1.5, itl_factor=0.5)
    survey = {
        "gpu": (reading("gpu", in_flight=7, load=load), reading("gpu", 1, breaker=Breaker.OPEN, load=Load())),
        "api": (reading("api", breaker=Breaker.HALF_OPEN),),
    }
    seen = shown(replica_gauges(survey))
    assert seen["spillway_inflight_requests{replica=0,target=gpu}"] == 7
    assert seen["spillway_upstream_state{replica=1,target=gpu}"] == 2
    assert seen["spillway_upstream_state{replica=0,target=api}"] == 1
    assert seen["spillway_queued_prompt_tokens{replica=0,target=gpu}"] == 300
    assert seen["spillway_decoding_streams{replica=0,target=gpu}"] == 4
    assert seen["spillway_ttft_factor{replica=0,target=gpu}"] == 1.5
    assert seen["spillway_itl_factor{replica=0,target=gpu}"] == 0.5
    assert not [name for name in seen if "api" in name and ("factor" in name or "queued" in name)]


def test_a_route_has_an_uptime_once_one_is_known() -> None:
    policy = PolicyStatus(revision="abc", loaded_at=5.0)
    assert not [name for name in shown(policy_gauges(policy, {})) if "uptime" in name]
    seen = shown(policy_gauges(policy, {"default": Uptime(share=0.99, known=1, targets=2)}))
    assert seen["spillway_route_uptime{route=default}"] == 0.99
    assert seen["spillway_policy_info{revision=abc}"] == 1
    assert seen["spillway_policy_loaded_timestamp_seconds{}"] == 5


def test_the_process_says_how_it_does() -> None:
    seen = shown(process_gauges(waiting=2, lag_s=0.5, lines_dropped=3, decisions_dropped=4))
    assert seen == {
        "spillway_waiting_requests{}": 2,
        "spillway_event_loop_lag_seconds{}": 0.5,
        "spillway_log_lines_dropped_total{}": 3,
        "spillway_decision_log_lines_dropped_total{}": 4,
    }
