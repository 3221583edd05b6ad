"""The vendors of shared targets: where they are, what they speak themselves, and what LiteLLM can translate.

Theory of operation
-------------------
`NATIVE` lists the providers that Spillway reaches without LiteLLM, as bytes: their OpenAI-compatible base URL and the
endpoints they serve there (Anthropic: its own protocol). The URLs are those of LiteLLM 1.106's own provider code; an
endpoint is listed only where LiteLLM sends it to that same base unchanged or the vendor documents it. Every other name
that LiteLLM knows is translated; its list is read as data from the installed package, which is never imported here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from proxy.policy.model import Endpoint, Engine

_CHAT = frozenset({Endpoint.CHAT})
_TEXT = _CHAT | {Endpoint.COMPLETIONS}
_CHAT_EMBED = _CHAT | {Endpoint.EMBEDDINGS}
_TEXT_EMBED = _TEXT | {Endpoint.EMBEDDINGS}
_OPENAI = _TEXT_EMBED | {Endpoint.RESPONSES}
_ANTHROPIC = frozenset({Endpoint.MESSAGES, Endpoint.COUNT_TOKENS})

OPENAI_COMPATIBLE = _OPENAI
"""What a bare `url` is taken to serve, unless the target says `endpoints:`."""

TRANSLATABLE = frozenset(Endpoint)
"""What LiteLLM answers for a provider with a chat API; it counts tokens by itself."""

FROM_CHAT = _ANTHROPIC | {Endpoint.RESPONSES}
"""What LiteLLM makes out of an OpenAI-compatible chat endpoint."""

ENGINES = {
    Engine.VLLM: _OPENAI | _ANTHROPIC,
    Engine.SGLANG: _OPENAI | _ANTHROPIC,
    Engine.LLAMACPP: _OPENAI | _ANTHROPIC,
    Engine.TRTLLM: _TEXT | {Endpoint.RESPONSES},
    Engine.TGI: _TEXT,
    Engine.OPENAI: _TEXT_EMBED,
}
"""The endpoints that each engine serves itself, by its own route table or documentation (late 2026)."""


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider reached without LiteLLM. `url` is None where every customer has their own."""

    url: str | None
    native: frozenset[Endpoint]

    @property
    def speaks_openai(self) -> bool:
        """Whether its own protocol is OpenAI's."""
        return Endpoint.CHAT in self.native


NATIVE = {
    "anthropic": Provider("https://api.anthropic.com/v1", _ANTHROPIC),
    "baseten": Provider("https://inference.baseten.co/v1", _CHAT),
    "cerebras": Provider("https://api.cerebras.ai/v1", _TEXT),
    "custom_openai": Provider(None, _OPENAI),
    "deepinfra": Provider("https://api.deepinfra.com/v1/openai", _TEXT_EMBED),
    "deepseek": Provider("https://api.deepseek.com/v1", _CHAT),
    "featherless_ai": Provider("https://api.featherless.ai/v1", _TEXT),
    "fireworks_ai": Provider("https://api.fireworks.ai/inference/v1", _OPENAI),
    "friendliai": Provider("https://api.friendli.ai/serverless/v1", _TEXT),
    "groq": Provider("https://api.groq.com/openai/v1", _CHAT),
    "hosted_vllm": Provider(None, _OPENAI | _ANTHROPIC),
    "hyperbolic": Provider("https://api.hyperbolic.xyz/v1", _TEXT),
    "lambda_ai": Provider("https://api.lambda.ai/v1", _TEXT),
    "litellm_proxy": Provider(None, _OPENAI),
    "meta_llama": Provider("https://api.llama.com/compat/v1", _CHAT),
    "mistral": Provider("https://api.mistral.ai/v1", _CHAT_EMBED),
    "moonshot": Provider("https://api.moonshot.ai/v1", _CHAT),
    "nebius": Provider("https://api.studio.nebius.ai/v1", _TEXT_EMBED),
    "novita": Provider("https://api.novita.ai/v3/openai", _TEXT_EMBED),
    "nscale": Provider("https://inference.api.nscale.com/v1", _CHAT),
    "nvidia_nim": Provider("https://integrate.api.nvidia.com/v1", _CHAT),
    "openai": Provider("https://api.openai.com/v1", _OPENAI),
    "openai_like": Provider(None, _OPENAI),
    "openrouter": Provider("https://openrouter.ai/api/v1", _OPENAI),
    "ovhcloud": Provider("https://oai.endpoints.kepler.ai.cloud.ovh.net/v1", _CHAT_EMBED),
    "perplexity": Provider("https://api.perplexity.ai", _CHAT),
    "sambanova": Provider("https://api.sambanova.ai/v1", _CHAT_EMBED),
    "scaleway": Provider("https://api.scaleway.ai/v1", _CHAT_EMBED),
    "together_ai": Provider("https://api.together.ai/v1", _TEXT_EMBED),
    "vercel_ai_gateway": Provider("https://ai-gateway.vercel.sh/v1", _CHAT_EMBED),
    "wandb": Provider("https://api.inference.wandb.ai/v1", _CHAT),
    "xai": Provider("https://api.x.ai/v1", _TEXT | {Endpoint.RESPONSES}),
    "zai": Provider("https://api.z.ai/api/paas/v4", _CHAT),
}

NEEDS_URL = frozenset({"azure", "azure_ai", "azure_text", "databricks", "snowflake", "triton"})
"""Translated providers where every customer has an address; left to itself, LiteLLM takes it from the environment."""

_CHAT_FLAGS = ("chat_completions", "messages", "responses")
_NO_EMBEDDINGS = frozenset({"anthropic", "anthropic_text"})  # LiteLLM has no such call for them


def translatable(provider: str) -> frozenset[Endpoint]:
    """What LiteLLM can answer for `provider`; empty when it does not know the name, or is not installed."""
    flags = _litellm_endpoints().get(provider, frozenset())
    if flags.intersection(_CHAT_FLAGS):
        return TRANSLATABLE - {Endpoint.EMBEDDINGS} if provider in _NO_EMBEDDINGS else TRANSLATABLE
    return frozenset({Endpoint.EMBEDDINGS}) if "embeddings" in flags else frozenset()


def known_providers() -> frozenset[str]:
    """Every name that `provider:` may take."""
    return frozenset(NATIVE) | {name for name in _litellm_endpoints() if translatable(name)}


@cache
def _litellm_endpoints() -> dict[str, frozenset[str]]:
    """Provider -> the endpoint flags that are set in LiteLLM's packaged list; finding a package does not import it."""
    spec = find_spec("litellm")
    if spec is None or not spec.submodule_search_locations:
        return {}
    path = Path(spec.submodule_search_locations[0]) / "provider_endpoints_support_backup.json"
    try:
        providers = json.loads(path.read_bytes())["providers"]
        flags = {name: entry["endpoints"] for name, entry in providers.items() if "/" not in name}
        return {name: frozenset(flag for flag, on in entry.items() if on) for name, entry in flags.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}
