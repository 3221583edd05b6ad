"""Members of a body by which a caller could move its data to another place, account or machine: refused, by name.

Theory of operation
-------------------
Where a request goes is the policy's to say, and a provider or gateway that takes a place from the body would overrule
it. Taking such a member out silently is no way: a caller that wrote `inference_geo: eu` must not be served elsewhere
in the belief that it was obeyed. So the request is refused whatever its route, before a target is chosen; what a target
needs is in its own `parameters`. A member that is null asks for nothing and passes.

Every name below is read by somebody, and none is sent by an OpenAI client that was not told to; of Anthropic's own,
`inference_geo` and `fallbacks` are here. `metadata`, `user`, `container` and `service_tier` say nothing about a place.
`extra_body` is looked into, since gateways unfold it. Headers need no list: they reach a target by an allow-list
(`request.py`), and none of those chooses an organisation, a region or an address.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from proxy.routing.plan import Refusal

Members = Mapping[str, msgspec.Raw]

_VENDORS = frozenset({
    "fallbacks", "inference_geo",  # Anthropic; other models answer for the one that the policy has chosen
    "workspace_id", "anthropic_workspace_id", "aws_workspace_id",  # Anthropic, by way of LiteLLM
    "models", "plugins", "preset", "provider", "route",  # OpenRouter
    "providerOptions",  # Vercel's AI Gateway
})  # fmt: skip
"""Members that choose among providers, or where one works."""

_ENGINES = frozenset({
    "kv_transfer_params",  # vLLM: fetches or leaves the prompt's cache at `remote_host`
    "bootstrap_host", "bootstrap_port", "bootstrap_room",  # SGLang, the same
    "disaggregated_params",  # TensorRT-LLM, the same
})  # fmt: skip
"""Members by which the halves of a divided engine find each other: they name machines."""

_LITELLM = frozenset({
    "account_id", "allowed_model_region", "api_base", "api_key", "api_type", "api_version", "aws_access_key_id",
    "aws_bedrock_project_id", "aws_bedrock_runtime_endpoint", "aws_external_id", "aws_profile_name", "aws_region_name",
    "aws_role_name", "aws_secret_access_key", "aws_session_name", "aws_session_token", "aws_sts_endpoint",
    "aws_web_identity_token", "azure_ad_token", "azure_endpoint", "base_url", "content_policy_fallbacks",
    "context_window_fallbacks", "custom_endpoint", "custom_llm_provider", "deployment_id", "deployment_url",
    "extra_headers", "gigachat_auth_url", "headers", "litellm_credential_name", "litellm_params",
    "model_list", "oci_compartment_id", "oci_endpoint_id", "oci_region", "oci_serving_mode", "organization",
    "project_id", "region_name", "router_settings_override", "s3_endpoint_url", "s3_region_name", "sagemaker_base_url",
    "space_id", "specific_deployment", "use_litellm_proxy", "user_config", "vertex_ai_credentials",
    "vertex_ai_location", "vertex_ai_project", "vertex_count_tokens_location", "vertex_credentials", "vertex_location",
    "vertex_project", "watsonx_project", "watsonx_region_name",
})  # fmt: skip
"""LiteLLM takes its own settings from a body; a target may be another LiteLLM."""

PARAMETERS = _VENDORS | _ENGINES | _LITELLM
_NESTED = "extra_body"
WATCHED = PARAMETERS | {_NESTED}
"""A body without any of these has nothing to be looked for."""

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def check_members(members: Members) -> Refusal | None:
    """Refuse a body that says where it is to go."""
    name = _first(members)
    if name is None:
        return None
    return Refusal(
        status=400,
        code="geo_parameter_not_allowed",
        message=f"`{name}` could move the request elsewhere than the policy allows; remove it",
        rule="geo_parameter",
        param=name,
        retryable=False,
    )


def _first(members: Members, prefix: str = "") -> str | None:
    for name, value in members.items():
        if name in PARAMETERS and bytes(value) != b"null":
            return prefix + name
        if name == _NESTED:
            try:
                inner = _decode(value)
            except msgspec.MsgspecError:
                continue
            found = _first(inner, f"{prefix}{name}.")
            if found is not None:
                return found
    return None
