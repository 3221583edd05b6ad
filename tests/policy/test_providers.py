"""The table of providers, against the LiteLLM that is installed; which is read, never imported."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from proxy.policy.model import Endpoint, Engine
from proxy.policy.providers import ENGINES, NATIVE, OPENAI_COMPATIBLE, known_providers, translatable
from proxy.policy.urls import base_url


def litellm_source() -> str:
    spec = find_spec("litellm")
    assert spec is not None
    assert spec.submodule_search_locations
    root = Path(spec.submodule_search_locations[0])
    files = [
        *root.glob("llms/**/*.py"),
        root / "main.py",
        root / "constants.py",
        root / "llms/openai_like/providers.json",
    ]
    files.append(root / "litellm_core_utils/get_llm_provider_logic.py")
    return "\n".join(path.read_text("utf-8") for path in files)


def test_every_address_is_one_that_litellm_uses() -> None:
    source = litellm_source()
    assert [name for name, one in NATIVE.items() if one.url and one.url.removeprefix("https://") not in source] == []


@pytest.mark.parametrize("name", sorted(NATIVE))
def test_every_provider_is_known_to_litellm_and_has_a_lawful_address(name: str) -> None:
    assert translatable(name) or name == "scaleway"
    provider = NATIVE[name]
    assert provider.native
    if provider.url:
        assert base_url(provider.url) == provider.url
        assert provider.url.startswith("https://")


def test_every_engine_is_in_the_table() -> None:
    assert set(ENGINES) == set(Engine)
    assert all(Endpoint.CHAT in native for native in ENGINES.values())


def test_the_large_providers_are_known() -> None:
    assert {
        "openai",
        "anthropic",
        "bedrock",
        "vertex_ai",
        "gemini",
        "azure",
        "cohere",
        "together_ai",
    } <= known_providers()
    assert all("/" not in name for name in known_providers())


def test_what_litellm_translates() -> None:
    assert translatable("bedrock") == frozenset(Endpoint)
    assert translatable("voyage") == {Endpoint.EMBEDDINGS}
    assert Endpoint.EMBEDDINGS not in translatable("anthropic")
    assert translatable("nobody") == translatable("tavily") == frozenset()
    assert Endpoint.MESSAGES not in OPENAI_COMPATIBLE


def test_knowing_the_providers_does_not_import_litellm() -> None:
    program = (
        "import sys; from proxy.policy.providers import known_providers as k; print(len(k()), 'litellm' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    count, imported = ran.stdout.split()
    assert int(count) > 100
    assert imported == "False"
