"""What LiteLLM is asked for, and how; a stand-in takes its place (the real one: `test_translated_exchange.py`)."""

from __future__ import annotations

import gc
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from proxy.upstream.translated_library import Library, _while_others_run

CONNECTION = {"model": "anthropic/m", "custom_llm_provider": "anthropic", "api_base": "http://h", "api_key": "k"}


class LiteLLM:
    """Records the calls that it gets."""

    def __init__(self, known: list[str] | None = None) -> None:
        self.calls: list[dict[str, Any]] = []
        self._known = known

    async def acompletion(self, **arguments: Any) -> str:
        self.calls.append(arguments)
        return "reply"

    def get_supported_openai_params(self, **arguments: Any) -> list[str] | None:
        self.calls.append(arguments)
        return self._known


def library(litellm: LiteLLM) -> Library:
    return Library(litellm, SimpleNamespace(), None, None)


async def test_a_call_is_kept_from_retries_caches_and_the_detours_inside_litellm() -> None:
    litellm = LiteLLM()
    assert await library(litellm).chat({"messages": []}, CONNECTION, stream=False) == "reply"
    (sent,) = litellm.calls
    assert sent["_skip_mcp_handler"]
    assert sent["_skip_responses_api_bridge"]
    assert sent["caching"] is False
    assert "stream_options" not in sent


async def test_usage_is_always_asked_of_a_stream() -> None:
    litellm = LiteLLM()
    await library(litellm).chat({"messages": []}, CONNECTION, stream=True)
    assert litellm.calls[0]["stream_options"] == {"include_usage": True}


async def test_the_targets_connection_wins_over_any_parameter() -> None:
    litellm = LiteLLM()
    await library(litellm).chat({"messages": [], "api_base": "http://evil"}, CONNECTION, stream=False)
    assert litellm.calls[0]["api_base"] == "http://h"


def test_what_a_provider_knows_is_asked_once() -> None:
    litellm = LiteLLM(["seed", "stop"])
    shelf = library(litellm)
    assert shelf.known_parameters("anthropic", "m") == {"seed", "stop", "user"}
    assert shelf.known_parameters("anthropic", "m") == {"seed", "stop", "user"}
    assert len(litellm.calls) == 1


def test_a_provider_that_litellm_does_not_know_knows_no_hints() -> None:
    assert library(LiteLLM(None)).known_parameters("nobody", "m") == {"user"}


@pytest.mark.parametrize("collecting", [True, False])
def test_loading_leaves_the_collector_and_the_interpreter_as_they_were(collecting: bool) -> None:
    before = gc.isenabled()
    interval_s = sys.getswitchinterval()
    try:
        (gc.enable if collecting else gc.disable)()
        with pytest.raises(ImportError), _while_others_run():
            assert not gc.isenabled()
            assert sys.getswitchinterval() < interval_s
            raise ImportError
        assert gc.isenabled() is collecting
        assert sys.getswitchinterval() == interval_s
    finally:
        (gc.enable if before else gc.disable)()
