"""What spans say; that they say nothing of what was asked is searched for in tests/e2e/test_traces.py, too."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from opentelemetry.semconv.attributes import error_attributes, http_attributes, server_attributes, url_attributes
from proxy.api.openai import ROUTED
from proxy.policy.model import Endpoint, Tenant, Traffic
from proxy.routing.outcome import Failure, Usage
from proxy.routing.plan import Cause, Exclusion, Plan, Refusal
from proxy.telemetry.records import Record
from proxy.telemetry.traces_attributes import (
    MAX_EXCLUDED,
    OPERATIONS,
    PATHS,
    PROVIDERS,
    attempt_attributes,
    attempt_error,
    attempt_name,
    request_attributes,
    request_error,
    request_name,
)
from tests.harness import dedicated, shared
from tests.telemetry.requests import API, attempt, charge, outcome, record

LEFT = Refusal(status=499, code="client_closed_request", message="gone", rule=Failure.CLIENT_LEFT.label)
UPSTREAM = Refusal(status=502, code="upstream_broken", message="broke", rule="upstream")
FULL = Exclusion(target="gpu", rule="capacity", observed="8 of 8 in flight", limit="8 in flight", hard=False)


def of_attempt(made: Record, place: int = 0) -> dict[str, Any]:
    return attempt_attributes(made, made.outcomes[place], made.charges[place])


def test_a_served_stream() -> None:
    usage = Usage(input_tokens=70, output_tokens=30, cached_input_tokens=48, reasoning_tokens=9)
    one = outcome(usage=usage, ttft_s=0.21, itl_s=0.03)
    facts = {"stream": True, "max_output_tokens": 64, "choices": 2, "tenant": Tenant(name="bank")}
    made = record(one, facts=facts, charges=(charge(one, nano_usd=1_500_000),))
    assert (request_name(made), attempt_name(made, one)) == ("POST /v1/chat/completions", "chat up")
    assert of_attempt(made) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "up",
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 64,
        "gen_ai.request.choice.count": 2,
        "gen_ai.response.time_to_first_chunk": 0.21,
        "gen_ai.usage.input_tokens": 70,
        "gen_ai.usage.output_tokens": 30,
        "gen_ai.usage.cache_read.input_tokens": 48,
        "gen_ai.usage.reasoning.output_tokens": 9,
        "server.address": "gpu.internal",
        "server.port": 80,
        "http.response.status_code": 200,
        "spillway.route": "default",
        "spillway.lane": "dedicated",
        "spillway.target": "gpu",
        "spillway.replica": 0,
        "spillway.region": "eu-west-1",
        "spillway.cause": "preferred",
        "spillway.reason": "preferred: cost",
        "spillway.committed": True,
        "spillway.cost_usd": 0.0015,
        "spillway.cost_basis": "policy",
        "spillway.ttft_s": 0.21,
        "spillway.itl_s": 0.03,
    }
    assert request_attributes(made) == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "url.path": "/v1/chat/completions",
        "url.scheme": "http",
        "spillway.tenant": "bank",
        "spillway.traffic": Traffic.ONLINE.value,
        "spillway.policy": "dddddddddddd",
        "spillway.attempts": 1,
        "spillway.overhead_s": 0.0002,
        "spillway.route": "default",
        "spillway.model": "m",
        "spillway.lane": "dedicated",
        "spillway.target": "gpu",
        "spillway.cause": "preferred",
        "spillway.reason": "preferred: cost",
        "spillway.cost_usd": 0.0015,
    }
    assert (request_error(made), attempt_error(one)) == (None, None)


def test_the_names_are_opentelemetrys_where_it_has_any() -> None:
    modules = (gen_ai, error_attributes, http_attributes, server_attributes, url_attributes)
    known = {value for module in modules for name, value in vars(module).items() if name.isupper()}
    # Newer than the package, which has none but what moved to a repository of its own.
    known |= {
        "gen_ai.request.stream",
        "gen_ai.response.time_to_first_chunk",
        *(f"gen_ai.usage.{one}" for one in ("audio.input_tokens", "audio.output_tokens", "reasoning.output_tokens")),
    }
    usage = Usage(
        input_tokens=9,
        output_tokens=9,
        cached_input_tokens=1,
        cache_write_tokens=1,
        reasoning_tokens=1,
        audio_input_tokens=1,
        audio_output_tokens=1,
    )
    one = outcome(usage=usage, ttft_s=1.0, failure=Failure.BROKEN)
    made = record(one, facts={"stream": True, "max_output_tokens": 1, "choices": 2}, refusal=UPSTREAM)
    said = {*of_attempt(made), *request_attributes(made)}
    assert {name for name in said if not name.startswith("spillway.")} - known == set()
    assert len([name for name in said if name.startswith("gen_ai.usage.")]) == 7


def test_every_endpoint_has_its_path_and_operation() -> None:
    assert {path.encode(): endpoint for endpoint, path in PATHS.items()} == ROUTED
    assert set(OPERATIONS) == set(Endpoint)
    values = {one.value for one in gen_ai.GenAiOperationNameValues}
    assert set(OPERATIONS.values()) - values == {"count_tokens"}


def test_providers_are_called_what_opentelemetry_calls_them() -> None:
    values = {one.value for one in gen_ai.GenAiProviderNameValues} | {"moonshot_ai"}  # newer than the package
    assert set(PROVIDERS.values()) <= values
    for provider, name in (("bedrock", "aws.bedrock"), ("anthropic", "anthropic"), ("together_ai", "together_ai")):
        one = outcome(shared("api", "https://api.example.com/v1", provider=provider))
        assert of_attempt(record(one))["gen_ai.provider.name"] == name
    assert of_attempt(record(outcome(API)))["gen_ai.provider.name"] == "openai"


def test_an_engine_behind_tls_on_a_port_of_its_own_and_a_provider_without_a_url() -> None:
    far = outcome(dedicated("gpu", "https://user:pw@gpu.internal:8443/v1?x=y"))
    assert of_attempt(record(far))["server.address"] == "gpu.internal"
    assert of_attempt(record(far))["server.port"] == 8443
    assert of_attempt(record(outcome(API)))["server.port"] == 443
    assert "server.address" not in of_attempt(record(outcome(shared("api", provider="bedrock"))))


def test_a_spill_says_where_it_came_from_and_why() -> None:
    full = outcome(failure=Failure.FULL, status=503)
    one = outcome(API, Cause.SPILLOVER)
    made = record(full, one, excluded=(FULL,), waited_s=0.5)
    assert of_attempt(made)["error.type"] == of_attempt(made)["spillway.failure"] == "full"
    assert of_attempt(made)["http.response.status_code"] == 503
    assert of_attempt(made, 1)["spillway.cause"] == "spillover"
    said = request_attributes(made)
    assert said["spillway.excluded"] == ("gpu: capacity 8 of 8 in flight against 8 in flight",)
    assert (said["spillway.attempts"], said["spillway.waited_s"], said["spillway.cost_usd"]) == (2, 0.5, 0.5)
    assert (said["http.response.status_code"], "error.type" in said) == (200, False)


def test_the_result_of_a_hedge_is_said_of_the_copy() -> None:
    lost = outcome(API, Cause.HEDGE, failure=Failure.OUTRUN, status=None)
    won, failed = outcome(API, Cause.HEDGE), outcome(API, Cause.HEDGE, failure=Failure.CONNECT, status=None)
    assert [of_attempt(record(one))["spillway.hedge"] for one in (lost, won, failed)] == ["lost", "won", "failed"]
    assert [attempt_error(one) for one in (lost, won, failed)] == [None, None, "connect"]
    assert "http.response.status_code" not in of_attempt(record(lost))


def test_a_refusal_is_the_callers_error_below_500_and_ours_from_there() -> None:
    made = record()
    said = request_attributes(made)
    assert (said["http.response.status_code"], request_error(made)) == (429, None)
    assert (said["spillway.refusal.code"], said["spillway.refusal.rule"]) == ("rate_limit_exceeded", "capacity")
    assert not {"spillway.target", "spillway.cost_usd", "error.type"} & said.keys()
    ours = record(decision=Refusal(status=503, code="at_capacity", message="no", rule="capacity"))
    assert request_error(ours) == request_attributes(ours)["error.type"] == "at_capacity"
    assert "spillway.route" not in request_attributes(ours)


@pytest.mark.parametrize(
    ("last", "refusal", "status", "error"),
    [
        (outcome(failure=Failure.BROKEN, committed=True), UPSTREAM, 200, "broken"),
        (outcome(failure=Failure.CONNECT, status=None), UPSTREAM, 502, "upstream_broken"),
        (outcome(failure=Failure.REJECTED, status=400), Refusal(status=400, code="x", message="", rule="r"), 400, None),
        (outcome(failure=Failure.CLIENT_LEFT, committed=True), UPSTREAM, 200, None),
        (outcome(failure=Failure.CLIENT_LEFT, status=None), UPSTREAM, None, None),
        (outcome(failure=Failure.SHUT_DOWN, status=None), None, None, "shut_down"),
    ],
)
def test_the_status_is_what_the_client_was_sent(last: Any, refusal: Any, status: int | None, error: str | None) -> None:
    made = record(last, refusal=refusal)
    assert request_attributes(made).get("http.response.status_code") == status
    assert request_error(made) == error


def test_a_client_that_left_while_it_waited_was_sent_nothing() -> None:
    made = record(decision=LEFT)
    assert "http.response.status_code" not in request_attributes(made)
    assert request_error(made) is None


def test_a_bug_before_the_first_attempt_is_an_error() -> None:
    made = record(decision=Plan(route="default", attempts=(attempt(),)))
    assert request_error(made) == "internal_error"


def test_no_word_of_the_callers_is_repeated() -> None:
    pinned = Exclusion(target="gpu", rule="target_override", observed="gpu", limit="canary", hard=True)
    facts = {"model": "canary", "session": "canary", "request_id": "canary", "tags": frozenset({"canary"})}
    made = record(outcome(), excluded=(pinned,), facts={**facts, "target_override": "canary"})
    said = request_attributes(made)
    assert said["spillway.excluded"] == ("gpu: target_override",)
    assert "canary" not in repr((said, of_attempt(made), request_name(made)))


def test_a_long_list_of_exclusions_is_cut() -> None:
    made = record(outcome(), excluded=(FULL,) * 100)
    assert len(request_attributes(made)["spillway.excluded"]) == MAX_EXCLUDED  # type: ignore[arg-type]


def test_what_is_estimated_relaxed_or_without_a_price_says_so() -> None:
    one = outcome(usage=Usage(input_tokens=1, estimated=True))
    plan = Plan(route="default", attempts=(one.attempt,), relaxed=True)
    made = record(one, decision=plan, charges=(charge(one, priced=False),))
    said = of_attempt(made)
    assert said["spillway.usage_estimated"] is True
    assert "spillway.cost_usd" not in said
    assert request_attributes(made)["spillway.relaxed"] is True
