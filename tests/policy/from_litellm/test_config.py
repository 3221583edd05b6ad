"""A LiteLLM config becomes a policy that compiles; what has no equivalent is told, and nothing gets lost or leaks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from proxy.policy.compile import Compiled, check_source
from proxy.policy.from_litellm.config import Imported, import_config
from proxy.policy.model import Cap, Endpoint, Enforce, Engine, Exhausted, Lane, Per, Prefer
from proxy.policy.problem import PolicyError
from proxy.policy.source import Source, SourceFile
from proxy.routing.decide import decide
from proxy.routing.plan import Plan
from tests.policy.policies import no_price
from tests.routing.policies import facts
from tests.thorough import examples

CONFIGS = Path(__file__).parent


class Assumed(dict[str, str]):
    """An environment in which every variable is set, those that stand for the addresses of `policy` to one each."""

    def __init__(self, policy: str = "") -> None:
        super().__init__()
        self._addresses = set(re.findall(r"^ +(?:url:|-) \$\{(\w+)\}$", policy, re.MULTILINE))

    def get(self, name: str, default: object = None) -> str:
        host = name.lower().replace("_", "-").strip("-") or "h"
        return f"https://{host}.example.com/v1" if name in self._addresses else f"assumed-{len(name)}"


def imported(text: str, models: Sequence[str] = ()) -> Imported:
    return import_config(SourceFile("config.yaml", text), models)


def compiled(policy: str) -> Compiled:
    source = Source("policy.yaml", (SourceFile("policy.yaml", policy),), "0" * 64)
    return check_source(source, env=Assumed(policy), price_of=no_price)


def deployments(*items: str) -> str:
    """A config with these deployments of the model `m`, each the inside of its `litellm_params`."""
    listed = "".join(f"  - model_name: m\n    litellm_params: {{{item}}}\n" for item in items)
    return f"model_list:\n{listed}"


def the_target(config: str) -> Any:
    (target,) = compiled(imported(config).policy).snapshot.targets.values()
    return target


def messages(config: str) -> list[str]:
    return [note.message for note in imported(config).notes]


@pytest.fixture(scope="module")
def platform() -> Imported:
    return import_config(SourceFile("conf/platform.yaml", (CONFIGS / "platform.yaml").read_text("utf-8")))


def test_a_whole_config_gives_the_policy_beside_it(platform: Imported) -> None:
    assert platform.policy == (CONFIGS / "platform.policy.yaml").read_text("utf-8")
    assert (platform.target_count, platform.model_count) == (8, 7)


def test_the_policy_compiles_as_it_is(platform: Imported) -> None:
    snapshot = compiled(platform.policy).snapshot
    own = snapshot.targets["vllm-llama-3.3-70b-instruct"]
    assert own.lane is Lane.DEDICATED
    assert own.engine is Engine.VLLM
    assert own.urls == ("http://vllm-0.inference.svc:8000/v1", "http://vllm-1.inference.svc:8000/v1")
    assert own.max_in_flight == 128
    assert own.timeouts.first_token_s == 20.0
    together = snapshot.targets["together_ai-llama-3.3-70b-instruct-turbo"]
    assert together.price is not None
    assert together.price.input_nano_usd_per_mtok == 880_000_000
    assert (together.limits.rpm, together.limits.tpm) == (3000, 2_000_000)
    assert snapshot.targets["vllm-bge-m3"].native == {Endpoint.EMBEDDINGS}
    assert snapshot.targets["azure-gpt-4o-weu"].region == "westeurope"
    assert snapshot.targets["openai-gpt-4.1-mini"].parameters == {"service_tier": "flex"}


def test_fallbacks_follow_the_models_own_targets_and_their_fallbacks_follow_them(platform: Imported) -> None:
    models = compiled(platform.policy).snapshot.models
    assert [one.target.name for one in models["llama-70b"]] == [
        "vllm-llama-3.3-70b-instruct",
        "together_ai-llama-3.3-70b-instruct-turbo",
        "azure-gpt-4o-weu",
        "azure-gpt-4o-swc",
        "anthropic-claude-sonnet-4-5",
        "bedrock-claude-sonnet-4-5-20250929-v1-0",
    ]
    assert models["chat"] == models["llama-70b"]


def test_no_secret_is_copied(platform: Imported) -> None:
    told = platform.policy + "\n".join(map(str, platform.notes))
    for secret in ("sk-live", "AKIA", "hunter2", "sk-master", "sk-lf", "postgresql://"):
        assert secret not in told


def test_every_note_has_a_place_and_keeps_the_house_style(platform: Imported) -> None:
    for note in platform.notes:
        assert note.path == "conf/platform.yaml"
        assert note.line > 0
        assert note.column > 0
        assert note.message[0] == "`" or note.message[0].islower(), note.message
        assert not note.message.endswith(".")


def test_the_same_config_gives_the_same_bytes(platform: Imported) -> None:
    text = (CONFIGS / "platform.yaml").read_text("utf-8")
    assert import_config(SourceFile("conf/platform.yaml", text)) == platform


@pytest.mark.parametrize(
    ("params", "lane", "engine", "urls"),
    [
        ("model: hosted_vllm/x, api_base: 'http://h:8000/v1'", Lane.DEDICATED, Engine.VLLM, "http://h:8000/v1"),
        ("model: hosted_vllm/x, api_base: 'http://h:8000'", Lane.DEDICATED, Engine.VLLM, "http://h:8000/v1"),
        ("model: vllm/x, api_base: 'https://gpu.example.com/v1'", Lane.DEDICATED, Engine.VLLM, "https://gpu.example.com/v1"),
        ("model: openai/x, api_base: 'http://10.1.2.3:8000/v1'", Lane.DEDICATED, Engine.OPENAI, "http://10.1.2.3:8000/v1"),
        ("model: openai/x, api_base: 'https://llm.svc/v1'", Lane.DEDICATED, Engine.OPENAI, "https://llm.svc/v1"),
        ("model: openai/x, api_base: 'http://52.11.105.97/v1'", Lane.DEDICATED, Engine.OPENAI, "http://52.11.105.97/v1"),
        ("model: ollama/llama3.1", Lane.DEDICATED, Engine.OPENAI, "http://localhost:11434/v1"),
        ("model: ollama_chat/x, api_base: 'http://o:11434/api'", Lane.DEDICATED, Engine.OPENAI, "http://o:11434/v1"),
        ("model: huggingface/x, api_base: 'http://tgi:80/v1'", Lane.DEDICATED, Engine.TGI, "http://tgi:80/v1"),
        ("model: hosted_vllm/x", Lane.DEDICATED, Engine.VLLM, "https://hosted-vllm-api-base.example.com/v1"),
        ("model: openai/x, api_base: 'https://api.example.com/v1'", Lane.SHARED, None, "https://api.example.com/v1"),
        ("model: openai/x, api_base: os.environ/MY_URL", Lane.SHARED, None, "https://my-url.example.com/v1"),
        ("model: openai/gpt-4.1", Lane.SHARED, None, "https://api.openai.com/v1"),
        ("model: gpt-4.1", Lane.SHARED, None, "https://api.openai.com/v1"),
        ("model: x, custom_llm_provider: groq", Lane.SHARED, None, "https://api.groq.com/openai/v1"),
        ("model: anthropic/c, api_base: 'https://a.example.com'", Lane.SHARED, None, "https://a.example.com/v1"),
        ("model: openai/x, api_base: 'https://openrouter.ai/api/v1'", Lane.SHARED, None, "https://openrouter.ai/api/v1"),
        ("model: x, api_base: 'https://api.groq.com/openai/v1'", Lane.SHARED, None, "https://api.groq.com/openai/v1"),
    ],
)  # fmt: skip
def test_whose_a_deployment_is(params: str, lane: Lane, engine: Engine | None, urls: str) -> None:
    target = the_target(deployments(params))
    assert (target.lane, target.engine, target.urls) == (lane, engine, (urls,))


@pytest.mark.parametrize(
    ("params", "provider", "model"),
    [
        ("model: azure/weu/gpt-4o, api_base: 'https://a.openai.azure.com'", "azure", "weu/gpt-4o"),
        ("model: openrouter/anthropic/claude-3.5-sonnet", "openrouter", "anthropic/claude-3.5-sonnet"),
        ("model: claude-sonnet-4-5", "anthropic", "claude-sonnet-4-5"),
        ("model: 'eu.anthropic.claude-x-v1:0'", "bedrock", "eu.anthropic.claude-x-v1:0"),
        ("model: vertex_ai/claude-sonnet-4-5@20250929", "vertex_ai", "claude-sonnet-4-5@20250929"),
        ("model: text-completion-openai/gpt-3.5-turbo-instruct", "openai", "gpt-3.5-turbo-instruct"),
        ("model: openai/responses/gpt-5", "openai", "gpt-5"),
        ("model: openai/google/g, api_base: 'https://openrouter.ai/api/v1'", "openrouter", "google/g"),
    ],
)  # fmt: skip
def test_what_the_provider_and_its_model_are(params: str, provider: str, model: str) -> None:
    target = the_target(deployments(params))
    assert (target.provider, target.model) == (provider, model)


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ("model: mistralai/mistral-7b-instruct", "names no provider"),
        ("model: os.environ/MODEL", "comes from the environment"),
        ("model: auto_router/x", "no equivalent"),
        ("model: github_copilot/gpt-4", "no equivalent"),
        ("model: groq/x, api_base: 'http://groq.example.com/v1'", "in clear"),
        ("model: openai/x, api_base: 'https://u:p@h.example.com/v1'", "credentials in a url"),
        ("model: openai/x, api_base: '${vllm_url}'", "template"),
        ("model: 'openai/${model}'", "template"),
        ("model: openai/x, api_base: 'ftp://h/v1'", "http"),
        ("model: openai/x, mock_response: hi", "mock_response"),
        ("api_key: os.environ/X", "`model`"),
        ("model: openai/*", "wildcard"),
        ("model: openai/x, blocked: true", "blocked"),
    ],
)  # fmt: skip
def test_a_deployment_that_cannot_be_a_target_is_left_out_and_told(params: str, why: str) -> None:
    config = deployments(params, "model: openai/gpt-4.1")
    result = imported(config)
    assert list(compiled(result.policy).snapshot.targets) == ["openai-gpt-4.1"]
    (note,) = (note for note in result.notes if "left out" in note.message)
    assert why in note.message
    assert (note.line, note.column) == (2, 5)
    assert "# left out:\n  #   config.yaml:2 m: " in result.policy


def test_a_key_in_clear_becomes_a_variable_and_the_same_key_the_same_one() -> None:
    result = imported(
        deployments(
            "model: openai/a, api_key: sk-one",
            "model: openai/b, api_key: sk-two",
            "model: openai/c, api_key: sk-one",
            "model: openai/d, api_key: os.environ/OPENAI_API_KEY",
        )
    )
    assert re.findall(r"api_key: (.*)", result.policy) == [
        "${OPENAI_API_KEY_2}",
        "${OPENAI_API_KEY_3}",
        "${OPENAI_API_KEY_2}",
        "${OPENAI_API_KEY}",
    ]
    assert "sk-" not in result.policy + "".join(map(str, result.notes))
    assert "(also on line 7)" in next(note.message for note in result.notes if "in clear" in note.message)


def test_a_placeholder_for_a_key_is_left_out_of_an_engine() -> None:
    target = the_target(deployments("model: hosted_vllm/x, api_base: 'http://h:8000/v1', api_key: EMPTY"))
    assert target.api_key is None


def test_a_key_for_openai_is_not_sent_elsewhere_unsaid() -> None:
    config = deployments("model: openai/x, api_base: 'https://api.example.com/v1'")
    says = (
        "no `api_key`: LiteLLM sends OPENAI_API_KEY to `https://api.example.com/v1`, the policy has `${OPENAI_API_KEY}`"
    )
    assert says in messages(config)
    at_groq = deployments("model: openai/x, api_base: 'https://api.groq.com/openai/v1'")
    assert "api_key: ${GROQ_API_KEY}" in imported(at_groq).policy


def test_a_cloud_without_a_region_takes_it_from_the_environment_as_litellm_does() -> None:
    policy = imported(deployments("model: bedrock/x", "model: vertex_ai/y")).policy
    assert re.findall(r"region: (\S+)", policy) == ["${AWS_REGION_NAME}", "${VERTEXAI_LOCATION}"]


def test_equal_engines_are_replicas_and_others_are_not() -> None:
    result = imported(
        deployments(
            "model: hosted_vllm/x, api_base: 'http://a:1/v1'",
            "model: hosted_vllm/x, api_base: 'http://b:1/v1'",
            "model: hosted_vllm/x, api_base: 'http://c:1/v1', order: 2",
            "model: hosted_vllm/x, api_base: 'http://d:1/v1', api_key: os.environ/D",
            "model: hosted_vllm/x, api_base: 'http://b:1/v1'",
        )
    )
    targets = compiled(result.policy).snapshot.targets
    assert [target.urls for target in targets.values()] == [
        ("http://a:1/v1", "http://b:1/v1"),
        ("http://d:1/v1",),
        ("http://c:1/v1",),
    ]
    assert "the same deployment twice" in [note.message for note in result.notes]


def test_an_engine_behind_two_targets_is_told() -> None:
    base = "api_base: 'http://a:1/v1'"
    assert "targets `vllm-x` and `vllm-lora` are both at `http://a:1/v1`" in messages(
        deployments(f"model: hosted_vllm/x, {base}", f"model: hosted_vllm/lora, {base}")
    )


def test_one_deployment_under_two_names_is_one_target_unless_something_is_counted() -> None:
    text = "model_list:\n" + "".join(
        f"  - {{model_name: {name}, litellm_params: {{model: openai/x{limit}}}}}\n"
        for name, limit in (("a", ""), ("b", ""), ("c", ", rpm: 5"), ("d", ", rpm: 5"))
    )
    models = compiled(imported(text).policy).snapshot.models
    names = [models[name][0].target.name for name in "abcd"]
    assert names == ["openai-x", "openai-x", "openai-x-2", "openai-x-3"]


def test_own_gpus_come_before_apis_in_a_group_and_order_comes_before_that() -> None:
    result = imported(
        deployments(
            "model: openai/late, order: 2",
            "model: openai/x",
            "model: hosted_vllm/x, api_base: 'http://a:1/v1'",
        )
    )
    (candidates,) = compiled(result.policy).snapshot.models.values()
    assert [one.target.name for one in candidates] == ["vllm-x", "openai-x", "openai-late"]


def routes_of(config: str) -> list[tuple[str, Prefer, int]]:
    routes = compiled(imported(config).policy).snapshot.routes
    return [(route.name, route.prefer, route.max_failovers) for route in routes]


TWO_LANES = """model_list:
  - {model_name: api, litellm_params: {model: openai/gpt-4.1}}
  - {model_name: cheap, litellm_params: {model: openai/gpt-4.1-nano}}
  - {model_name: own, litellm_params: {model: hosted_vllm/x, api_base: "http://a:1/v1"}}
"""


def test_a_fallback_is_never_tried_first_whatever_it_costs() -> None:
    config = f"{TWO_LANES}litellm_settings: {{fallbacks: [{{api: [own]}}, {{own: [cheap]}}]}}\n"
    assert routes_of(config) == [("apis-first", Prefer.SHARED, 2), ("default", Prefer.DEDICATED, 1)]
    models = compiled(imported(config).policy).snapshot.models
    assert [one.target.name for one in models["api"]] == ["openai-gpt-4.1", "vllm-x", "openai-gpt-4.1-nano"]


def test_requests_go_where_litellm_would_have_sent_them(platform: Imported) -> None:
    snapshot = compiled(platform.policy).snapshot
    for name, candidates in snapshot.models.items():
        endpoint = Endpoint.EMBEDDINGS if name == "embed" else Endpoint.CHAT
        plan = decide(snapshot, facts(model=name, endpoint=endpoint, input_tokens=10), {}, 0.0, 0.5)
        assert isinstance(plan, Plan), plan
        tried = list(dict.fromkeys(attempt.target.name for attempt in plan.attempts))
        listed = [candidate.target.name for candidate in candidates]
        assert tried[: len(ORDERED.get(name, listed))] == ORDERED.get(name, listed)
    small = decide(snapshot, facts(model="llama-70b", input_tokens=200_000), {}, 0.0, 0.5)
    assert isinstance(small, Plan)
    assert small.attempts[0].target.name == "together_ai-llama-3.3-70b-instruct-turbo"


ORDERED = {  # LiteLLM alternates lanes in these; what it would have tried first still is
    "gpt-4o": ["azure-gpt-4o-weu", "azure-gpt-4o-swc", "anthropic-claude-sonnet-4-5"],
    "claude-sonnet": ["bedrock-claude-sonnet-4-5-20250929-v1-0"],
}


def test_litellms_strategies_hold_within_a_group_only() -> None:
    config = f"{TWO_LANES}router_settings: {{routing_strategy: cost-based-routing, fallbacks: [{{api: [cheap]}}]}}\n"
    assert routes_of(config) == [("apis-first", Prefer.SHARED, 1), ("default", Prefer.COST, 1)]
    every = "{api: [cheap]}, {own: [api]}, {cheap: [api]}"
    config = f"{TWO_LANES}router_settings: {{routing_strategy: cost-based-routing, fallbacks: [{every}]}}\n"
    assert routes_of(config) == [("own-gpus-first", Prefer.DEDICATED, 2), ("default", Prefer.SHARED, 1)]
    assert routes_of(f"{TWO_LANES}router_settings: {{routing_strategy: latency-based-routing}}\n") == [
        ("default", Prefer.LATENCY, 1)
    ]


def test_default_fallbacks_serve_the_models_without_any() -> None:
    config = f"{TWO_LANES}litellm_settings: {{default_fallbacks: [cheap], fallbacks: [{{own: [api]}}]}}\n"
    models = compiled(imported(config).policy).snapshot.models
    assert {name: [one.target.name for one in found] for name, found in models.items()} == {
        "api": ["openai-gpt-4.1", "openai-gpt-4.1-nano"],
        "cheap": ["openai-gpt-4.1-nano"],
        "own": ["vllm-x", "openai-gpt-4.1", "openai-gpt-4.1-nano"],
    }


def test_larger_windows_are_added_only_where_the_smaller_ones_are_known() -> None:
    config = """model_list:
  - {model_name: small, litellm_params: {model: openai/a}, model_info: {max_input_tokens: 8000}}
  - {model_name: vague, litellm_params: {model: openai/b}}
  - {model_name: large, litellm_params: {model: openai/c}}
litellm_settings: {context_window_fallbacks: [{small: [large]}, {vague: [large]}]}
"""
    models = compiled(imported(config).policy).snapshot.models
    assert [one.target.name for one in models["small"]] == ["openai-a", "openai-c"]
    assert [one.target.name for one in models["vague"]] == ["openai-b"]
    assert "context window fallbacks of `vague` to large are not imported" in messages(config)


def test_wildcards_are_imported_for_the_names_that_are_known() -> None:
    text = """model_list:
  - {model_name: "*", litellm_params: {model: "openai/*"}}
  - {model_name: "anthropic/*", litellm_params: {model: "anthropic/*"}}
  - {model_name: claude-*, litellm_params: {model: hosted_vllm/qwen, api_base: "http://h:1/v1"}}
  - {model_name: "groq/*", litellm_params: {model: "groq/*"}}
router_settings: {model_group_alias: {best: anthropic/claude-opus}}
"""
    result = imported(text, ["gpt-5", "openai/o3", "claude-x"])
    models = compiled(result.policy).snapshot.models
    assert {name: (one[0].target.provider, one[0].model) for name, one in models.items()} == {
        "gpt-5": ("openai", "gpt-5"),
        "openai/o3": ("openai", "o3"),
        "claude-x": (None, "qwen"),
        "anthropic/claude-opus": ("anthropic", "claude-opus"),
        "best": ("anthropic", "claude-opus"),
    }
    assert "wildcard `groq/*` is left out: a policy names what may be asked for" in [n.message for n in result.notes]


def test_tags_become_routes_where_litellm_filters_by_them() -> None:
    config = deployments("model: openai/a, tags: [free]", "model: openai/b, tags: [paid]")
    assert [route.name for route in compiled(imported(config).policy).snapshot.routes] == ["default"]
    filtered = f"{config}router_settings: {{enable_tag_filtering: true}}\n"
    free, paid, _ = compiled(imported(filtered).policy).snapshot.routes
    assert (free.match.tags, free.require.tags) == ({"free"}, {"free"})
    assert (paid.match.tags, paid.require.tags) == ({"paid"}, {"paid"})


def test_a_named_credential_and_the_routers_defaults_fill_what_a_deployment_lacks() -> None:
    target = the_target(
        """model_list:
  - model_name: m
    litellm_params: {model: azure/x, litellm_credential_name: weu}
credential_list:
  - credential_name: weu
    credential_values: {api_key: os.environ/WEU_KEY, api_base: "https://weu.openai.azure.com"}
router_settings: {default_litellm_params: {stream_timeout: 7}}
"""
    )
    assert target.urls == ("https://weu.openai.azure.com",)
    assert target.timeouts.first_token_s == 7.0
    assert target.api_key.reveal() == Assumed().get("WEU_KEY")


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ("rpm: many", "`rpm` is not imported: expected a whole number, got `many`"),
        ("rpm: 0", "`rpm` is not imported: expected a whole number of at least 1, got `0`"),
        ("timeout: soon", "`timeout` is not imported: not a number"),
        ("region_name: Neuland!", "`region_name` is not imported: `neuland!` is not a valid region"),
        ("tags: free", "`tags` are not imported: expected a list"),
        ("tags: [a b]", "`tags` are not imported: `a b` is not a valid name"),
        ("extra_body: 1", "`extra_body` is not imported: expected a mapping"),
        ("extra_body: {a: {b: 1}}", "`a` of `extra_body` is not imported: `a` is not a plain value: a mapping"),
        ("api_key: [a]", "`api_key` is not imported: expected text, got a list"),
        ("api_key: os.environ/A-B", "`api_key` names no environment variable"),
        ("litellm_credential_name: gone", "no such name in `credential_list`"),
        ("cache_read_input_token_cost: 1e-7", "`cache_read_input_token_cost` alone is no price"),
        ("input_cost_per_token: 1e-6", "`input_cost_per_token` stands alone: the other price is 0, as LiteLLM has it"),
        ("api_base: 'https://api.openai.com/v1/chat/completions'", "`api_base` names one operation; it was cut to `https://api.openai.com/v1`"),
        ("temperature: 1", "not imported: `temperature`"),
        ('"a\\eb": 1', "not imported: `a\N{REPLACEMENT CHARACTER}b`"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_imported_is_told_and_the_rest_is_imported(params: str, says: str) -> None:
    config = deployments(f"model: openai/gpt-4.1, {params}")
    assert says in messages(config)
    assert the_target(config).model == "gpt-4.1"


BUDGETS = """
litellm_settings:
  max_budget: 100
  budget_duration: 30d
  tag_budget_config:
    "product:chat": {max_budget: 2.5, budget_duration: 1d}
router_settings:
  provider_budget_config:
    openai: {budget_limit: 0.5, time_period: 1h}
    groq: {budget_limit: 1, time_period: 1d}
"""


def test_budgets_are_soft_as_litellms_are_and_leave_what_they_do_not_pay_for() -> None:
    own = "model: hosted_vllm/llama, api_base: http://own.svc:8000/v1"
    dear = "model: openai/gpt-4.1, api_key: os.environ/K, max_budget: 7, budget_duration: 7d"
    result = imported(deployments(own, dear) + BUDGETS)
    snapshot = compiled(result.policy).snapshot
    (api,) = [name for name, target in snapshot.targets.items() if target.lane is Lane.SHARED]
    assert [(one.name, one.caps, one.tags, one.targets) for one in snapshot.budgets] == [
        ("everything", (Cap(100 * 10**9, Per.MONTH),), frozenset(), None),
        ("provider-openai", (Cap(5 * 10**8, Per.HOUR),), frozenset(), frozenset({api})),
        ("tag-product-chat", (Cap(25 * 10**8, Per.DAY),), frozenset({"product:chat"}), None),
        (f"target-{api}", (Cap(7 * 10**9, Per.WEEK),), frozenset(), frozenset({api})),
    ]
    assert {one.enforce for one in snapshot.budgets} == {Enforce.SOFT}
    assert {one.exhausted for one in snapshot.budgets} == {Exhausted.DEDICATED_ONLY}
    assert [note.message for note in result.notes if "budget" in note.message] == [
        "no target of provider `groq` was imported: its budget is not either"
    ]


def test_a_budget_for_all_that_there_is_refuses() -> None:
    alone = deployments("model: openai/gpt-4.1, api_key: os.environ/K") + "litellm_settings: {max_budget: 3.25}\n"
    (budget,) = compiled(imported(alone).policy).snapshot.budgets
    assert (budget.exhausted, budget.caps) == (Exhausted.REJECT, (Cap(3_250_000_000, Per.TOTAL),))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("max_budget: 5, budget_duration: 10d", "`max_budget` is not imported: a policy has no window of `10d`"),
        ("max_budget: lots, budget_duration: 1d", "`max_budget` is not imported: expected dollars, got `lots`"),
        ("max_budget: 10000000", "`max_budget` is not imported: limit out of range"),
        ("max_budget: 5, budget_duration: 45s", "`max_budget` is not imported: a policy has no window of `45s`"),
        ("max_internal_user_budget: 5", "not imported: `max_internal_user_budget`"),
    ],
)
def test_a_budget_that_a_policy_cannot_have_is_told(settings: str, says: str) -> None:
    config = deployments("model: openai/gpt-4.1, api_key: os.environ/K") + f"litellm_settings: {{{settings}}}\n"
    assert compiled(imported(config).policy).snapshot.budgets == ()
    assert any(message.startswith(says) for message in messages(config))


def test_no_limit_is_no_budget_and_needs_no_word() -> None:
    config = deployments("model: openai/gpt-4.1, api_key: os.environ/K") + "litellm_settings: {max_budget: 0}\n"
    assert compiled(imported(config).policy).snapshot.budgets == ()
    assert not any("budget" in message for message in messages(config))


def test_a_budget_of_ones_own_engine_is_told() -> None:
    config = deployments("model: hosted_vllm/llama, api_base: http://own.svc:8000/v1, max_budget: 5")
    assert compiled(imported(config).policy).snapshot.budgets == ()
    assert "not imported: `max_budget`" in messages(config)


def test_what_makes_a_deployment_another_one_is_set_on_every_request() -> None:
    result = imported(
        deployments("model: gemini/gemini-2.5-pro, reasoning_effort: high", "model: gemini/gemini-2.5-pro")
    )
    targets = compiled(result.policy).snapshot.targets
    assert {name: target.parameters for name, target in targets.items()} == {
        "gemini-2.5-pro": {"reasoning_effort": "high"},
        "gemini-2.5-pro-2": {},
    }
    assert "`reasoning_effort` is set on every request to the target" in [note.message for note in result.notes]


def test_a_name_that_a_policy_cannot_have_is_changed_and_told() -> None:
    config = 'model_list:\n  - {model_name: "My Model!", litellm_params: {model: openai/x}}\n'
    assert list(compiled(imported(config).policy).snapshot.models) == ["My-Model"]
    assert any("callers have to ask for `My-Model`" in message for message in messages(config))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "a bracket is not closed"),
        ("- 1\n", "no `model_list`"),
        ("targets: {}\n", "no `model_list`"),
        ("model_list: {}\n", "no `model_list`"),
        ("model_list: []\n", "no deployment of it can be imported"),
        ("model_list: [1, {model_name: m}]\n", "no deployment of it can be imported"),
        ("model_list: [!!python/object:os.system {}]\n", "no deployment of it can be imported"),
        ("model_list: !!timestamp x\n", "safe YAML loader"),
        ("a: &a [*a]\nmodel_list: []\n", "nested too deeply"),
        (f"model_list: {'[' * 500}{']' * 500}\n", "nested too deeply"),
    ],
)  # fmt: skip
def test_what_is_no_config_is_refused(text: str, says: str) -> None:
    with pytest.raises(PolicyError) as refused:
        imported(text)
    assert says in str(refused.value)


NAMES = st.sampled_from(["chat", "gpt-4o", "My Model", "openai/*", "*", "none", "a@b", "embed", "claude-*", "ü", "429"])
MODELS = st.sampled_from([
    "openai/gpt-4.1", "gpt-4o-mini", "azure/dep", "hosted_vllm/Qwen/Qwen3-8B", "ollama/llama3.1:8b", "vllm/x",
    "bedrock/eu.anthropic.claude-x-v1:0", "vertex_ai/gemini-2.5-pro", "gemini/gemini-2.5-flash", "anthropic/claude-x",
    "together_ai/meta-llama/L", "openai/*", "*", "mistralai/m", "groq/x", "cohere/command-r", "huggingface/x/y",
    "openrouter/a/b", "text-completion-openai/d", "custom_openai/x", "litellm_proxy/y", "auto_router/r", "openai/yes",
    "openai/12", "openai/a b", "openai/${X}", "openai/null", "deepseek/r1", "databricks/d", "sagemaker/e", "x",
    "openai/a: b", "openai/#c", "openai/{d}", "openai/\u00fc", "openai/a\tb", "/", "openai/", "azure_ai/z", "xai/g",
])  # fmt: skip
BASES = st.sampled_from([
    "http://localhost:8000", "http://a.svc:8000/v1", "http://b.svc:8000/v1", "https://api.example.com/v1",
    "http://52.1.2.3:8000/v1", "https://x.openai.azure.com/", "os.environ/SOME_BASE", "os.environ/", "not a url",
    "https://h/v1/chat/completions", "http://169.254.169.254/", "https://h/?q=1", "https://u:canary@h/v1", 7,
])  # fmt: skip
NUMBERS = st.sampled_from([0, 1, 7, 1000, 2_000_000, -1, 0.5, 1e-7, "3", "many", None, True, 1e300, "os.environ/N", []])
MONEY = st.sampled_from([0, 5, 0.1, 1e-7, "12.50", -3, 1e12, None, True, "lots", [], "os.environ/MOST"])
PERIODS = st.sampled_from(["1h", "60m", "1d", "24h", "7d", "1w", "30d", "1mo", "10d", "45s", "a while", None, 5])
LIMITED = st.fixed_dictionaries(
    {}, optional={"max_budget": MONEY, "budget_limit": MONEY, "budget_duration": PERIODS, "time_period": PERIODS}
)
KEY = "sk-canary"
KEYS = st.sampled_from([f"{KEY}-1", f"{KEY}-2", "os.environ/SOME_KEY", "os.environ/", "EMPTY", "", None, 5])
SIMPLE = st.one_of(NUMBERS, st.text(max_size=5), st.lists(st.integers(), max_size=2))
PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "model": MODELS,
        "api_base": BASES,
        "api_key": KEYS,
        **dict.fromkeys(
            ("rpm", "tpm", "max_parallel_requests", "order", "weight", "timeout", "stream_timeout"), NUMBERS
        ),
        **dict.fromkeys(("input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost"), NUMBERS),
        "region_name": st.sampled_from(["eu", "EU-West-1", "os.environ/REGION_OF_MINE", "Neu land", 3]),
        "aws_region_name": st.sampled_from(["us-east-1", "nowhere!"]),
        "max_budget": MONEY,
        "budget_duration": PERIODS,
        "tags": st.sampled_from([["free"], ["free", "default"], ["b d"], [3], "free", ["x/y"]]),
        "extra_body": st.dictionaries(st.sampled_from(["a", "model", "b c", "null", "1"]), SIMPLE, max_size=2),
        "custom_llm_provider": st.sampled_from(["openai", "nonsense", "azure"]),
        "temperature": NUMBERS,
        "reasoning_effort": st.sampled_from(["low", "os.environ/EFFORT", 3, ""]),
        "aws_secret_access_key": st.just(KEY),
        "zz_unknown": SIMPLE,
    },
)
INFO = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from(["one", "none", "a b", 5, "x" * 200]),
        "mode": st.sampled_from(["chat", "embedding", "completion", "rerank", "responses", 1]),
        "max_input_tokens": NUMBERS,
        "supports_vision": st.booleans(),
        "supports_function_calling": st.booleans(),
        "zz_info": SIMPLE,
    },
)
DEPLOYMENTS = st.fixed_dictionaries(
    {"model_name": NAMES, "litellm_params": PARAMS}, optional={"model_info": INFO, "rpm": NUMBERS}
)
MODEL_NAMES = st.one_of(NAMES, st.just("missing"), st.just("openai/gpt-x"))
CHAINS = st.lists(st.dictionaries(MODEL_NAMES, st.lists(MODEL_NAMES, max_size=3), max_size=2), max_size=3)
ROUTER = st.fixed_dictionaries(
    {},
    optional={
        "fallbacks": CHAINS,
        "default_fallbacks": st.lists(MODEL_NAMES, max_size=2),
        "context_window_fallbacks": CHAINS,
        "content_policy_fallbacks": CHAINS,
        "routing_strategy": st.sampled_from(["simple-shuffle", "cost-based-routing", "latency-based-routing", 3]),
        "model_group_alias": st.dictionaries(MODEL_NAMES, MODEL_NAMES, max_size=3),
        "enable_tag_filtering": st.booleans(),
        "timeout": NUMBERS,
        "max_fallbacks": NUMBERS,
        "redis_password": st.just(KEY),
        "max_budget": MONEY,
        "budget_duration": PERIODS,
        "provider_budget_config": st.dictionaries(st.sampled_from(["openai", "groq", "zero"]), LIMITED, max_size=2),
        "tag_budget_config": st.dictionaries(st.sampled_from(["free", "b d", "none"]), LIMITED, max_size=2),
        "zz_router": SIMPLE,
    },
)
CONFIG = st.fixed_dictionaries(
    {"model_list": st.lists(DEPLOYMENTS, min_size=1, max_size=6)},
    optional={"router_settings": ROUTER, "litellm_settings": ROUTER, "zz_section": SIMPLE},
)


@settings(max_examples=examples(300), deadline=None)
@given(data=st.data())
def test_no_text_breaks_the_import(data: st.DataObject) -> None:
    lines = (CONFIGS / "platform.yaml").read_text("utf-8").splitlines()
    for _ in range(data.draw(st.integers(1, 4))):
        index = data.draw(st.integers(0, len(lines) - 1))
        line = lines[index]
        cut = data.draw(st.integers(0, len(line)))
        pieces = st.sampled_from(
            ["", "[", "{", ": ", "- ", "&a ", "*a", "<<: ", "!!int ", "'", "\n", "null", "  ", "\t"]
        )
        lines[index] = data.draw(st.sampled_from([line[:cut], line[cut:], line + line[:cut], ""])) + data.draw(pieces)
    try:
        result = imported("\n".join(lines))
    except PolicyError as error:
        assert all(problem.message for problem in error.problems)
    else:
        compiled(result.policy)


def keys_in(value: Any, wanted: str) -> Iterator[str]:
    """Every key of the nested `value` that begins with `wanted`."""
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield from (key,) if str(key).startswith(wanted) else ()
        yield from keys_in(inner, wanted)
    for inner in value if isinstance(value, list) else ():
        yield from keys_in(inner, wanted)


@settings(max_examples=examples(400), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(config=CONFIG)
def test_whatever_the_config_the_policy_compiles_and_nothing_is_lost(config: dict[str, Any]) -> None:
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    try:
        result = imported(text)
        policy, notes = result.policy, result.notes
    except PolicyError as error:
        policy, notes = "", error.problems[1:]
        assert "no deployment of it can be imported" in error.problems[0].message
    told = "\n".join(map(str, notes))
    assert KEY not in policy + told
    assert "canary" not in policy + told
    targets = compiled(policy).snapshot.targets if policy else {}
    left_out = lines_of(notes, "left out")
    for deployment, line in zip(config["model_list"], lines_of_deployments(text), strict=True):
        if line in left_out:
            deployment.clear()  # the note speaks for all of its keys
            continue
        model = str(deployment["litellm_params"]["model"]).rpartition("/")[2]
        is_target = any(target.model.endswith(model) or "*" in model for target in targets.values())
        assert is_target or line in lines_of(notes, "twice")
    for name in keys_in(config, "zz_"):
        assert re.search(f"not imported: .*`{name}`", told)


def lines_of_deployments(text: str) -> list[int]:
    """Where each deployment begins."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    (found,) = (value for key, value in root.value if key.value == "model_list")
    return [item.start_mark.line + 1 for item in found.value]


def lines_of(notes: Sequence[Any], *words: str) -> set[int]:
    """The lines that a note with one of the words is about."""
    about = [note for note in notes if any(word in note.message for word in words)]
    also = (int(line) for note in about for line in re.findall(r"\d+", note.message.partition("(also on")[2]))
    return {note.line for note in about} | set(also)
