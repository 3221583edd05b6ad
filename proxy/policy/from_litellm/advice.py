"""What to do instead, for each key of a LiteLLM config that a policy has no equivalent for.

Theory of operation
-------------------
Runs last: every key that nothing before it took or noted gets a note here, with the advice of its section's table, or
the section's own. No value is repeated: it might be a secret.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from proxy.policy.document import Loc
from proxy.policy.from_litellm.document import Config
from proxy.policy.variables import shown

_KEYS = "list `tenants` with the digests of their keys; Spillway issues none and has no database of them"
_STORE = "Spillway keeps its counts in Redis or Valkey: `spillway serve --redis-url URL`, or the one it starts itself"
_METRICS = "Spillway has Prometheus metrics at `/metrics` and a log line for each request; collect those"
_CACHE = "answers are not cached; put a cache in front, and use the prompt cache of the engine or the provider"
_BREAKER = "a failing replica is ejected, and tried again, by itself: nothing to set"
_RETRIES = "nothing is tried twice on one replica; `max_failovers` of a route says how often another target is tried"
_HEALTH = "health is learned from the requests themselves: nothing to set"
_TUNING = "nothing to set"
_UI = "there is no UI that edits: the policy file is the truth, and git keeps its history"
_GUARD = "run guardrails in the app, or as a service in front of Spillway"
_OTHER_API = (
    "let its callers reach the provider directly; Spillway serves chat, completions, responses, embeddings, messages"
)
_AWS = "AWS credentials come from Spillway's own environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, or a role"
_GCP = "Google credentials come from Spillway's own environment: GOOGLE_APPLICATION_CREDENTIALS, VERTEXAI_PROJECT"
_ENTRA = "Azure is called with an `api_key`; put a token that you renew into its variable"
_BODY = "callers send it themselves; `parameters` of a target would force it on every request"
_HEADERS = "which headers reach a provider is fixed; a target has none of its own"
_BUDGET = "write it under `budgets`, once there are tenants: `{name: apps, each: tenant, limit: $100/month}`"
_OWN_BUDGET = "write it under `budgets`: `{name: apps, limit: $100/month}`"
_COST = "the charge is counted from `price`: input, output and cached input per million tokens"
_INFO = "it only describes the model; nothing routes by it"
_TEAMS = "say who may ask for which model under `tenants`: `models: [...]`"

_BODY_MEMBERS = (
    "frequency_penalty", "logit_bias", "max_completion_tokens", "max_tokens", "metadata", "n", "presence_penalty",
    "reasoning_effort", "response_format", "seed", "service_tier", "stop", "stream", "temperature", "thinking",
    "tool_choice", "tools", "top_k", "top_p", "user",
)  # fmt: skip

_PARAMS = {
    "api_version": "set AZURE_API_VERSION in Spillway's environment; it holds for all Azure targets",
    "weight": "targets are tried in order, not by lot; replicas of one target share its load evenly",
    "num_retries": _RETRIES,
    "max_retries": _RETRIES,
    "cooldown_time": _BREAKER,
    "drop_params": "parameters that only hint are dropped for providers that do not know them; others are refused",
    "additional_drop_params": "callers leave it out themselves",
    "organization": _HEADERS,
    "extra_headers": _HEADERS,
    "headers": _HEADERS,
    "extra_body": "scalars may stand under `parameters` of the target, which forces them on every request",
    "max_budget": "your own GPUs are paid by the hour; a budget with `lane: dedicated` counts the time on them",
    "budget_duration": _OWN_BUDGET,
    "tag_regex": "match on `tags`, which callers send or tenants have",
    "configurable_clientside_auth_params": "the address and key of a target never come from a request",
    "aws_region_name": "the target's `region` says it",
    "region_name": "the target's `region` says it",
    "vertex_credentials": _GCP,
    "vertex_project": _GCP,
    "ssl_verify": "certificates are always checked; add yours to the trust store of the host",
    "rpm_limit": "`limits: {rpm: ...}` of the target is what LiteLLM calls `rpm`",
    "tpm_limit": "`limits: {tpm: ...}` of the target is what LiteLLM calls `tpm`",
    "context_window": "`context_window` of the target gates long prompts off it",
    "use_in_pass_through": "there are no pass-through endpoints",
    "itpm": "`limits: {tpm: ...}` counts input and output together",
    "otpm": "`limits: {tpm: ...}` counts input and output together",
    "default_api_key_tpm_limit": "give tenants, or their keys, a `tpm`",
    "default_api_key_rpm_limit": "give tenants, or their keys, a `rpm`",
    **dict.fromkeys(("azure_ad_token", "tenant_id", "client_id", "client_secret", "azure_scope"), _ENTRA),
    **dict.fromkeys(_BODY_MEMBERS, _BODY),
}
_MODEL_INFO = {
    "base_model": "if `check` knows no price of the target, write `price`: this names the model whose price it is",
    "max_tokens": "if it is the whole window, write `context_window`; the longest output is the caller's `max_tokens`",
    "context_window": "`context_window` of the target gates long prompts off it",
    "team_id": _TEAMS,
    "team_public_model_name": _TEAMS,
    "access_groups": _TEAMS,
    "access_windows": "a route can match on `time`",
    "tier": _INFO,
}
_ROUTER = {
    "num_retries": _RETRIES,
    "retry_after": "a provider's `Retry-After` is heeded by itself",
    "retry_policy": _RETRIES,
    "model_group_retry_policy": _RETRIES,
    "allowed_fails": _BREAKER,
    "allowed_fails_policy": _BREAKER,
    "cooldown_time": _BREAKER,
    "disable_cooldowns": _BREAKER,
    "enable_pre_call_checks": "`context_window` of a target gates long prompts off it, `region` what must stay at home",
    "routing_strategy_args": "latency is judged over a sliding window: nothing to set",
    "routing_groups": "write one route a group, with `match: {models: [...]}` and its own `prefer`",
    "provider_budget_config": _OWN_BUDGET,
    "optional_pre_call_checks": "limits are always enforced; sessions are not pinned",
    "enable_weighted_failover": "another target of the model is always tried first",
    "tag_filtering_match_any": "a route's `match: {tags: [...]}` needs all of its tags; write a route for each",
    "default_priority": "all requests of a tenant are served alike",
    "polling_interval": _TUNING,
    "cache_responses": _CACHE,
    "cache_kwargs": _CACHE,
    "caching_groups": _CACHE,
    "weights": "targets are tried in order, not by lot",
    "set_verbose": "each request leaves one line in the log; there is nothing more verbose",
    "stream_timeout": _TUNING,
    **dict.fromkeys(("redis_url", "redis_host", "redis_port", "redis_password", "redis_db", "redis_ssl"), _STORE),
}
_LIBRARY = {
    "drop_params": _PARAMS["drop_params"],
    "modify_params": "requests are not rewritten; callers send what the model takes",
    "num_retries": _RETRIES,
    "allowed_fails": _BREAKER,
    "cooldown_time": _BREAKER,
    "cache": _CACHE,
    "cache_params": _CACHE,
    "enable_caching_on_provider_specific_optional_params": _CACHE,
    "set_verbose": _ROUTER["set_verbose"],
    "json_logs": "the log is JSON already",
    "max_budget": _OWN_BUDGET,
    "budget_duration": _OWN_BUDGET,
    "tag_budget_config": _OWN_BUDGET,
    "max_internal_user_budget": _BUDGET,
    "guardrails": _GUARD,
    "ssl_verify": _PARAMS["ssl_verify"],
    "default_team_settings": _TEAMS,
    "default_internal_user_params": _KEYS,
    "upperbound_key_generate_params": _KEYS,
    "key_generation_settings": _KEYS,
    "request_timeout": _TUNING,
    "turn_off_message_logging": "prompts and answers are never logged",
    "redact_messages_in_exceptions": "prompts and answers are never logged",
    "custom_provider_map": "put the code behind an OpenAI-compatible url, and name that as a target",
    "model_cost_map_url": "write `price` on the targets whose price is not the list's",
    "mcp_aliases": _OTHER_API,
    "context_window_fallbacks": "give the smaller targets a `context_window`",
    "content_policy_fallbacks": "the caller gets the provider's refusal",
    **dict.fromkeys(
        ("callbacks", "success_callback", "failure_callback", "service_callbacks", "callback_settings", "otel"),
        _METRICS,
    ),
}
_SERVER = {
    "master_key": _KEYS,
    "custom_auth": _KEYS,
    "enable_jwt_auth": _KEYS,
    "litellm_jwtauth": _KEYS,
    "key_management_system": "secrets come from environment variables; let your platform put them there",
    "key_management_settings": "secrets come from environment variables; let your platform put them there",
    "store_model_in_db": "models that LiteLLM keeps in its database are not in this file: add them by hand",
    "max_parallel_requests": "`concurrency` of `tenants` or of a route's `require`",
    "global_max_parallel_requests": "`concurrency` in `require` of the last route",
    "infer_model_from_keys": "name the models under `models`",
    "completion_model": "requests have to name their model",
    "alerting": "alert on the metrics",
    "alerting_threshold": "alert on the metrics",
    "alerting_args": "alert on the metrics",
    "alert_types": "alert on the metrics",
    "pass_through_endpoints": _OTHER_API,
    "background_health_checks": _HEALTH,
    "health_check_interval": _HEALTH,
    "use_shared_health_check": _HEALTH,
    "proxy_batch_write_at": _TUNING,
    "ui_access_mode": _UI,
    "enforce_user_param": "who calls is known by the key",
    "forward_client_headers_to_llm_api": _HEADERS,
    "allowed_routes": "only known paths are served; `endpoint` of a route narrows them further",
    "allowed_ips": "filter addresses in front of Spillway",
    "use_client_credentials_pass_through_routes": _OTHER_API,
    "coordination_redis": _STORE,
    "otel": _METRICS,
}
_SECTIONS = {
    "general_settings": "Spillway's server has no such setting; see `spillway serve --help`",
    "litellm_settings": "it sets something inside LiteLLM, which Spillway does not have",
    "router_settings": "Spillway's router has no such setting; see `want` and `prefer` of its routes",
    "environment_variables": "export it where Spillway runs; its value is not copied",
    "guardrails": _GUARD,
    "policies": _GUARD,
    "policy_attachments": _GUARD,
    "mcp_servers": _OTHER_API,
    "mcp_tools": _OTHER_API,
    "search_tools": _OTHER_API,
    "sandbox_tools": _OTHER_API,
    "vector_store_registry": _OTHER_API,
    "files_settings": _OTHER_API,
    "finetune_settings": _OTHER_API,
    "assistant_settings": _OTHER_API,
    "pass_through_endpoints": _OTHER_API,
    "agent_list": _OTHER_API,
    "prompts": "keep prompts in the app",
    "callback_settings": _METRICS,
    "credential_list": "no imported deployment uses it; keys come from environment variables",
    "include": "the files that it names were not read: put them into one and import that",
    "worker_registry": _TUNING,
}


class _Table(NamedTuple):
    """Advice by key, and for keys that are not in it."""

    known: Mapping[str, str]
    otherwise: str


_TABLES: Mapping[str, _Table] = {
    "router_settings": _Table(_ROUTER, _SECTIONS["router_settings"]),
    "litellm_settings": _Table(_LIBRARY, _SECTIONS["litellm_settings"]),
    "general_settings": _Table(_SERVER, _SECTIONS["general_settings"]),
}
_OF_A_PARAMETER = _Table(_PARAMS, "LiteLLM hands it to the provider; a target has no such key")
_OF_A_MODEL = _Table(_MODEL_INFO, _INFO)


def note_leftovers(config: Config) -> None:
    """Note every key that nothing else has settled; keys with the same advice share a note, which has their lines."""
    alike: dict[str, list[tuple[str, Loc]]] = {}
    for loc in tuple(config.leftovers()):
        key = next(step for step in reversed(loc) if isinstance(step, str))
        alike.setdefault(_advice(loc, key), []).append((key, loc))
    for advice, found in alike.items():
        for _, loc in found:
            config.take(loc)
        config.note(found[0][1], _list(config, found), advice)


def _list(config: Config, found: Sequence[tuple[str, Loc]]) -> str:
    """Each key once, with the lines on which it stands; the first has the note's own place."""
    lines: dict[str, list[str]] = {}
    for index, (key, loc) in enumerate(found):
        lines.setdefault(shown(key), []).extend([] if index == 0 else [str(config.place(loc).line)])
    spelled = [f"{key}{_lines(list(dict.fromkeys(others)))}" for key, others in lines.items()]
    return f"not imported: {', '.join(spelled)}"


def _lines(lines: Sequence[str]) -> str:
    return f" (line{'s' if len(lines) > 1 else ''} {', '.join(lines)})" if lines else ""


def _advice(loc: Loc, key: str) -> str:
    section = str(loc[0])
    if section == "model_list":
        return _of_deployment(key, _OF_A_MODEL if "model_info" in loc else _OF_A_PARAMETER)
    table = _TABLES.get(section)
    if table is None:
        return _SECTIONS.get(section, "Spillway knows no such section")
    named = str(loc[1]) if len(loc) > 1 else section
    if named.startswith("database"):
        return _KEYS
    if "budget" in named:
        return _BUDGET
    return table.known.get(named, table.otherwise)


def _of_deployment(key: str, table: _Table) -> str:
    if key.startswith(("aws_", "s3_")) and key not in table.known:
        return _AWS
    if "cost_per" in key or key.endswith("_cost"):
        return _COST
    return table.known.get(key, table.otherwise)
