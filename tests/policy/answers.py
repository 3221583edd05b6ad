"""Answers to `spillway init` for the tests: one set of models for each kind, with prices that are on the list."""

from __future__ import annotations

from proxy.policy.model import Endpoint
from proxy.policy.starter_answers import DedicatedAnswer, ModelAnswer, SharedAnswer
from proxy.policy.starter_kinds import Kind
from proxy.policy.starter_profiles import PROFILES

CHAT = "meta-llama/Llama-3.3-70B-Instruct"
VECTORS = "Qwen/Qwen3-Embedding-8B"


def models_of(kind: Kind) -> dict[str, ModelAnswer]:
    """A model for each endpoint that the kind's work is made of, on an engine and at a provider, both in the EU."""
    endpoints = dict.fromkeys(work.endpoint for work in PROFILES[kind].works)
    return {str(endpoint): model(endpoint) for endpoint in endpoints}


def model(endpoint: Endpoint) -> ModelAnswer:
    """One model on both lanes."""
    name = VECTORS if endpoint is Endpoint.EMBEDDINGS else CHAT
    return ModelAnswer(
        endpoint=endpoint,
        dedicated=DedicatedAnswer(url=(f"http://vllm-{endpoint}:8000/v1",), model=name, region="eu-west-1"),
        shared=(SharedAnswer(provider="nebius", model=name, region="eu-north-1", retention="zero"),),
    )
