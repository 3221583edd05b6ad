"""What Prometheus reads after a request: names, labels, counts; and nothing that came from the request itself."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from proxy import __version__
from proxy.policy.model import Endpoint, Lane, Tenant
from proxy.routing.outcome import Failure, Usage
from proxy.routing.plan import Cause, Estimate, Exclusion, Plan, Refusal
from proxy.telemetry.metrics import Metrics, count, gauge
from proxy.telemetry.records import Record
from tests.harness import dedicated, shared
from tests.telemetry.requests import API, GPU, attempt, charge, outcome, record

OTHER = shared("other", "http://other/v1")
SLO = Exclusion(target="gpu", rule="slo", observed="2.3 s", limit="2 s", hard=False)
GATED = Exclusion(target="other", rule="region", observed="us", limit="eu-*", hard=True)


def exposition(metrics: Metrics) -> str:
    return b"".join(metrics.exposition()).decode()


def scraped(metrics: Metrics) -> dict[str, float]:
    """Every sample that is not zero, as Prometheus writes it."""
    return {
        f"{sample.name}{{{','.join(f'{name}={value}' for name, value in sorted(sample.labels.items()))}}}": sample.value
        for family in text_string_to_metric_families(exposition(metrics))
        for sample in family.samples
        if sample.value and "_bucket" not in sample.name
    }


def after(*records: Record) -> dict[str, float]:
    metrics = Metrics()
    for one in records:
        metrics.record(one)
    return scraped(metrics)


def test_the_names_are_those_that_dashboards_and_alerts_are_written_for() -> None:
    families = {family.name: family.type for family in text_string_to_metric_families(exposition(Metrics()))}
    assert families == {
        "spillway_requests": "counter",
        "spillway_request_duration_seconds": "histogram",
        "spillway_time_to_first_token_seconds": "histogram",
        "spillway_inter_token_seconds": "histogram",
        "spillway_overhead_seconds": "histogram",
        "spillway_perceived_tokens_per_second": "histogram",
        "spillway_prediction_ratio": "histogram",
        "spillway_upstream_cancel_seconds": "histogram",
        "spillway_hedges": "counter",
        "spillway_wait_seconds": "histogram",
        "spillway_spill": "counter",
        "spillway_retries": "counter",
        "spillway_tokens": "counter",
        "spillway_estimated_requests": "counter",
        "spillway_cost_usd": "counter",
        "spillway_unpriced_requests": "counter",
        "spillway_shadow": "counter",
        "spillway_residency_blocked": "counter",
        "spillway_client_disconnects": "counter",
        "spillway_refusals": "counter",
        "spillway_build_info": "gauge",
    }


def test_a_served_request_is_counted_once_everywhere() -> None:
    seen = after(record(outcome(ttft_s=0.05, itl_s=0.003)))
    where = "endpoint=chat,lane=dedicated"
    assert seen == {
        f"spillway_requests_total{{{where},outcome=ok,reason=preferred,route=default,target=gpu}}": 1,
        f"spillway_request_duration_seconds_count{{{where},route=default,target=gpu}}": 1,
        f"spillway_request_duration_seconds_sum{{{where},route=default,target=gpu}}": 0.3,
        "spillway_time_to_first_token_seconds_count{route=default,target=gpu}": 1,
        "spillway_time_to_first_token_seconds_sum{route=default,target=gpu}": 0.05,
        "spillway_inter_token_seconds_count{route=default,target=gpu}": 1,
        "spillway_inter_token_seconds_sum{route=default,target=gpu}": 0.003,
        "spillway_perceived_tokens_per_second_count{route=default,target=gpu}": 1,
        "spillway_perceived_tokens_per_second_sum{route=default,target=gpu}": 10,
        "spillway_overhead_seconds_count{}": 1,
        "spillway_overhead_seconds_sum{}": 0.0002,
        "spillway_tokens_total{direction=input,target=gpu}": 7,
        "spillway_tokens_total{direction=output,target=gpu}": 3,
        f"spillway_build_info{{version={__version__}}}": 1,
    }


SPEED = "spillway_perceived_tokens_per_second_sum{route=default,target=gpu}"
ESTIMATE = Estimate(
    ttft_s=0.1,
    itl_s=0.01,
    saturated=False,
    ttft_factor=2.0,
    itl_factor=0.5,
    ttft_aim_s=1.0,
    itl_aim_s=0.05,
    hit_tokens=0,
    output_tokens=64.0,
)


def test_events_stand_for_tokens_where_part_of_the_answer_was_reasoning() -> None:
    """A provider that keeps its reasoning to itself charges for tokens that nobody saw."""
    usage = Usage(input_tokens=7, output_tokens=500, reasoning_tokens=480)
    assert after(record(outcome(ttft_s=0.05, itl_s=0.02, usage=usage)))[SPEED] == 50


@pytest.mark.parametrize("itl_s", [None, 0.0])
def test_what_came_in_one_piece_has_no_speed(itl_s: float | None) -> None:
    assert SPEED not in after(record(outcome(ttft_s=0.05, itl_s=itl_s)))


def test_a_prediction_is_compared_with_what_came_of_it() -> None:
    """As the decision reckoned with it: times the replica's factors."""
    attempt = msgspec.structs.replace(outcome().attempt, estimate=ESTIMATE)
    seen = after(record(msgspec.structs.replace(outcome(ttft_s=0.1, itl_s=0.01), attempt=attempt)))
    assert seen["spillway_prediction_ratio_sum{of=ttft,target=gpu}"] == 0.5
    assert seen["spillway_prediction_ratio_sum{of=itl,target=gpu}"] == 2.0
    assert seen["spillway_prediction_ratio_count{of=itl,target=gpu}"] == 1


def test_what_nobody_predicted_is_not_compared() -> None:
    assert not [name for name in after(record(outcome(API, ttft_s=0.1, itl_s=0.01))) if "prediction" in name]


def test_an_upstream_that_was_let_go_says_how_soon() -> None:
    metrics = Metrics()
    metrics.cancelled(Lane.SHARED, 0.125)
    assert scraped(metrics)["spillway_upstream_cancel_seconds_sum{lane=shared}"] == 0.125


def test_money_is_summed_as_integers_and_shown_in_dollars() -> None:
    seen = after(*[record(outcome(API)) for _ in range(3)])
    assert seen["spillway_cost_usd_total{lane=shared,target=api}"] == 1.5


def test_a_spill_names_both_ends_and_the_rule_that_asked_for_it() -> None:
    seen = after(record(outcome(API, Cause.SPILLOVER), excluded=(GATED, SLO)))
    assert seen["spillway_spill_total{from=gpu,reason=slo,to=api}"] == 1
    assert not any("retries" in name for name in seen)


def test_a_full_engine_is_a_spill_and_a_failure_a_retry() -> None:
    full = record(outcome(failure=Failure.FULL, status=503), outcome(API, Cause.SPILLOVER))
    broken = record(outcome(failure=Failure.BROKEN), outcome(API, Cause.FALLBACK))
    seen = after(full, broken)
    assert seen["spillway_spill_total{from=gpu,reason=full,to=api}"] == 1
    assert seen["spillway_retries_total{failure=broken,target=gpu}"] == 1
    served = "spillway_requests_total{endpoint=chat,lane=shared,outcome=ok,reason=%s,route=default,target=api}"
    assert seen[served % "spillover"] == seen[served % "fallback"] == 1


@pytest.mark.parametrize(
    ("failure", "committed", "result"),
    [
        (None, True, "won"),
        (Failure.BROKEN, True, "won"),
        (Failure.OUTRUN, False, "lost"),
        (Failure.FULL, False, "failed"),
    ],
)
def test_a_copy_is_counted_by_what_came_of_it_and_is_no_retry(
    failure: Failure | None, committed: bool, result: str
) -> None:
    copy = outcome(API, Cause.HEDGE, failure, committed=committed)
    first = outcome(GPU, failure=Failure.OUTRUN if committed else None)
    plan = Plan(route="default", attempts=(attempt(GPU), attempt(API, Cause.FALLBACK)))
    found = after(record(*((first, copy) if committed else (copy, first)), decision=plan))
    told = {name: value for name, value in found.items() if "hedges" in name or "retries" in name}
    assert told == {f"spillway_hedges_total{{from=gpu,result={result},to=api}}": 1.0}


def test_a_spillover_whose_copy_was_outrun_is_still_one() -> None:
    spilled = outcome(API, Cause.SPILLOVER)
    copy = outcome(OTHER, Cause.HEDGE, Failure.OUTRUN)
    plan = Plan(route="default", attempts=(spilled.attempt, copy.attempt), excluded=(SLO,))
    assert after(record(copy, spilled, decision=plan))["spillway_spill_total{from=gpu,reason=slo,to=api}"] == 1.0


def test_a_failed_attempt_that_cost_money_is_in_the_sum() -> None:
    used = Usage(input_tokens=100, output_tokens=20)
    first = outcome(API, failure=Failure.BROKEN, usage=used)
    seen = after(record(first, outcome(GPU, Cause.FALLBACK)))
    assert seen["spillway_cost_usd_total{lane=shared,target=api}"] == 0.5
    assert seen["spillway_tokens_total{direction=input,target=api}"] == 100
    assert seen["spillway_tokens_total{direction=output,target=gpu}"] == 3


@pytest.mark.parametrize(("committed", "phase"), [(True, "stream"), (False, "waiting")])
def test_a_client_that_left_is_neither_served_nor_a_failure(committed: bool, phase: str) -> None:
    used = Usage(input_tokens=7, output_tokens=2, estimated=True)
    seen = after(record(outcome(failure=Failure.CLIENT_LEFT, committed=committed, usage=used)))
    assert seen[f"spillway_client_disconnects_total{{phase={phase}}}"] == 1
    assert seen["spillway_estimated_requests_total{target=gpu}"] == 1
    (requests,) = [name for name in seen if name.startswith("spillway_requests_total")]
    assert "outcome=client_left,reason=client_left" in requests


def test_a_request_without_a_price_is_counted_apart() -> None:
    one = outcome(API)
    seen = after(record(one, charges=(charge(one, nano_usd=0, priced=False),)))
    assert seen["spillway_unpriced_requests_total{target=api}"] == 1
    assert not any("cost_usd" in name for name in seen)


def test_a_refusal_has_its_rule_and_status() -> None:
    seen = after(record())
    assert seen["spillway_refusals_total{endpoint=chat,rule=capacity,status=429}"] == 1
    none = "endpoint=chat,lane=none,outcome=refused,reason=capacity,route=default,target=none"
    assert seen[f"spillway_requests_total{{{none}}}"] == 1
    assert not any("tokens" in name for name in seen)


def test_a_refusal_before_any_route_was_found_has_none() -> None:
    refusal = Refusal(status=401, code="invalid_api_key", message="no", rule="auth")
    seen = after(record(decision=refusal))
    assert any("route=none" in name for name in seen)


def test_a_failure_that_the_client_was_told_of_is_failed_and_refused() -> None:
    told = Refusal(status=502, code="upstream_broken", message="no", rule="upstream")
    seen = after(record(outcome(failure=Failure.BROKEN), refusal=told))
    assert seen["spillway_refusals_total{endpoint=chat,rule=upstream,status=502}"] == 1
    failed = "endpoint=chat,lane=dedicated,outcome=failed,reason=broken,route=default,target=gpu"
    assert seen[f"spillway_requests_total{{{failed}}}"] == 1


def test_a_bug_before_the_first_attempt_is_a_failure_and_costs_no_other_request_its_count() -> None:
    plan = Plan(route="default", attempts=(attempt(),), excluded=())
    seen = after(record(decision=plan), record(outcome()))
    lost = "endpoint=chat,lane=none,outcome=failed,reason=internal_error,route=default,target=none"
    assert seen[f"spillway_requests_total{{{lost}}}"] == 1
    assert sum(value for name, value in seen.items() if name.startswith("spillway_requests_total")) == 2


def test_a_target_may_be_called_none() -> None:
    seen = after(record(), record(outcome(dedicated("none", "http://x"))))
    assert seen["spillway_tokens_total{direction=input,target=none}"] == 7


HOSTILE = st.text() | st.sampled_from(['"} 1\nevil 2', "\\", "\n", "a" * 5000, "\x00", "é\u2028"])


@given(model=HOSTILE, session=HOSTILE, tenant=HOSTILE, request_id=HOSTILE, reason=HOSTILE)
def test_no_label_comes_from_a_request(model: str, session: str, tenant: str, request_id: str, reason: str) -> None:
    def facts(**words: str) -> dict[str, object]:
        named = Tenant(name=words.pop("tenant"))
        return {"endpoint": Endpoint.MESSAGES, "tenant": named, **words}

    def of(words: dict[str, object], why: str) -> str:
        metrics = Metrics()
        failed = outcome(failure=Failure.FAULTED, detail=why)
        metrics.record(record(failed, outcome(API, Cause.FALLBACK, detail=why), facts=words))
        metrics.record(record(facts=words, decision=Refusal(status=400, code=why, message=why, rule="request")))
        return exposition(metrics)

    plain = of(facts(model="m", session="s", tenant="t", request_id="r"), "x")
    assert of(facts(model=model, session=session, tenant=tenant, request_id=request_id), reason) == plain


def test_a_policys_own_odd_names_are_escaped() -> None:
    name = 'a"b\\c\nd'
    seen = after(record(outcome(dedicated(name, "http://x"))))
    assert seen[f"spillway_tokens_total{{direction=input,target={name}}}"] == 7


def test_gauges_are_read_when_prometheus_asks() -> None:
    depth = [1.0]

    def gauges() -> Iterator[Metric]:
        yield gauge("queue_depth", "help", ({"target": "gpu"}, depth[0]))
        yield count("lines", "help", ({}, 5))

    metrics = Metrics(gauges)
    depth[0] = 3.0
    assert scraped(metrics)["spillway_queue_depth{target=gpu}"] == 3.0
    assert scraped(metrics)["spillway_lines_total{}"] == 5


def test_what_shadow_rules_would_have_left_out_is_counted_by_rule() -> None:
    shadow = (msgspec.structs.replace(GATED, rule="require.region"), msgspec.structs.replace(SLO, rule="want.ttft_p99"))
    plan = Plan(route="default", attempts=(attempt(),), shadow=(*shadow, shadow[0]))
    refused = Refusal(status=404, code="model_not_found", message="x", rule="model", shadow=shadow[:1])
    counted = after(record(outcome(), decision=plan), record(decision=refused))
    assert {name: value for name, value in counted.items() if "shadow" in name} == {
        "spillway_shadow_total{route=default,rule=require.region}": 2,
        "spillway_shadow_total{route=default,rule=want.ttft_p99}": 1,
        "spillway_shadow_total{route=none,rule=require.region}": 1,
    }


@pytest.mark.parametrize(
    ("rule", "route", "counted"),
    [
        ("require.region", "gdpr", {"spillway_residency_blocked_total{route=gdpr}": 1}),
        ("require.retention", "gdpr", {"spillway_residency_blocked_total{route=gdpr}": 1}),
        ("require.training", "gdpr", {"spillway_residency_blocked_total{route=gdpr}": 1}),
        ("geo_parameter", "", {"spillway_residency_blocked_total{route=none}": 1}),
        ("require.tags", "gdpr", {}),
        ("capacity", "gdpr", {}),
    ],
)
def test_what_was_kept_from_leaving_is_counted(rule: str, route: str, counted: dict[str, float]) -> None:
    refused = Refusal(status=403, code="x", message="x", rule=rule, route=route)
    assert {name: n for name, n in after(record(decision=refused)).items() if "residency" in name} == counted
