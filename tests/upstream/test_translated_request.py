"""What of a client's body reaches LiteLLM, and what of a target does."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.policy.model import Endpoint, Lane, Secret, Target, Timeouts
from proxy.routing.plan import Attempt, Cause
from proxy.upstream.errors import ProtocolViolated
from proxy.upstream.translated_request import (
    CHAT,
    MESSAGES,
    RESPONSES,
    Untranslatable,
    chat_parameters,
    connection,
    function_tools,
    keep_known,
    prompt_as_chat,
    read_body,
)

USER = [{"role": "user", "content": "hi"}]
CONFIGURATION = {
    "api_base", "base_url", "api_key", "api_version", "custom_llm_provider", "fallbacks", "mock_response",
    "extra_headers", "headers", "extra_body", "extra_query", "user_config", "model_list", "metadata", "timeout",
    "max_retries", "num_retries", "drop_params", "allowed_openai_params", "inference_geo", "vertex_location",
    "vertex_project", "vertex_credentials", "aws_region_name", "aws_access_key_id", "aws_secret_access_key",
    "aws_bedrock_runtime_endpoint", "client", "organization", "deployment_id", "litellm_params", "proxy_server_request",
    "guardrails", "caching", "cache", "prompt_id", "ssl_verify", "azure_ad_token", "model", "stream", "stream_options",
}  # fmt: skip
"""Names under which LiteLLM takes configuration, and members that the proxy decides itself."""


def raw(**body: Any) -> dict[str, msgspec.Raw]:
    return {key: msgspec.Raw(orjson.dumps(value)) for key, value in body.items()}


def attempt(provider: str | None, *urls: str, key: str | None = "k", region: str = "us", replica: int = 0) -> Attempt:
    target = Target(
        name="t",
        lane=Lane.SHARED,
        model="m",
        region=region,
        urls=urls,
        provider=provider,
        api_key=Secret(key) if key else None,
        timeouts=Timeouts(total_s=42),
    )
    return Attempt(target=target, replica=replica, model="vendor/m", ordinal=0, cause=Cause.PREFERRED, reason="")


@given(st.dictionaries(st.sampled_from(sorted(CONFIGURATION)), st.text(max_size=5)))
def test_configuration_never_gets_through(body: dict[str, str]) -> None:
    for endpoint in (Endpoint.CHAT, Endpoint.RESPONSES, Endpoint.COMPLETIONS, Endpoint.EMBEDDINGS):
        assert read_body(endpoint, raw(**body)) == {}


def test_the_only_metadata_is_anthropics() -> None:
    assert not CONFIGURATION & (CHAT | RESPONSES)
    assert {"metadata"} == CONFIGURATION & MESSAGES


def test_known_parameters_get_through_and_nulls_do_not() -> None:
    body = read_body(Endpoint.CHAT, raw(messages=USER, temperature=0, stop=None, unheard_of=1))
    assert body == {"messages": USER, "temperature": 0}


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        (Endpoint.RESPONSES, "previous_response_id"),
        (Endpoint.RESPONSES, "conversation"),
        (Endpoint.RESPONSES, "prompt"),
        (Endpoint.RESPONSES, "background"),
        (Endpoint.MESSAGES, "mcp_servers"),
        (Endpoint.MESSAGES, "container"),
    ],
)
def test_what_a_vendor_keeps_cannot_be_translated(endpoint: Endpoint, name: str) -> None:
    with pytest.raises(Untranslatable) as raised:
        read_body(endpoint, raw(top_p=1, **{name: "x"}))
    assert raised.value.param == name
    for idle in (None, False, []):
        assert read_body(endpoint, raw(top_p=1, **{name: idle})) == {"top_p": 1}


@pytest.mark.parametrize("messages", [None, "hi", [], ["hi"], {}])
def test_messages_must_be_objects(messages: Any) -> None:
    with pytest.raises(Untranslatable):
        chat_parameters({"messages": messages})


def test_parameters_that_state_a_default_are_left_out() -> None:
    said = {"n": 1, "logprobs": False, "top_logprobs": 0, "parallel_tool_calls": True, "tools": []}
    assert chat_parameters({"messages": USER, **said}) == {"messages": USER}
    asked = {"n": 2, "logprobs": True, "parallel_tool_calls": False}
    assert chat_parameters({"messages": USER, **asked}) == {"messages": USER, **asked}


def test_what_a_translator_adds_is_filtered_too() -> None:
    assert chat_parameters({"messages": USER, "custom_llm_provider": "x", "metadata": {}, "stream": True}) == {
        "messages": USER
    }


def test_hints_are_left_out_for_providers_that_do_not_know_them() -> None:
    given_ = {"messages": USER, "seed": 1, "n": 2, "user": "u"}
    assert keep_known(given_, frozenset({"user"})) == {"messages": USER, "n": 2, "user": "u"}


def test_a_prompt_becomes_one_message() -> None:
    assert prompt_as_chat({"prompt": ["hi"], "echo": False, "temperature": 1}) == {
        "max_tokens": 16,
        "messages": USER,
        "temperature": 1,
    }
    assert prompt_as_chat({"prompt": "hi", "max_tokens": 9})["max_tokens"] == 9


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"prompt": [1, 2]},
        {"prompt": ["a", "b"]},
        {"prompt": "a", "echo": True},
        {"prompt": "a", "logprobs": 0},
        {"prompt": "a", "suffix": "b"},
        {"prompt": "a", "best_of": 2},
    ],
)
def test_prompts_that_chat_cannot_express_are_refused(body: dict[str, Any]) -> None:
    with pytest.raises(Untranslatable):
        prompt_as_chat(body)


def test_only_function_tools_can_be_translated() -> None:
    function_tools({"tools": [{"type": "function", "name": "f"}]})
    function_tools({})
    for tool in ({"type": "mcp", "server_url": "litellm_proxy"}, {"type": "web_search"}, "x"):
        with pytest.raises(Untranslatable):
            function_tools({"tools": [tool]})


def test_a_connection_is_the_targets() -> None:
    found = connection(attempt("groq", "https://a/v1/", "https://b/v1", replica=1))
    assert found == {
        "model": "groq/vendor/m",
        "custom_llm_provider": "groq",
        "api_base": "https://b/v1",
        "api_key": "k",
        "timeout": 42,
        "max_retries": 0,
    }


@pytest.mark.parametrize("provider", [None, "openai_like", "custom_openai"])
def test_a_server_without_a_vendor_is_spoken_to_plainly(provider: str | None) -> None:
    found = connection(attempt(provider, "http://engine:8000/v1", key=None))
    assert (found["model"], found["custom_llm_provider"]) == ("hosted_vllm/vendor/m", "hosted_vllm")


@pytest.mark.parametrize("provider", ["anthropic", "azure", "ollama"])
@pytest.mark.parametrize("url", ["https://h/v1", "https://h/v1/", "https://h"])
def test_the_version_is_not_named_twice(provider: str, url: str) -> None:
    assert connection(attempt(provider, url))["api_base"] == "https://h"


@pytest.mark.parametrize(("provider", "region"), [("bedrock", "eu"), ("vertex_ai", "eu-west-1")])
def test_a_cloud_without_its_own_region_is_not_left_to_the_environment(provider: str, region: str) -> None:
    with pytest.raises(ProtocolViolated):
        connection(attempt(provider, key=None, region=region))
    assert connection(attempt(provider, "https://h", key=None, region=region))["api_base"] == "https://h"


def test_a_target_with_a_url_never_gets_a_key_from_the_environment() -> None:
    assert connection(attempt("anthropic", "http://h/v1", key=None))["api_key"] == "none"
    for signed in (attempt("bedrock", "https://h", key=None), attempt("bedrock", key=None, region="eu-west-1")):
        assert "api_key" not in connection(signed)


@pytest.mark.parametrize(
    ("provider", "region", "found"),
    [
        ("bedrock", "eu-west-1", {"aws_region_name": "eu-west-1"}),
        ("bedrock", "us-gov-west-1", {"aws_region_name": "us-gov-west-1"}),
        ("vertex_ai", "europe-west4", {"vertex_location": "europe-west4"}),
        ("vertex_ai", "global", {"vertex_location": "global"}),
        ("anthropic", "eu-west-1", {}),
    ],
)
def test_the_cloud_region_is_the_targets(provider: str, region: str, found: dict[str, str]) -> None:
    sent = connection(attempt(provider, region=region))
    assert {key: sent[key] for key in ("aws_region_name", "vertex_location") if key in sent} == found
