"""What the spans of a request say, by OpenTelemetry's names where it has any and under `spillway.*` where it has none.

Theory of operation
-------------------
Pure. Sources: the HTTP conventions for servers (stable), https://opentelemetry.io/docs/specs/semconv/http/http-spans/,
and those for clients of generative models (in development), github.com/open-telemetry/semantic-conventions-genai.

A span says what was decided and what came of it. It never says what was asked or answered, nor anything that a caller
put into a header, the path's query or the body but for sizes, counts and choices among a few words: a model is named
only if the policy knows it.
"""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import urlsplit

from proxy.policy.model import Endpoint, Lane, Target
from proxy.routing.charge import Charge
from proxy.routing.outcome import Failure, Outcome, Usage
from proxy.routing.plan import Cause, Exclusion, Plan
from proxy.telemetry.records import Record

Value = str | bool | int | float | tuple[str, ...]
Attributes = dict[str, Value]

PATHS = {
    Endpoint.CHAT: "/v1/chat/completions",
    Endpoint.COMPLETIONS: "/v1/completions",
    Endpoint.EMBEDDINGS: "/v1/embeddings",
    Endpoint.RESPONSES: "/v1/responses",
    Endpoint.MESSAGES: "/v1/messages",
    Endpoint.COUNT_TOKENS: "/v1/messages/count_tokens",
}
OPERATIONS = {
    Endpoint.CHAT: "chat",
    Endpoint.COMPLETIONS: "text_completion",
    Endpoint.EMBEDDINGS: "embeddings",
    Endpoint.RESPONSES: "chat",
    Endpoint.MESSAGES: "chat",
    Endpoint.COUNT_TOKENS: "count_tokens",
}
PROVIDERS = {
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "cohere_chat": "cohere",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "text-completion-openai": "openai",
    "vertex_ai": "gcp.vertex_ai",
    "vertex_ai_beta": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
"""OpenTelemetry's names of providers that LiteLLM, and with it the policy, calls otherwise."""
MAX_EXCLUDED = 32
NO_FAULT = frozenset({Failure.CLIENT_LEFT, Failure.OUTRUN})
"""Ways of ending early that are nobody's error."""
_NANO = 1_000_000_000
_FROM_A_HEADER = "target_override"


def request_name(record: Record) -> str:
    """The name of the request's own span."""
    return f"POST {PATHS[record.facts.endpoint]}"


def attempt_name(record: Record, outcome: Outcome) -> str:
    """The name of an attempt's span."""
    return f"{OPERATIONS[record.facts.endpoint]} {outcome.attempt.model}"


def request_error(record: Record) -> str | None:
    """What kind of error of ours or an upstream's the request ended in, if it did; a caller's mistake is none."""
    last, refusal = record.outcomes[-1] if record.outcomes else None, record.refusal
    if last is not None and last.failure in NO_FAULT:
        return None
    if last is not None and last.failure is not None and (last.committed or refusal is None):
        return last.failure.label
    if refusal is not None:
        return refusal.code if refusal.status >= 500 else None
    return None if last is not None else "internal_error"  # planned, and a bug came before its first attempt


def attempt_error(outcome: Outcome) -> str | None:
    """What kind of error the attempt ended in, if it did."""
    return None if outcome.failure is None or outcome.failure in NO_FAULT else outcome.failure.label


def request_attributes(record: Record) -> Attributes:
    """What the request's own span says."""
    facts, decision, path = record.facts, record.decision, PATHS[record.facts.endpoint]
    said: Attributes = {
        "http.request.method": "POST",
        "http.route": path,
        "url.path": path,
        "url.scheme": "http",
        "spillway.tenant": facts.tenant.name,
        "spillway.traffic": facts.traffic.value,
        "spillway.policy": record.snapshot.revision,
        "spillway.attempts": len(record.outcomes),
        "spillway.overhead_s": record.overhead_s,
    }
    if (status := _status(record)) is not None:
        said["http.response.status_code"] = status
    if (error := request_error(record)) is not None:
        said["error.type"] = error
    if decision.route:
        said["spillway.route"] = decision.route
    if facts.model in record.snapshot.models:
        said["spillway.model"] = facts.model
    if record.waited_s:
        said["spillway.waited_s"] = record.waited_s
    if decision.excluded:
        said["spillway.excluded"] = tuple([_excluded(one) for one in decision.excluded[:MAX_EXCLUDED]])
    if isinstance(decision, Plan) and decision.relaxed:
        said["spillway.relaxed"] = True
    if record.refusal is not None:
        said["spillway.refusal.code"], said["spillway.refusal.rule"] = record.refusal.code, record.refusal.rule
    if record.outcomes:
        said |= _whereabouts(record.outcomes[-1])
        said["spillway.cost_usd"] = sum([charge.nano_usd for charge in record.charges]) / _NANO
    return said


def attempt_attributes(record: Record, outcome: Outcome, charge: Charge) -> Attributes:
    """What the span of one of the request's attempts says."""
    facts, attempt, target = record.facts, outcome.attempt, outcome.attempt.target
    said: Attributes = {
        "gen_ai.operation.name": OPERATIONS[facts.endpoint],
        "gen_ai.provider.name": _provider(target),
        "gen_ai.request.model": attempt.model,
        "gen_ai.request.stream": facts.stream,
        "spillway.route": record.decision.route,
        "spillway.replica": attempt.replica,
        "spillway.region": target.region,
        "spillway.committed": outcome.committed,
        "spillway.cost_basis": charge.price_source,
    }
    said |= _whereabouts(outcome)
    if target.urls:
        said["server.address"], said["server.port"] = _address(target.urls[attempt.replica])
    if facts.max_output_tokens is not None:
        said["gen_ai.request.max_tokens"] = facts.max_output_tokens
    if facts.choices != 1:
        said["gen_ai.request.choice.count"] = facts.choices
    if outcome.status is not None:
        said["http.response.status_code"] = outcome.status
    if outcome.failure is not None:
        said["spillway.failure"] = outcome.failure.label
    if (error := attempt_error(outcome)) is not None:
        said["error.type"] = error
    if outcome.ttft_s is not None:
        said["gen_ai.response.time_to_first_chunk"] = said["spillway.ttft_s"] = outcome.ttft_s
    if outcome.itl_s is not None:
        said["spillway.itl_s"] = outcome.itl_s
    if attempt.cause is Cause.HEDGE:
        said["spillway.hedge"] = _hedge(outcome)
    if charge.priced:
        said["spillway.cost_usd"] = charge.nano_usd / _NANO
    if target.gpus is not None and charge.work_us:
        said["spillway.gpu_s"] = charge.work_us * target.gpus.count / 1_000_000
    return said | _used(outcome.usage, charge)


def _whereabouts(outcome: Outcome) -> Attributes:
    attempt, target = outcome.attempt, outcome.attempt.target
    return {
        "spillway.lane": target.lane.value,
        "spillway.target": target.name,
        "spillway.cause": attempt.cause.value,
        "spillway.reason": attempt.reason,
    }


def _used(usage: Usage, charge: Charge) -> Attributes:
    said: Attributes = {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
    }
    for name, tokens in (
        ("cache_read.input_tokens", usage.cached_input_tokens),
        ("cache_creation.input_tokens", usage.cache_write_tokens),
        ("reasoning.output_tokens", usage.reasoning_tokens),
        ("audio.input_tokens", usage.audio_input_tokens),
        ("audio.output_tokens", usage.audio_output_tokens),
    ):
        if tokens:
            said[f"gen_ai.usage.{name}"] = tokens
    if usage.estimated or charge.estimated:
        said["spillway.usage_estimated"] = True
    return said


def _status(record: Record) -> int | None:
    """The status that the client was sent; None if it left before there was one, or a bug kept us from recording it."""
    last, refusal = record.outcomes[-1] if record.outcomes else None, record.refusal
    if last is not None and last.committed:
        return last.status
    if last is not None and last.failure is Failure.CLIENT_LEFT:
        return None
    if refusal is None or refusal.rule == Failure.CLIENT_LEFT.label:
        return None
    return refusal.status


def _excluded(one: Exclusion) -> str:
    """An exclusion as people read it, without what came in a header."""
    return f"{one.target}: {one.rule}" if one.rule == _FROM_A_HEADER else str(one)


def _hedge(copy: Outcome) -> str:
    if copy.failure is Failure.OUTRUN:
        return "lost"
    return "won" if copy.failure is None or copy.committed else "failed"


def _provider(target: Target) -> str:
    if target.lane is Lane.DEDICATED:
        return target.engine.value if target.engine is not None else "openai"
    provider = target.provider or "openai"
    return PROVIDERS.get(provider, provider)


@lru_cache(maxsize=1024)
def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
