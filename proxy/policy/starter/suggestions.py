"""What `spillway init` proposes where nothing is known yet: open weights that suit a kind, on both lanes the same.

The figures of GPUs are those of specialised clouds; prices of tokens are left to the packaged list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from proxy.policy.model import Endpoint
from proxy.policy.starter.answers import GpusAnswer
from proxy.policy.starter.kinds import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A name for apps to ask for, the weights behind it, the GPUs that hold them, and a provider that has them too."""

    name: str
    model: str
    gpus: GpusAnswer
    provider: str
    provider_model: str
    quantization: str = ""


def _h100(count: int) -> GpusAnswer:
    return GpusAnswer(type="H100", count=count, usd_per_hour="2.99")


_L40S = GpusAnswer(type="L40S", count=1, usd_per_hour="1.40")
_LLAMA = "meta-llama/Llama-3.3-70B-Instruct"
_VECTORS = "Qwen/Qwen3-Embedding-8B"

_EMBED = Suggestion(name="embed", model=_VECTORS, gpus=_L40S, provider="nebius", provider_model=_VECTORS)

SUGGESTIONS: Mapping[tuple[Kind, Endpoint], Suggestion] = MappingProxyType(
    {
        (Kind.AGENTS, Endpoint.CHAT): Suggestion(
            name="agent",
            model="Qwen/Qwen3-235B-A22B-Instruct-2507",
            gpus=GpusAnswer(type="H200", count=4, usd_per_hour="3.50"),
            provider="nebius",
            provider_model="Qwen/Qwen3-235B-A22B-Instruct-2507",
            quantization="fp8",
        ),
        (Kind.CHAT, Endpoint.CHAT): Suggestion(
            name="chat",
            model=_LLAMA,
            gpus=_h100(2),
            provider="nebius",
            provider_model=_LLAMA,
            quantization="fp8",
        ),
        (Kind.VOICE, Endpoint.CHAT): Suggestion(
            name="voice",
            model=_LLAMA,
            gpus=_h100(2),
            provider="cerebras",
            provider_model="llama-3.3-70b",
            quantization="fp8",
        ),
        (Kind.MEDIA, Endpoint.CHAT): Suggestion(
            name="media",
            model="Qwen/Qwen3-VL-30B-A3B-Instruct",
            gpus=_h100(1),
            provider="deepinfra",
            provider_model="Qwen/Qwen3-VL-30B-A3B-Instruct",
        ),
        (Kind.SEARCH, Endpoint.EMBEDDINGS): _EMBED,
        (Kind.SEARCH, Endpoint.CHAT): Suggestion(
            name="answers",
            model="openai/gpt-oss-20b",
            gpus=_h100(1),
            provider="together_ai",
            provider_model="openai/gpt-oss-20b",
            quantization="mxfp4",
        ),
        (Kind.RECOMMENDATION, Endpoint.EMBEDDINGS): _EMBED,
        (Kind.RECOMMENDATION, Endpoint.CHAT): Suggestion(
            name="rank",
            model="meta-llama/Llama-3.1-8B-Instruct",
            gpus=_L40S,
            provider="nebius",
            provider_model="meta-llama/Meta-Llama-3.1-8B-Instruct",
        ),
        (Kind.COMPLETION, Endpoint.COMPLETIONS): Suggestion(
            name="code",
            model="Qwen/Qwen3-Coder-30B-A3B-Instruct",
            gpus=_h100(1),
            provider="novita",
            provider_model="qwen/qwen3-coder-30b-a3b-instruct",
        ),
        (Kind.MODERATION, Endpoint.CHAT): Suggestion(
            name="guard",
            model="meta-llama/Llama-Guard-3-8B",
            gpus=_L40S,
            provider="nebius",
            provider_model="meta-llama/Llama-Guard-3-8B",
        ),
    }
)
