"""From a client's body to the arguments of a LiteLLM call: an allow-list of request parameters, and nothing else.

Theory of operation
-------------------
LiteLLM takes request parameters and its own configuration (`api_base`, `api_key`, `fallbacks`, `mock_response`,
`aws_*`, `vertex_*` ...) through the same keyword arguments, so a body passed on as it came would let a client send the
target's key elsewhere (PYSEC-2026-4070). Here the body contributes exactly the parameters named below; where the
request goes, and with which credentials, comes from the target alone.

A parameter that only hints (`seed`, `service_tier` ...) is left out for a provider that does not know it. One that
changes what the answer means (`n`, `logprobs`, `response_format` ...) is refused instead, by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
import orjson

from proxy.policy.model import Endpoint, Target
from proxy.routing.plan import Attempt
from proxy.upstream.errors import ProtocolViolated
from proxy.upstream.parameters import Members, encoded

Json = dict[str, Any]

CHAT = frozenset({
    "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens",
    "max_tokens", "messages", "modalities", "n", "parallel_tool_calls", "prediction", "presence_penalty",
    "prompt_cache_key", "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop",
    "store", "temperature", "thinking", "tool_choice", "tools", "top_k", "top_logprobs", "top_p", "user", "verbosity",
    "web_search_options",
})  # fmt: skip
"""Parameters of a chat request that LiteLLM is given."""

HINTS = frozenset({
    "frequency_penalty", "logit_bias", "prediction", "presence_penalty", "prompt_cache_key", "reasoning_effort",
    "safety_identifier", "seed", "service_tier", "store", "top_k", "user", "verbosity",
})  # fmt: skip
"""Left out for a provider that does not know them; the answer means the same without."""

_DEFAULTS: Mapping[str, Any] = {
    "n": 1, "logprobs": False, "top_logprobs": 0, "parallel_tool_calls": True, "tools": [], "functions": [],
}  # fmt: skip
"""Values that say what is the case anyway: several SDKs always send them."""

MESSAGES = frozenset({
    "max_tokens", "messages", "metadata", "output_config", "output_format", "stop_sequences", "system", "temperature",
    "thinking", "tool_choice", "tools", "top_k", "top_p",
})  # fmt: skip

RESPONSES = frozenset({
    "include", "input", "instructions", "max_output_tokens", "parallel_tool_calls", "prompt_cache_key", "reasoning",
    "safety_identifier", "service_tier", "store", "temperature", "text", "tool_choice", "tools", "top_logprobs",
    "top_p", "truncation", "user",
})  # fmt: skip

_ELSEWHERE: Mapping[Endpoint, tuple[str, ...]] = {
    Endpoint.RESPONSES: ("previous_response_id", "conversation", "prompt", "background"),
    Endpoint.MESSAGES: ("mcp_servers", "container"),
}
"""Members that rely on state or servers of the vendor's: without them the request would mean something else."""
_EMBEDDINGS = frozenset({"input", "dimensions", "user"})
_PROMPT_ONLY: Mapping[str, tuple[Any, ...]] = {
    "best_of": (None, 1),
    "echo": (None, False),
    "logprobs": (None,),
    "suffix": (None, ""),
}
"""Members of a legacy completion that a chat model cannot honour, with the values that ask for nothing."""
_AWS = frozenset({"bedrock", "bedrock_converse", "sagemaker", "sagemaker_chat"})
_GCP = frozenset({"vertex_ai", "vertex_ai_beta"})
_SIGNED = _AWS | _GCP
_CLOUDS = (
    (_AWS, re.compile(r"[a-z]{2}(-[a-z]+)+-\d"), "aws_region_name"),
    (_GCP, re.compile(r"global|eu|us|[a-z]+-[a-z]+\d+"), "vertex_location"),
)
"""Providers, how they name regions, and LiteLLM's parameter for it."""
_PLAIN = "hosted_vllm"
"""LiteLLM's plainest OpenAI-compatible provider: no SDK, and no rules for models with a familiar name."""
_NAMELESS = frozenset({"custom_openai", "openai_like"})
_ROOTED = frozenset({"anthropic", "azure", "ollama", "ollama_chat"})
"""Providers for which LiteLLM adds the version (`/v1/messages` ...) to `api_base` itself."""


class Untranslatable(Exception):  # it is a refusal, not a fault
    """The request means something that the target's provider cannot do; `param` is the member at fault.

    The message is for the caller: lower case, no full stop.
    """

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


def read_body(endpoint: Endpoint, members: Mapping[str, msgspec.Raw]) -> Json:
    """The members of the body that may be translated, decoded. Raises `Untranslatable`."""
    allowed = _ALLOWED[endpoint]
    body = {key: orjson.loads(bytes(raw)) for key, raw in members.items() if key in allowed}
    for name in _ELSEWHERE.get(endpoint, ()):
        if name in members and bytes(members[name]) not in (b"null", b"false", b"[]"):
            raise Untranslatable(f"`{name}` needs what only its vendor keeps; it cannot be translated", name)
    return {key: value for key, value in body.items() if value is not None}


def chat_parameters(body: Json) -> Json:
    """A chat body's parameters, less those that state a default. Raises `Untranslatable` when there are no messages."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(item, dict) for item in messages):
        raise Untranslatable("`messages` must be a list of objects with at least one element", "messages")
    return {
        key: value for key, value in body.items() if key in CHAT and not (key in _DEFAULTS and value == _DEFAULTS[key])
    }


def prompt_as_chat(body: Json) -> Json:
    """A legacy completions body as a chat body with one user message; 16 tokens is the endpoint's documented default.

    Raises `Untranslatable`.
    """
    prompt = body.pop("prompt", None)
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise Untranslatable("a translated target takes one `prompt`, as text", "prompt")
    for name, idle in _PROMPT_ONLY.items():
        if body.pop(name, None) not in idle:
            raise Untranslatable(f"`{name}` cannot be translated for a chat model", name)
    return {"max_tokens": 16, **body, "messages": [{"role": "user", "content": prompt}]}


def function_tools(body: Json) -> None:
    """Raise `Untranslatable` when a Responses request wants a tool that only OpenAI can run."""
    for tool in body.get("tools") or ():
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind != "function":
            raise Untranslatable(f"tool type `{kind}` cannot be translated; only `function` can", "tools")


def keep_known(parameters: Json, known: frozenset[str]) -> Json:
    """`parameters` without the hints that are not in `known`, the provider's own list."""
    return {key: value for key, value in parameters.items() if key in known or key not in HINTS}


def connection(attempt: Attempt) -> Json:
    """Where the request goes and with what credentials, from the target alone.

    A target with a URL and no key gets a placeholder, lest LiteLLM send a key from the environment there. Clouds whose
    requests are signed find their own credentials: a signature gives nothing away. Raises `ProtocolViolated` for a
    cloud target whose region is not one of the cloud's: the environment must not choose the region.
    """
    target = attempt.target
    provider = target.provider if target.provider and target.provider not in _NAMELESS else _PLAIN
    found: Json = {
        "model": f"{provider}/{attempt.model}",
        "custom_llm_provider": provider,
        "timeout": target.timeouts.total_s,
        "max_retries": 0,
    }
    if target.urls:
        url = target.urls[attempt.replica].rstrip("/")
        found["api_base"] = url.removesuffix("/v1") if provider in _ROOTED else url
    if target.api_key is not None:
        found["api_key"] = target.api_key.reveal()
    elif target.urls and provider not in _SIGNED:
        found["api_key"] = "none"
    return found | _region(target, provider)


def parameters_on_the_wire(target: Target) -> Members:
    """What the policy sets in the bodies that LiteLLM has written."""
    return {} if target.provider in _AWS else encoded(target)


def parameters_to_sign(target: Target) -> Json:
    """What the policy sets by way of LiteLLM: AWS's signatures cover the body, so nothing can be set in it later."""
    return dict(target.parameters) if target.provider in _AWS else {}


def _region(target: Target, provider: str) -> Json:
    """The cloud region, so that the residency gate decides it and not the environment."""
    for providers, pattern, name in _CLOUDS:
        if provider in providers:
            if pattern.fullmatch(target.region):
                return {name: target.region}
            if not target.urls:
                raise ProtocolViolated(f"region `{target.region}` is none of `{provider}`: where it goes is unknown")
    return {}


_ALLOWED: Mapping[Endpoint, frozenset[str]] = {
    Endpoint.CHAT: CHAT,
    Endpoint.COMPLETIONS: CHAT - {"messages", "tools", "functions"} | {"prompt", *_PROMPT_ONLY},
    Endpoint.EMBEDDINGS: _EMBEDDINGS | {"encoding_format"},
    Endpoint.RESPONSES: RESPONSES,
    Endpoint.MESSAGES: MESSAGES,
    Endpoint.COUNT_TOKENS: MESSAGES,
}
