"""`spillway policy check`: exit status, problems with their places, and the summary."""

from __future__ import annotations

from pathlib import Path

import pytest
from proxy.cli.policy import VERBS, app
from proxy.policy.checks import Check, Severity
from tests.policy.corpus import BROKEN, DOUBTFUL, ENV, expected
from tests.policy.policies import DIGEST, two_lanes
from typer.testing import CliRunner, Result

POLICIES = Path(__file__).parents[2] / "policies"
SERVED = sorted(path for path in POLICIES.glob("*.yaml") if not path.name.endswith(".test.yaml"))


def check(*arguments: str, **env: str) -> Result:
    return CliRunner().invoke(app, ["check", *arguments], env=env)


def test_a_policy_that_is_fine_is_summed_up() -> None:
    result = check(str(POLICIES / "default.yaml"), OPENAI_API_KEY="sk-canary")
    assert result.exit_code == 0
    assert "default.yaml is fine: policy " in result.output
    assert "digest sha256:" in result.output
    for part in (
        "1 L40S at $1.00/h",
        "per M tokens (litellm 1.",
        "gpt-4.1-mini",
        "everything",
        "full at 64 in flight",
        "this machine only",
    ):
        assert part in result.output
    assert "sk-canary" not in result.output


def test_it_says_where_replicas_are_found_and_no_bound_that_there_is_not(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("""version: 1
targets:
  named: {lane: dedicated, dns: "vllm.gpu.svc:8000", model: m, max_in_flight: 8}
  asked: {lane: dedicated, kubernetes: {service: vllm, namespace: gpu}, model: m}
models: {m: [named, asked]}
""")
    named, asked = check(str(path)).output.partition("targets\n")[2].splitlines()[:2]
    assert named.endswith("  a replica at each address of vllm.gpu.svc; full at 8 in flight each")
    assert asked.endswith("  a replica for each ready pod of gpu/vllm")


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_a_broken_policy_is_told_with_place_mistake_and_remedy(path: Path) -> None:
    result = check(str(path), **ENV)
    stated = expected(path)
    assert result.exit_code == 1
    assert f"{path}:{stated.line}:" in result.output
    assert stated.says in result.output
    assert stated.hint in result.output
    assert result.output.endswith("\n1 problem\n")


def test_all_problems_are_told(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(two_lanes("routes: [{name: r, perfer: cost}, {name: s, deadline: 6}]"))
    result = check(str(path))
    assert "unknown key `perfer`" in result.output
    assert "duration without a unit: `6`" in result.output
    assert result.output.endswith("\n2 problems\n")


def test_a_path_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    result = check(str(tmp_path / "absent.yaml"))
    assert result.exit_code == 2
    assert "no such file or folder" in result.output


def test_warnings_do_not_fail_the_check(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(two_lanes(""))
    result = check(str(path))
    assert result.exit_code == 0
    assert f"warning: {path}:4:3: no price is known for `api`" in result.output
    assert "cost unknown" in result.output


@pytest.mark.parametrize("path", SERVED, ids=lambda path: path.stem)
def test_ci_can_check_without_the_secrets(path: Path) -> None:
    assert check(str(path)).exit_code == 1
    result = check(str(path), "--without-secrets", "--strict")
    assert result.exit_code == 0
    assert "warning: " not in result.output
    assert "advice: " not in result.output


def test_strict_lets_no_warning_pass(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(two_lanes(""))
    result = check(str(path), "--strict")
    assert result.exit_code == 1
    assert result.output.endswith("2 warnings, and --strict lets none pass\n")


@pytest.mark.parametrize("path", DOUBTFUL, ids=lambda path: path.stem)
def test_a_doubtful_policy_may_be_served_and_is_told(path: Path) -> None:
    stated = expected(path)
    result = check(str(path), **ENV)
    assert result.exit_code == 0
    assert f"{Check(stated.check).severity}: {path}:{stated.line}:" in result.output
    assert check(str(path), "--strict", **ENV).exit_code == (Check(stated.check).severity is Severity.WARNING)


def test_objectives_are_compared_with_what_was_seen(tmp_path: Path) -> None:
    path, seen = tmp_path / "policy.yaml", tmp_path / "seen.json"
    path.write_text(two_lanes("routes: [{name: r, want: {ttft_p99: 100ms}}]"))
    seen.write_text('{"targets": {"own": {"ttft_p99": 0.5}, "api": {"ttft_p99": 0.7}}}')
    assert "ever seen" not in check(str(path)).output
    assert "no target was ever seen to keep `ttft_p99`" in check(str(path), "--observed", str(seen)).output
    absent = check(str(path), "--observed", str(tmp_path / "absent"))
    assert absent.exit_code == 2
    assert "cannot be read: no such file" in absent.output


def test_the_schema_is_printed_as_it_is_committed() -> None:
    result = CliRunner().invoke(app, ["schema"])
    assert result.exit_code == 0
    assert result.stdout == (POLICIES / "schema.json").read_text("utf-8")


def test_every_verb_says_what_it_does() -> None:
    listing = CliRunner().invoke(app, ["--help"], terminal_width=200)
    assert listing.exit_code == 0
    for verb in VERBS:
        assert verb in listing.output
        assert CliRunner().invoke(app, [verb, "--help"]).exit_code == 0
    misspelt = CliRunner().invoke(app, ["chekc"])
    assert misspelt.exit_code == 2
    assert "Did you mean 'check'?" in misspelt.output


def test_the_summary_says_who_may_call_and_what_binds_whom(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(
        two_lanes(
            f'tenants: {{bank: {{keys: ["{DIGEST}"], tags: [gdpr]}}}}\n'
            "routes:\n"
            "  - {name: eu, match: {tags: gdpr, stream: true}, require: {region: eu-*, lane: dedicated, tags: iso}}\n"
            "  - {name: rest, want: {ttft_p99: 2s, usd_per_mtok: 1.5, uptime: 99.9%}, prefer: latency}\n"
        )
    )
    output = check(str(path)).output
    assert "callers: 1 key of bank" in output
    assert "tags gdpr; streamed" in output
    assert "require region eu-*; lane dedicated; tags iso" in output
    assert "want ttft_p99 2s; uptime 0.999; $1.50 per M tokens" in output
    assert "prefer latency" in output
    budgets = (
        "budgets:\n"
        "  - {name: cap, limit: [$5/day, $60/month], each: tenant, mode: shadow}\n"
        "  - {name: all, limit: $1/hour, match: {model: m}, exhausted: {downgrade: own-only}}\n"
    )
    path.write_text(two_lanes(f'tenants: {{bank: {{keys: ["{DIGEST}"]}}}}\n{budgets}'))
    lines = [" ".join(line.split()) for line in check(str(path)).output.splitlines()]
    assert lines[lines.index("budgets") + 1 : lines.index("callers: 1 key of bank")] == [
        "cap $5 a day and $60 a month for each of 1 shared money shadow then dedicated_only",
        "all $1 an hour shared money hard then downgrade to own-only",
    ]
    assert lines[lines.index("engine profiles") + 1] == (
        "own 70b-fp8-2xh100 assumed: neither `engine_profile` nor `gpus` and `model` tell "
        "{step: 16ms, sequence: 90us, context_token: 30ns, prefill_token: 70us, attention: 1.8ns, kv_tokens: 471000}"
    )
    path.write_text(two_lanes("auth: none"))
    assert "callers: everybody who reaches the port (auth: none)" in check(str(path)).output


@pytest.mark.parametrize(
    ("terms", "shown"),
    [
        ("replicas: 3", "3 replicas, each 4 H100 at $11.96/h"),
        ("replicas: {dns: own.svc}", "replicas as counted, each 4 H100 at $11.96/h"),
        (
            "reserved: {replicas: 1, usd_per_hour: 1.80}, schedule: {days: sat, usd_per_hour: 1.50}",
            "4 H100 at $11.96/h, 1 reserved at $7.20/h, $6.00/h sat 00:00-24:00 UTC",
        ),
    ],
)
def test_the_summary_has_the_terms_of_gpus(tmp_path: Path, terms: str, shown: str) -> None:
    path = tmp_path / "policy.yaml"
    gpus = f"gpus: {{type: H100, count: 4, usd_per_hour: 2.99, {terms}}}"
    path.write_text(two_lanes("").replace("retention: zero,", f"retention: zero, {gpus},"))
    assert shown in check(str(path)).output
