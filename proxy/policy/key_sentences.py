"""What each key of a policy is for, in a sentence: editors show it beside the key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.policy.schema import (
    CandidateSpec,
    GpusSpec,
    KeySpec,
    LimitsSpec,
    MatchSpec,
    PriceSpec,
    RouteSpec,
    RulesSpec,
    TargetSpec,
    TenantSpec,
    TimeoutsSpec,
    TimeSpec,
    TokensSpec,
)

SECTIONS: Mapping[str, str] = {
    "version": "the version of the policy language",
    "targets": "deployments of your own and providers' models, by name",
    "models": "what apps ask for: for each name its targets of the same quality, best first",
    "tenants": "who may call, by name; without tenants the server listens on this machine only",
    "auth": "none lets in everybody who reaches the port",
    "routes": "which rules hold for which requests; the first that matches decides, and the last matches everything",
}

_LIMITS = {
    "rpm": "requests in any minute, over all proxies",
    "tpm": "tokens in any minute, input and output, over all proxies",
    "concurrency": "requests at one time, over all proxies",
}
_QUANTILES = {"p50": "half", "p90": "90 %", "p95": "95 %", "p99": "99 %"}
_SPEEDS = {
    "ttft": "of first tokens came within this time, over the last 30 s",
    "itl": "of replies had a mean gap between tokens within this time, over the last 30 s",
    "e2e": "of replies were complete within this time, over the last 30 s",
}

SENTENCES: Mapping[type[Any], Mapping[str, str]] = {
    TargetSpec: {
        "lane": "dedicated: your own GPUs, paid by the hour; shared: an API, paid by the token",
        "model": "the name that the upstream knows the model by",
        "engine": "dedicated: what serves the model; openai stands for any other OpenAI-compatible server",
        "provider": "shared: LiteLLM's name of the provider",
        "url": "the base URL of the API",
        "urls": "dedicated: the base URLs of the replicas",
        "api_key": "the environment variable that holds the upstream's key",
        "endpoints": "what the upstream speaks itself, where that differs from its engine or provider",
        "region": "where prompts are processed; left out, it passes no gate",
        "retention": "how long prompts are kept there; left out, it passes no gate",
        "gpus": "dedicated: the GPUs of one replica, and what one costs for an hour",
        "price": "shared: $ per million tokens; left out, LiteLLM's packaged list is asked",
        "max_in_flight": "requests that one replica takes at one time; from there on they spill",
        "max_batched_tokens": "dedicated: what the engine puts into one step at most, as it was started",
        "limits": "shared: the provider's own rate limits",
        "training": "false: prompts are not trained on; left out, it passes no gate",
        "quantization": "the number format of the weights",
        "context_window": "tokens of input and output together; left out, nothing is claimed",
        "supports": "all that the model takes beside text; left out, nothing is claimed",
        "parameters": "body members that every request sent there carries; callers cannot override them",
        "tags": "words for gates, such as certifications",
        "timeouts": "when an attempt is given up",
    },
    GpusSpec: {
        "type": "the kind of GPU",
        "count": "how many one replica has",
        "usd_per_hour": "what one of them costs for an hour, in dollars",
    },
    PriceSpec: {
        "input": "$ per million tokens of input",
        "output": "$ per million tokens of output",
        "cached_input": "$ per million tokens of input that came from the provider's cache",
    },
    TimeoutsSpec: {
        "connect": "until a connection is there (5s)",
        "first_token": "until the first token (60s)",
        "idle": "the longest gap in a stream (30s)",
        "total": "until the reply is complete (600s)",
    },
    LimitsSpec: _LIMITS,
    CandidateSpec: {
        "target": "the name of a target",
        "model": "the name by which this target knows the model, such as a LoRA adapter",
    },
    TenantSpec: {
        "keys": "the digests of its keys, never the keys",
        "tags": "words that routes match; callers cannot change them",
        "request_tags": "tags that its callers may add with the header x-spillway-tags",
        "models": "the names that it may ask for; left out, all",
        **_LIMITS,
        "mode": "shadow: these limits are recorded, and refuse nobody",
    },
    KeySpec: {
        "digest": "sha256: and the hex digest of the key",
        "name": "routes, errors and logs call the key tenant/name",
        "tags": "words that routes match, beside the tenant's",
        **_LIMITS,
        "mode": "shadow: these limits are recorded, and refuse nobody",
    },
    RouteSpec: {
        "name": "it appears in headers, logs and metrics",
        "match": "which requests it takes; all keys must fit, and without any it takes everything",
        "mode": "shadow: all its rules are evaluated and recorded, and none applies",
        "require": "gates: never relaxed; a request that no target may answer is refused",
        "want": "preferences: they order the targets, and are relaxed last and on record",
        "prefer": "what to look for among the lawful targets",
        "lane_override": "whether callers may send x-spillway-lane",
        "target_override": "whether callers may pin one target with x-spillway-target",
        "max_failovers": "failed attempts that are tried elsewhere",
    },
    MatchSpec: {
        "model": "the name that is asked for, or one of several",
        "models": "the same as model",
        "endpoint": "the operation, or one of several",
        "tenant": "whose key it is, or one of several tenants",
        "tags": "all of these, of the tenant, the key or the request",
        "traffic": "online: a person waits; offline: nobody does",
        "stream": "whether the reply is streamed",
        "modality": "what the prompt holds, or one of several; text is nothing else",
        "tools": "whether the request brings tools",
        "input_tokens": "how long the input is, as estimated",
        "time": "when the request comes",
        "key": "a named key, as tenant/name, or one of several",
    },
    TokensSpec: {"min": "at least so many", "max": "at most so many"},
    TimeSpec: {
        "days": "on these days",
        "hours": "between these hours",
        "zone": "in this time zone (UTC)",
    },
    RulesSpec: {
        "mode": "shadow: these rules are evaluated and recorded, and none applies",
        "region": "only targets in one of these regions",
        "retention": "only targets that keep prompts for at most so long",
        "training": "only targets that do not train on prompts",
        "lane": "only targets of this lane",
        "tags": "only targets that have all of these",
        "quantization": "only targets whose weights are in one of these formats",
        "usd_per_mtok": "only targets that cost at most so much per million tokens, three of input to one of output",
        "max_usd_per_request": "only targets where this request costs at most so much, as estimated",
        "uptime": "only targets of whose answers over five minutes at least this share was no failure",
        **{f"{name}_{one}": f"{share} {what}" for name, what in _SPEEDS.items() for one, share in _QUANTILES.items()},
        "perceived_tps": "99 % of replies came with at least so many tokens a second",
        "perceived_tps_p50": "half of replies came with at least so many tokens a second",
        "perceived_tps_p90": "90 % of replies came with at least so many tokens a second",
        "perceived_tps_p95": "95 % of replies came with at least so many tokens a second",
        "rpm": "requests of the route in any minute, over all proxies",
        "tpm": "tokens of the route in any minute, over all proxies",
        "concurrency": "requests of the route at one time, over all proxies",
    },
}
"""By shape, a sentence for each of its keys."""
