"""What Prometheus is told of the state of things, and only in words of the policy."""

from __future__ import annotations

import re
from collections.abc import Iterable

from prometheus_client.core import Metric
from proxy.gauges import DEGRADABLE, GpuCounters, policy_gauges, price_gauges, process_gauges, replica_gauges
from proxy.meters.gpu_hours import GpuTotals
from proxy.policy.model import Lane, Objective, Route, Rules
from proxy.policy.status import PolicyStatus
from proxy.routing.explain.explained import Uptime
from proxy.routing.readings import Breaker, Load, Reading

from tests.meters.reported import lately, row
from tests.readme import ROOT

POLICY = PolicyStatus(revision="abc", loaded_at=5.0)
STATES = ("ready", "serving", "ejected")


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
    seen = shown(replica_gauges(survey, {}))
    assert seen["spillway_inflight_requests{replica=0,target=gpu}"] == 7
    assert seen["spillway_upstream_state{replica=1,target=gpu}"] == 2
    assert seen["spillway_upstream_state{replica=0,target=api}"] == 1
    assert seen["spillway_queued_prompt_tokens{replica=0,target=gpu}"] == 300
    assert seen["spillway_decoding_streams{replica=0,target=gpu}"] == 4
    assert seen["spillway_ttft_factor{replica=0,target=gpu}"] == 1.5
    assert seen["spillway_itl_factor{replica=0,target=gpu}"] == 0.5
    assert not [name for name in seen if "api" in name and ("factor" in name or "queued" in name)]


def test_a_route_has_an_uptime_once_one_is_known() -> None:
    assert not [name for name in shown(policy_gauges(POLICY, (), {})) if "uptime" in name]
    seen = shown(policy_gauges(POLICY, (), {"default": Uptime(share=0.99, known=1, targets=2)}))
    assert seen["spillway_route_uptime{route=default}"] == 0.99
    assert seen["spillway_policy_info{revision=abc}"] == 1
    assert seen["spillway_policy_loaded_timestamp_seconds{}"] == 5


def test_the_process_says_how_it_does() -> None:
    seen = shown(
        process_gauges(
            waiting=2, lag_s=0.5, draining=True, degraded={"journal": "why"}, lines_dropped=3, decisions_dropped=4
        )
    )
    assert seen == {
        "spillway_draining{}": 1,
        "spillway_degraded{rule=journal}": 1,
        "spillway_degraded{rule=meters}": 0,
        "spillway_degraded{rule=replicas}": 0,
        "spillway_waiting_requests{}": 2,
        "spillway_event_loop_lag_seconds{}": 0.5,
        "spillway_log_lines_dropped_total{}": 3,
        "spillway_decision_log_lines_dropped_total{}": 4,
    }


def test_of_the_replicas_that_are_ready_some_serve() -> None:
    pool = (reading("gpu"), reading("gpu", 1, breaker=Breaker.OPEN), reading("gpu", 2, breaker=Breaker.HALF_OPEN))
    seen = shown(replica_gauges({"gpu": pool, "asleep": ()}, {}))
    assert [seen[f"spillway_replicas{{state={state},target=gpu}}"] for state in STATES] == [3, 1, 2]
    assert [seen[f"spillway_replicas{{state={state},target=asleep}}"] for state in STATES] == [0, 0, 0]


def test_a_breaker_that_never_moved_is_a_series_too() -> None:
    """Or the first ejection of a target would be an increase from nothing, which is none."""
    seen = shown(replica_gauges({"gpu": (reading("gpu"),)}, {("gpu", Breaker.OPEN): 2}))
    assert seen["spillway_breaker_transitions_total{target=gpu,to=open}"] == 2
    assert seen["spillway_breaker_transitions_total{target=gpu,to=half_open}"] == 0
    assert seen["spillway_breaker_transitions_total{target=gpu,to=closed}"] == 0


def objective(rule: str, field: str, limit_s: float) -> Objective:
    return Objective(rule=rule, field=field, limit_s=limit_s)


def test_the_tightest_objective_of_a_route_is_shown() -> None:
    required = Rules(objectives=(objective("ttft_p99", "ttft_p99_s", 2.0),))
    speed = objective("perceived_tps", "itl_p50_s", 0.04)
    wanted = Rules(objectives=(objective("ttft_p99", "ttft_p99_s", 0.8), speed))
    seen = shown(policy_gauges(POLICY, (Route(name="chat", require=required, want=wanted), Route(name="rest")), {}))
    assert seen["spillway_objective_seconds{objective=ttft_p99,route=chat}"] == 0.8
    assert seen["spillway_objective_seconds{objective=itl_p50,route=chat}"] == 0.04
    assert not [name for name in seen if "route=rest" in name]


def test_a_refused_text_shows_until_all_is_well() -> None:
    refused = POLICY.refused("e" * 12, 9.0, ("p:1:1: x",))
    success = "spillway_policy_last_reload_success{}"
    assert [shown(policy_gauges(one, (), {}))[success] for one in (POLICY, refused, refused.restored())] == [1, 0, 1]


def gpu(replica_ms: int, busy_replica_ms: int, gpus: int) -> GpuTotals:
    return GpuTotals(replica_ms, busy_replica_ms, replica_ms * gpus, 4_000_000_000, 1_000_000_000)


def test_gpus_that_were_paid_for_were_busy_or_idle() -> None:
    seen = shown(GpuCounters().families({"gpu": gpu(10_000, 4_000, 2), "unpriced": GpuTotals(replica_ms=5_000)}))
    assert seen == {
        "spillway_gpu_seconds_total{kind=provisioned,target=gpu}": 20,
        "spillway_gpu_seconds_total{kind=attributed,target=gpu}": 8,
        "spillway_gpu_seconds_total{kind=idle,target=gpu}": 12,
        "spillway_gpu_cost_usd_total{kind=provisioned,target=gpu}": 4,
        "spillway_gpu_cost_usd_total{kind=attributed,target=gpu}": 1,
        "spillway_gpu_cost_usd_total{kind=idle,target=gpu}": 3,
    }


def test_gpu_time_never_falls() -> None:
    """Eight GPUs a replica, then one: the average shrinks, and with it what is reckoned to have been busy before."""
    counters = GpuCounters()
    busy = "spillway_gpu_seconds_total{kind=attributed,target=gpu}"
    before = GpuTotals(replica_ms=1_000, busy_replica_ms=1_000, gpu_ms=8_000)
    after = GpuTotals(replica_ms=2_000, busy_replica_ms=1_000, gpu_ms=9_000)
    assert after.busy_gpu_ms < before.busy_gpu_ms
    assert [shown(counters.families({"gpu": one}))[busy] for one in (before, after)] == [8, 8]


def test_gpu_money_never_falls_by_a_rounding() -> None:
    """A counter that falls by a nano-dollar reads in Prometheus as one that has spent its whole sum again."""
    counters = GpuCounters()
    idle = "spillway_gpu_cost_usd_total{kind=idle,target=gpu}"
    sums = [GpuTotals(gpu_ms=8_000, nano_usd=4_614_567, busy_nano_usd=busy) for busy in (100, 101, 50)]
    assert sums[1].idle_nano_usd < sums[0].idle_nano_usd
    assert [round(shown(counters.families({"gpu": one}))[idle] * 1e9) for one in sums] == [
        4_614_467,
        4_614_467,
        4_614_517,
    ]


def test_live_prices_are_those_of_the_report() -> None:
    priced = row(nano_usd_per_mtok=250_000_000, shared_nano_usd_per_mtok=880_000_000, saving_nano_usd=-50_000_000)
    assert shown(price_gauges(lately(priced, row(Lane.SHARED, nano_usd_per_mtok=5)))) == {
        "spillway_usd_per_mtok{kind=effective,target=gpu}": 0.25,
        "spillway_usd_per_mtok{kind=shared,target=gpu}": 0.88,
        "spillway_saving_usd_per_hour{target=gpu}": -3.0,
    }


def test_a_price_that_nobody_knows_is_not_shown() -> None:
    assert shown(price_gauges(lately(row()))) == shown(price_gauges(None)) == {}


def test_what_may_degrade_is_what_degrades() -> None:
    """Each is a series from the start."""
    named = re.findall(r'found\["(\w+)"\]', (ROOT / "proxy" / "metering.py").read_text(encoding="utf-8"))
    assert sorted(DEGRADABLE) == sorted(named)
