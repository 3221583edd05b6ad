"""`spillway policy test`: exit status, formats, coverage and `--update`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from proxy.cli.policy_assumed import Assumed, compiled
from proxy.cli.policy_test import app
from proxy.policy.urls import base_url
from proxy.policy.words import region
from typer.testing import CliRunner, Result

POLICIES = Path(__file__).parents[2] / "policies"
SHIPPED = sorted(path for path in POLICIES.glob("*.yaml") if path.with_suffix(".test.yaml").exists())

POLICY = """version: 1
targets:
  own: {lane: dedicated, url: "http://own:8000/v1", model: up, region: eu-west-1, max_in_flight: 8}
  api: {lane: shared, url: "https://api.example.com/v1", model: up, api_key: "${KEY}", price: {input: 1, output: 2}}
models: {chat: [own, api]}
tenants: {bank: {keys: ["sha256:${BANK}"]}, games: {keys: ["sha256:${GAMES}"]}}
routes: [{name: default, prefer: cost}]
"""
CASES = """defaults: {model: chat, tenant: bank}
cases:
  - {name: stays, expect: {attempts: [own, api]}}  # while there is room
  - name: spills
    readings: {own: {in_flight: 8}}
    expect: {cause: spillover}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "eu.yaml"
    path.write_text(POLICY)
    path.with_suffix(".test.yaml").write_text(CASES)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_cases_beside_the_policy_are_run(policy: Path) -> None:
    result = run(policy)
    assert result.exit_code == 0, result.output
    assert result.stdout == "ok    stays\nok    spills\n2 passed; coverage 100% (1 of 1)\n"


def test_a_folder_has_all_its_cases_run(policy: Path) -> None:
    policy.with_name("more.test.yaml").write_text(CASES.replace("name: ", "name: again "))
    assert "4 passed" in run(policy.parent).stdout


def test_a_case_that_fails_fails_the_run(policy: Path) -> None:
    file = policy.with_name("wrong.test.yaml")
    file.write_text(CASES.replace("spillover", "preferred"))
    result = run(policy, "--file", file)
    assert result.exit_code == 1
    assert f"FAIL  spills  ({file}:4:5)" in result.stdout
    assert "cause: expected preferred, got spillover" in result.stdout


def test_nothing_to_run_is_told_apart(policy: Path) -> None:
    assert run(policy.with_name("absent.yaml")).exit_code == 2
    assert run(policy, "--file", policy.with_name("absent.test.yaml")).exit_code == 2
    policy.with_suffix(".test.yaml").unlink()
    result = run(policy)
    assert result.exit_code == 2
    assert "no cases: there is no `" in result.stderr
    assert run(policy.parent).exit_code == 2


def test_mistakes_are_told_with_their_places(policy: Path) -> None:
    file = policy.with_suffix(".test.yaml")
    file.write_text(CASES.replace("cause", "cuase"))
    result = run(policy)
    assert result.exit_code == 1
    assert f"{file}:6:14: unknown key `cuase` in `expect` (hint: did you mean `cause`?)" in result.stdout
    policy.write_text(POLICY.replace("lane", "lnae"))
    assert "unknown key `lnae`" in run(policy).stdout


def test_an_update_is_shown_and_then_passes(policy: Path) -> None:
    file = policy.with_suffix(".test.yaml")
    file.write_bytes(b"\xef\xbb\xbf" + CASES.replace("spillover", "preferred").replace("[own, api]", "[api]").encode())
    result = run(policy, "--update")
    assert result.exit_code == 0
    assert "+  - {name: stays, expect: {attempts: [own, api]}}  # while there is room" in result.stderr
    assert "-    expect: {cause: preferred}" in result.stderr
    assert file.read_bytes() == b"\xef\xbb\xbf" + CASES.encode()
    again = run(policy, "--update")
    assert (again.exit_code, again.stderr) == (0, "")


def test_an_empty_expectation_is_filled_in(policy: Path) -> None:
    file = policy.with_suffix(".test.yaml")
    file.write_text(CASES.replace("{cause: spillover}", "{}"))
    assert run(policy).exit_code == 1
    assert run(policy, "--update").exit_code == 0
    assert "expect: {route: default, attempts: [api], cause: spillover}" in file.read_text()


def test_too_little_coverage_fails_the_run(policy: Path) -> None:
    policy.write_text(POLICY.replace("prefer: cost", "require: {rpm: 10}"))
    assert run(policy).exit_code == 0
    result = run(policy, "--coverage-min", "100%")
    assert result.exit_code == 1
    assert "not covered: route default require.rpm never broken" in result.stdout
    assert "the cases see less of the policy than 100%" in result.stderr
    assert run(policy, "--coverage-min", "60%").exit_code == 0
    assert run(policy, "--coverage-min", "much").exit_code == 2


def test_programs_get_json_and_ci_junit(policy: Path) -> None:
    assert json.loads(run(policy, "--format", "json").stdout)["passed"] == 2
    assert '<testcase name="spills"' in run(policy, "--format", "junit").stdout


def test_variables_that_are_not_set_are_assumed(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BANK", raising=False)
    snapshot = compiled(policy)
    assert {key.tenant.name for key in snapshot.keys.values()} == {"bank", "games"}
    assert Assumed({"A": "set"}).get("A") == "set"
    assert Assumed().get("A") != Assumed().get("B")
    assert base_url(Assumed().get("AZURE_API_BASE")) != base_url(Assumed().get("OWN_URL"))
    assert base_url(Assumed().get("AZURE_ENDPOINT_EU"))
    assert region(Assumed().get("AWS_REGION_NAME"))
    assert len(Assumed().get("URL_SIGNING_KEY")) == 64


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_policy_passes_its_own_tests_which_see_all_of_it(path: Path) -> None:
    result = run(path, "--coverage-min", "100%")
    assert result.exit_code == 0, result.output
