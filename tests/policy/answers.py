"""Answers to `spillway init` for the tests: what it suggests for each kind."""

from __future__ import annotations

from proxy.policy.model import Endpoint
from proxy.policy.starter.answers import DedicatedAnswer, ModelAnswer, SharedAnswer
from proxy.policy.starter.kinds import Kind
from proxy.policy.starter.profiles import PROFILES
from proxy.policy.starter.suggestions import SUGGESTIONS


def models_of(kind: Kind) -> dict[str, ModelAnswer]:
    """A model for each endpoint that the kind's work is made of, on an engine and at a provider, both in the EU."""
    endpoints = dict.fromkeys(work.endpoint for work in PROFILES[kind].works)
    return {SUGGESTIONS[kind, endpoint].name: model(kind, endpoint) for endpoint in endpoints}


def model(kind: Kind, endpoint: Endpoint) -> ModelAnswer:
    """One model on both lanes."""
    suggested = SUGGESTIONS[kind, endpoint]
    return ModelAnswer(
        endpoint=endpoint,
        dedicated=DedicatedAnswer(
            url=(f"http://vllm-{endpoint}:8000/v1",),
            model=suggested.model,
            region="eu-west-1",
            gpus=suggested.gpus,
            quantization=suggested.quantization,
        ),
        shared=(
            SharedAnswer(
                provider=suggested.provider, model=suggested.provider_model, region="eu-north-1", retention="zero"
            ),
        ),
    )
