"""`spillway policy check`: exit status, problems with their places, and the summary."""

from __future__ import annotations

from pathlib import Path

import pytest
from proxy.cli.policy import app
from tests.policy.corpus import BROKEN, ENV, expected
from tests.policy.policies import DIGEST, two_lanes
from typer.testing import CliRunner, Result

POLICIES = Path(__file__).parents[2] / "policies"


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
    path.write_text(two_lanes("routes: [{name: r, perfer: cost}, {name: s, deadline: 6h}]"))
    result = check(str(path))
    assert "unknown key `perfer`" in result.output
    assert "`deadline` is not supported yet" in result.output
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


def test_ci_can_check_without_the_secrets() -> None:
    path = str(POLICIES / "default.yaml")
    assert check(path).exit_code == 1
    assert check(path, "--without-secrets").exit_code == 0


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
    path.write_text(two_lanes("auth: none"))
    assert "callers: everybody who reaches the port (auth: none)" in check(str(path)).output
