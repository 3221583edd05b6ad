"""LiteLLM, loaded once and held by the collar: no network of its own, no retries, no logs, no callbacks.

Theory of operation
-------------------
Importing LiteLLM takes seconds and a hundred megabytes, so it happens at first use and in a worker thread. The
environment is set before, because much of LiteLLM is decided at import: its price list is the packaged one, it reads no
`.env` file, its Rust transport (which would pass by our `Gate`) is off, and it downloads neither images nor tokenizers.

Of its many entrances only three are used: `acompletion`, `aembedding` and the token counter, with two pure translators
of requests. `aresponses` and streamed `anthropic_messages` import LiteLLM's proxy server, and with it a web framework
and an MCP client; `atext_completion` would add nothing to `acompletion`.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, lru_cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

from proxy.upstream.translated_request import Json
from proxy.upstream.translated_wire import ClosedGate, Gate

_ENVIRONMENT: Mapping[str, str] = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "CRITICAL",
    "LITELLM_RUST": "False",
    "LITELLM_TELEMETRY": "False",
    "USE_LITELLM_PROXY": "False",
    "MAX_IMAGE_URL_DOWNLOAD_SIZE_MB": "0",
    "REPEATED_STREAMING_CHUNK_LIMIT": "1000000000",
}
"""The last one: LiteLLM ends a stream that repeats a chunk 100 times, which a model is free to do."""

_ADAPTER = "litellm.llms.anthropic.pass_through.adapters.transformation"
_BRIDGE = "litellm.responses.litellm_completion_transformation.transformation"
_LATECOMERS = ("anyio._backends._asyncio", "openai.resources.chat.completions", "openai.resources.embeddings")
"""What would be imported at the first call, on the event loop: up to 0.8 s."""
_LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy", "LiteLLM Proxy Stdout")


class Library:
    """The entrances of LiteLLM that are used. Built by `load()`, in a thread; its methods belong to the event loop."""

    def __init__(self, litellm: Any, internal: Any, messages_adapter: Any, responses_bridge: Any) -> None:
        self._litellm = litellm
        self._internal = internal
        self._messages_adapter = messages_adapter
        self._responses_bridge = responses_bridge
        self.known_parameters = lru_cache(maxsize=256)(self._known_parameters)

    def quiet(self) -> None:
        """Turn LiteLLM's own accounting and callbacks off for the running task."""
        self._internal.is_internal_call.set(True)

    async def chat(self, parameters: Json, connection: Json, *, stream: bool) -> Any:
        """A `ModelResponse`, or with `stream` a `CustomStreamWrapper`. Raises whatever LiteLLM raises."""
        arguments = {**parameters, **connection, "stream": stream}
        if stream:
            arguments["stream_options"] = {"include_usage": True}
        if "thinking" in parameters:
            arguments["allowed_openai_params"] = ["thinking"]
        return await self._litellm.acompletion(
            **arguments, _skip_mcp_handler=True, _skip_responses_api_bridge=True, caching=False
        )

    async def embed(self, parameters: Json, connection: Json) -> Any:
        """An `EmbeddingResponse`. Raises whatever LiteLLM raises."""
        return await self._litellm.aembedding(**parameters, **connection, caching=False)

    def count_tokens(self, model: str, parameters: Json) -> int:
        """Tokens of a chat request by the packaged tokenizer nearest to the model's: an estimate. Takes a while."""
        return int(
            self._litellm.token_counter(
                model=model,
                messages=parameters["messages"],
                tools=parameters.get("tools"),
                tool_choice=parameters.get("tool_choice"),
            )
        )

    def messages_to_chat(self, body: Json, connection: Json) -> tuple[Json, dict[str, str]]:
        """A Messages body's chat parameters, and the caller's names of tools that had to be shortened."""
        found, names = self._messages_adapter.translate_completion_input_params_with_tool_mapping(
            {**body, "model": connection["model"]}, custom_llm_provider=connection["custom_llm_provider"]
        )
        return dict(found), dict(names or {})

    def responses_to_chat(self, body: Json, connection: Json) -> Json:
        """A Responses body's chat parameters."""
        rest = {key: value for key, value in body.items() if key != "input"}
        return dict(
            self._responses_bridge.transform_responses_api_request_to_chat_completion_request(
                model=connection["model"],
                input=body.get("input", ""),
                responses_api_request=rest,
                custom_llm_provider=connection["custom_llm_provider"],
                stream=False,
            )
        )

    def _known_parameters(self, provider: str, model: str) -> frozenset[str]:
        """OpenAI parameters that LiteLLM knows the provider to understand for this model."""
        known = self._litellm.get_supported_openai_params(model=model, custom_llm_provider=provider)
        return frozenset(known or ()) | {"user"}


@cache
def load() -> Library:
    """Import and tame LiteLLM. Takes seconds; call it in a thread. Raises ImportError when it is not installed."""
    os.environ.update(_ENVIRONMENT)
    with _while_others_run():
        litellm = importlib.import_module("litellm")
        handlers = importlib.import_module("litellm.llms.custom_httpx.http_handler")
        internal = importlib.import_module("litellm._internal_context")
        adapter = importlib.import_module(_ADAPTER).AnthropicAdapter()
        bridge = importlib.import_module(_BRIDGE).LiteLLMCompletionResponsesConfig
        for name in _LATECOMERS:
            importlib.import_module(name)
    _silence(litellm)
    _gate(litellm, handlers)
    return Library(litellm, internal, adapter, bridge)


@contextmanager
def _while_others_run() -> Iterator[None]:
    """Let the event loop's thread in ten times as often as usual, and keep the garbage collector from stopping it.

    A collection amid a million new objects takes half a second; frozen, they are never looked at again.
    """
    collecting, interval_s = gc.isenabled(), sys.getswitchinterval()
    gc.disable()
    sys.setswitchinterval(interval_s / 10)
    try:
        yield
        gc.freeze()
    finally:
        sys.setswitchinterval(interval_s)
        if collecting:
            gc.enable()


def _silence(litellm: Any) -> None:
    """No logs, no callbacks, no prints, no retries."""
    litellm.suppress_debug_info = True
    litellm.set_verbose = False
    litellm.telemetry = False
    litellm.turn_off_message_logging = True
    litellm.disable_streaming_logging = True
    litellm.disable_hf_tokenizer_download = True
    litellm.num_retries = None
    litellm.drop_params = False
    litellm.cache = None
    for name in ("callbacks", "input_callback", "success_callback", "failure_callback", "service_callback"):
        setattr(litellm, name, [])
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [logging.NullHandler()]
        logger.propagate = False
        logger.disabled = True


def _gate(litellm: Any, handlers: Any) -> None:
    """Put the gate under every client that LiteLLM has made or will make."""

    def gate(*_: Any, **__: Any) -> Gate:
        return Gate()

    handlers.AsyncHTTPHandler.create_async_transport = staticmethod(gate)
    litellm.sync_transport = ClosedGate()
    litellm.aclient_session = httpx.AsyncClient(transport=Gate(), follow_redirects=False, cookies=_no_cookies())
    litellm.client_session = httpx.Client(transport=ClosedGate(), follow_redirects=False)
    litellm.module_level_aclient = handlers.AsyncHTTPHandler()
    litellm.module_level_client = handlers.HTTPHandler(client=litellm.client_session)


def _no_cookies() -> CookieJar:
    """One client serves every target: a cookie of one would be sent to another."""
    return CookieJar(policy=DefaultCookiePolicy(allowed_domains=()))
