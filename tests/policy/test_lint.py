"""Each lint finds what it is for, once, and says nothing of policies that make sense."""

from __future__ import annotations

from pathlib import Path

import pytest
from proxy.policy.checks import Severity
from proxy.policy.compile import check_policy
from proxy.policy.lint.lint import lint
from proxy.policy.lint.secrets import looks_random
from proxy.policy.lint.speed import Observed
from proxy.policy.problem import Problem
from tests.policy.corpus import DOUBTFUL, ENV, expected
from tests.policy.policies import DIGEST, compiled, no_price

OTHER = "sha256:" + "fedcba9876543210" * 4
SOUND = """version: 1
targets:
  own: {lane: dedicated, engine: vllm, url: "http://own:8000/v1", model: llama, region: eu-west-1, retention: zero,
        gpus: {type: H100, count: 1, usd_per_hour: 2.99}, quantization: fp8, training: false}
  api: {lane: shared, url: "https://api.example.com/v1", model: llama, region: us, retention: 7d,
        price: {input: 1, output: 2}}
models:
  m: [own, api]
"""


def findings(path: Path, observed: Observed | None = None) -> tuple[Problem, ...]:
    return lint(check_policy(path, env=ENV, price_of=no_price), observed or {})


def found(tmp_path: Path, rest: str, observed: Observed | None = None) -> list[str]:
    """The names of what the lints find in `SOUND` with `rest`."""
    return [finding.check.value for finding in lint(compiled(tmp_path, SOUND + rest), observed or {})]


@pytest.mark.parametrize("path", DOUBTFUL, ids=lambda path: path.stem)
def test_a_doubtful_policy_is_told_with_place_and_remedy(path: Path) -> None:
    stated = expected(path)
    told = findings(path)
    assert sorted(one.check for one in told) == sorted(filter(None, (stated.check, stated.also)))
    (finding,) = [one for one in told if one.check == stated.check]
    assert (finding.path, finding.line) == (str(path), stated.line)
    assert finding.column >= 1
    assert stated.says in finding.message
    assert stated.hint in finding.hint
    assert finding.message[0] in "`$" or finding.message[0].islower()


@pytest.mark.parametrize("path", DOUBTFUL, ids=lambda path: path.stem)
def test_no_finding_repeats_a_secret(path: Path) -> None:
    told = "\n".join(map(str, findings(path)))
    for secret in (ENV["OPENAI_API_KEY"], "sk-proj", "Zk3vQ9xT1bL7", "abcdefghijklmnop"):
        assert secret not in told


@pytest.mark.parametrize(
    "routes",
    [
        "",
        "routes: [{name: eu, match: {tags: gdpr}, require: {region: eu-*}}, {name: default}]\n",
        "routes: [{name: a, want: {ttft_p50: 1s, ttft_p99: 2s, e2e_p99: 9s, perceived_tps_p50: 30, itl_p99: 80ms}}]\n",
        "routes: [{name: a, require: {ttft_p99: 2s}, want: {ttft_p99: 1s, region: eu-*}, prefer: dedicated}]\n",
        "routes: [{name: a, match: {tools: true}, require: {usd_per_mtok: 2}}, {name: default}]\n",
    ],
)
def test_a_policy_that_makes_sense_is_left_alone(tmp_path: Path, routes: str) -> None:
    assert found(tmp_path, routes) == []


@pytest.mark.parametrize(
    "budget",
    [
        "limit: $5/day",
        "limit: [$1/hour, $20/day, $100/week, $400/month, $1000/total]",
        "limit: [$5/day, $155/month]",
        "limit: $5/day, each: key, match: {key: a/ci}",
        "limit: $5/day, each: tenant, exhausted: reject",
        "limit: $5/day, match: {tenant: b, tags: eu}",
        "limit: $5/day, match: {key: a/ci, route: eu, target: api}",
        "limit: $5/day, exhausted: {downgrade: small}",
        "limit: $5/day, lane: dedicated, exhausted: {downgrade: hosted}",
        "limit: $5/day, match: {model: hosted}, enforce: shadow",
        "limit: $5/day, match: {model: hosted}, exhausted: reject",
    ],
)
def test_budgets_that_make_sense_are_left_alone(tmp_path: Path, budget: str) -> None:
    models = SOUND + "  small: [own]\n  hosted: [api]\n"
    tenants = f"""tenants:
  a: {{keys: [{{name: ci, digest: "{DIGEST}"}}], tags: [eu]}}
  b: {{keys: ["{OTHER}"], request_tags: [eu]}}
"""
    routes = f"routes: [{{name: eu, match: {{tags: eu}}}}, {{name: default}}]\nbudgets: [{{name: cap, {budget}}}]\n"
    assert lint(compiled(tmp_path, models + tenants + routes)) == ()


def test_a_hard_budget_without_a_price_is_told_once_of_each_target(tmp_path: Path) -> None:
    text = SOUND.replace("price: {input: 1, output: 2}", "training: false")
    caps = "budgets: [{name: a, limit: $5/day}, {name: b, limit: $5/week}]\n"
    (told,) = lint(compiled(tmp_path, text + caps))
    assert (told.check.value, told.message.rpartition(": ")[2]) == (
        "unpriced-budget",
        "hard budget `a` never lets it be used",
    )
    soft = lint(compiled(tmp_path, text + caps.replace("}", ", enforce: soft}")))
    assert [one.check.value for one in soft] == ["unknown-price"]


def test_a_month_has_at_most_six_weeks_and_a_week_168_hours(tmp_path: Path) -> None:
    def idle(limits: str) -> list[str]:
        told = lint(compiled(tmp_path, SOUND + f"budgets: [{{name: a, limit: [{limits}]}}]\n"))
        return [one.message.partition("`/")[2].partition("`")[0] for one in told]

    assert idle("$10/week, $60/month") == []
    assert idle("$10/week, $61/month") == ["month"]
    assert idle("$1/hour, $168/week") == []
    assert idle("$1/hour, $169/week") == ["week"]
    assert idle("$10/week, $10/total") == ["week"]
    assert idle("$10/week, $100000/total") == []


def test_a_wish_for_what_is_required_is_pointless(tmp_path: Path) -> None:
    assert found(tmp_path, "routes: [{name: a, require: {ttft_p99: 2s}, want: {ttft_p99: 2s}}]\n") == ["pointless-rule"]


def test_of_two_objectives_that_are_alike_one_is_pointless(tmp_path: Path) -> None:
    (told,) = lint(compiled(tmp_path, SOUND + "routes: [{name: a, want: {itl_p99: 50ms, perceived_tps: 20}}]\n"))
    assert "`want.perceived_tps` changes nothing: `itl_p99` beside it asks for as much" in told.message


def test_a_list_of_precisions_says_what_is_good_enough(tmp_path: Path) -> None:
    assert found(tmp_path, "routes: [{name: r, require: {quantization: [bf16, fp8]}}]\n") == ["unused-target"]


def test_a_shadow_that_something_passes_is_left_alone(tmp_path: Path) -> None:
    assert found(tmp_path, "routes: [{name: r, require: {region: eu-*, mode: shadow}}]\n") == []


def test_tenants_that_are_served_are_left_alone(tmp_path: Path) -> None:
    tenants = f'tenants:\n  a: {{keys: ["{DIGEST}"], request_tags: [eu], rpm: 600}}\n  b: {{keys: ["{OTHER}"]}}\n'
    routes = "routes: [{name: eu, match: {tags: eu}, require: {region: eu-*}}, {name: default}]\n"
    assert found(tmp_path, tenants + routes) == []


def test_a_tenant_is_judged_by_the_routes_that_its_keys_and_tags_reach(tmp_path: Path) -> None:
    tenant = f'tenants: {{a: {{keys: [{{name: ci, digest: "{DIGEST}", tags: [near]}}], models: [us-only], MORE}}}}\n'
    routes = """routes:
  - {name: eu, match: {MATCH}, require: {region: eu-*}}
  - {name: default}
"""

    def unservable(match: str, more: str = "") -> bool:
        text = SOUND.replace("m: [own, api]", "m: [own, api]\n  us-only: [api]")
        rest = tenant.replace("MORE", more or "tags: []") + routes.replace("MATCH", match)
        return "unservable-tenant" in [one.check for one in lint(compiled(tmp_path, text + rest))]

    assert unservable("tenant: a")
    assert unservable("key: a/ci")
    assert unservable("tags: near")
    assert unservable("tags: mine", "tags: [mine]")
    assert not unservable("tags: mine", "request_tags: [mine]")
    assert not unservable("tenant: a, stream: true")
    assert not unservable("tenant: a, model: m")


def test_an_objective_that_no_target_was_seen_to_keep(tmp_path: Path) -> None:
    routes = "routes: [{name: r, want: {ttft_p99: 200ms}}]\n"
    slow = {"own": {"ttft_p99": 0.5}, "api": {"ttft_p99": 0.25}}
    told = lint(compiled(tmp_path, SOUND + routes), slow)
    assert [one.check.value for one in told] == ["objective-too-tight"]
    assert "the fastest, `api`, needs more than 250 ms" in told[0].message
    assert found(tmp_path, routes, {**slow, "api": {"ttft_p99": 0.1}}) == []
    assert found(tmp_path, routes, {"own": {"ttft_p99": 0.5}}) == []


def test_perceived_speed_is_compared_as_the_gap_that_it_allows(tmp_path: Path) -> None:
    routes = "routes: [{name: r, want: {perceived_tps: 50}}]\n"
    told = lint(compiled(tmp_path, SOUND + routes), {"own": {"itl_p99": 0.03}, "api": {"itl_p99": 0.05}})
    assert "50 tokens/s is allowed, and the fastest, `own`, needs more than 30 ms" in told[0].message


def test_a_chunk_that_was_set_as_advised_is_left_alone(tmp_path: Path) -> None:
    sized = SOUND.replace("model: llama, region: eu-west-1", "model: llama-70b, region: eu-west-1, max_in_flight: 32")
    sized = sized.replace("count: 1", "count: 2") + "routes: [{name: r, want: {itl_p99: 50ms}}]\n"
    (advice,) = lint(compiled(tmp_path, sized))
    assert advice.severity is Severity.ADVICE
    key = advice.hint.partition("`")[2].rstrip("`")
    assert key.startswith("max_batched_tokens: ")
    assert lint(compiled(tmp_path, sized.replace("quantization: fp8", f"quantization: fp8, {key}"))) == ()
    (again,) = lint(compiled(tmp_path, sized.replace("quantization: fp8", "quantization: fp8, max_batched_tokens: 8k")))
    assert again == advice


@pytest.mark.parametrize(
    "value",
    [
        "meta-llama/Llama-3.3-70B-Instruct-Turbo-Free",
        "https://my-resource-name.cognitiveservices.azure.com/openai/v1",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0bb22cd15d6c15b0f00a09",
        "accounts/fireworks/models/llama-v3p3-70b-instruct",
        "organizationinternalnamespace",
    ],
)
def test_names_are_not_taken_for_keys(value: str) -> None:
    assert not looks_random(value)


def test_what_was_drawn_by_lot_is() -> None:
    assert looks_random("Zk3vQ9xT1bL7wPq4Rn8sYd2H")
    assert looks_random("key=9f86d081884c7d659a2feaa0c55ad015")
    assert not looks_random("https://api.example.com/accounts/9f86d081884c7d659a2feaa0c55ad015/v1", is_url=True)
