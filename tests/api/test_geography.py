"""No body chooses a place: every member that would is refused by name, and none that the SDKs send."""

from __future__ import annotations

import json

import msgspec
import pytest
from proxy.api.geography import PARAMETERS, check_members
from proxy.routing.plan import Refusal
from tests.harness import dedicated, proxy, shared, snapshot_of
from tests.scripted import CHAT_REPLY, reply, scripted


def checked(body: object) -> Refusal | None:
    return check_members(msgspec.json.decode(json.dumps(body), type=dict[str, msgspec.Raw]))


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_each_is_refused_by_name(name: str) -> None:
    refusal = checked({"model": "m", name: "us"})
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code, refusal.param) == (400, "geo_parameter_not_allowed", name)
    assert f"`{name}`" in refusal.message
    assert refusal.retryable is False


def test_one_inside_another_is_refused_by_its_path() -> None:
    for inner in ("inference_geo", "aws_region_name"):
        refusal = checked({"extra_body": {"extra_body": {inner: "us"}}})
        assert isinstance(refusal, Refusal)
        assert refusal.param == f"extra_body.extra_body.{inner}"


def test_escapes_hide_nothing() -> None:
    members = msgspec.json.decode(rb'{"inf\u0065rence_geo":"us"}', type=dict[str, msgspec.Raw])
    assert isinstance(check_members(members), Refusal)


@pytest.mark.parametrize(
    "body",
    [
        {"inference_geo": None, "extra_body": None},
        {"extra_body": {"google": {"thinking_config": {"provider": 1}}}},
        {"extra_body": ["inference_geo"]},
        {"metadata": {"provider": "x", "models": "y"}},
        {"tools": [{"type": "function", "function": {"name": "route", "parameters": {"provider": {}}}}]},
        {"messages": [{"role": "user", "content": "inference_geo"}]},
    ],
)
def test_what_moves_nothing_passes(body: object) -> None:
    assert checked(body) is None


# Every parameter of the six endpoints, as the SDKs of the two vendors name them.
CHAT = """audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens messages
    metadata modalities model moderation n parallel_tool_calls prediction presence_penalty prompt_cache_key
    prompt_cache_options prompt_cache_retention reasoning_effort
    response_format safety_identifier seed service_tier stop store stream stream_options temperature
    tool_choice tools top_logprobs top_p user verbosity web_search_options"""
RESPONSES = """background context_management conversation include input instructions max_output_tokens max_tool_calls
    metadata model parallel_tool_calls previous_response_id prompt prompt_cache_key
    prompt_cache_options prompt_cache_retention reasoning
    safety_identifier service_tier store stream stream_options temperature text tool_choice tools top_logprobs top_p
    truncation user"""
OTHERS = """best_of echo suffix prompt dimensions encoding_format cache_control container context_management
    mcp_servers metadata output_config output_format service_tier speed stop_sequences system thinking top_k betas
    compaction safeguards diagnostics"""


def test_the_vendors_own_parameters_pass() -> None:
    assert checked(dict.fromkeys((CHAT + " " + RESPONSES + " " + OTHERS).split(), 1)) is None


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
        ("/v1/completions", {"prompt": "hi"}),
        ("/v1/embeddings", {"input": "hi"}),
        ("/v1/responses", {"input": "hi"}),
        ("/v1/messages", {"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}),
        ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "hi"}]}),
    ],
)
async def test_nothing_goes_upstream_on_any_endpoint(path: str, body: dict[str, object]) -> None:
    async with scripted([reply(CHAT_REPLY)]) as up:
        async with proxy(snapshot_of(dedicated("gpu", up.url), shared("api", up.url))) as spillway:
            got = await spillway.post(path, {"model": "m", "inference_geo": "us", **body})
    assert got.status == 400
    assert "`inference_geo`" in got.json["error"]["message"]
    assert up.requests == []
