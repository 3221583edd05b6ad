"""`spillway policy diff`: exit status, where the requests come from, and in which state they are decided."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from proxy.cli.policy_diff import app
from typer.testing import CliRunner, Result

POLICY = """version: 1
targets:
  own:
    lane: dedicated
    urls: ["http://own-0:8000/v1", "http://own-1:8000/v1"]
    model: up
    region: eu-west-1
    max_in_flight: 8
  api: {lane: shared, url: "https://api.example.com/v1", model: up, region: us, price: {input: 1, output: 2}}
models: {chat: [own, api]}
tenants: {bank: {keys: ["sha256:${BANK}"], tags: [gdpr]}, games: {keys: ["sha256:${GAMES}"]}}
routes:
  - {name: eu, match: {tags: [gdpr]}, require: {region: eu-*}}
  - {name: default, want: {ttft_p99: 2s}}
"""


def line(**members: object) -> str:
    told: dict[str, object] = {"event": "request", "at": 1.0, "tenant": "bank", "model": "chat", "endpoint": "chat"}
    return json.dumps(told | members) + "\n"


@pytest.fixture
def before(tmp_path: Path) -> Path:
    path = tmp_path / "before.yaml"
    path.write_text(POLICY)
    return path


@pytest.fixture
def after(tmp_path: Path) -> Path:
    path = tmp_path / "after.yaml"
    path.write_text(POLICY.replace("require: {region: eu-*}", "want: {region: eu-*}"))
    return path


def run(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


def test_a_policy_does_not_differ_from_itself(before: Path) -> None:
    result = run(before, before)
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("no change\n")


def test_budgets_are_asked_with_and_without_money(before: Path, tmp_path: Path) -> None:
    capped = tmp_path / "capped.yaml"
    capped.write_text(POLICY + "budgets: [{name: cap, limit: $5/day, match: {tenant: games}}]\n")
    result = run(before, capped)
    assert result.exit_code == 1
    assert "and with budgets used up while dedicated targets are full" in result.stdout
    assert "served -> 429 budget_exceeded" in result.stdout
    assert "budget cap limit: none -> $5 a day" in result.stdout


def test_what_widens_is_said_first(before: Path, after: Path) -> None:
    result = run(before, after)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[1] == (
        "2 made-up requests (4 combinations, each request once), "
        "decided with every target idle and with dedicated targets full"
    )
    assert lines[2] == "WIDENS: 1 request may go where they could not before"
    assert "region `us`: 1 request of tenant bank on route eu may reach `api`" in lines[3]
    assert run(after, before).stdout.count("WIDENS") == 0


def test_recorded_requests_are_put_to_both(before: Path, after: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.log", tmp_path / "b.log"
    first.write_text("listening\n" + line(tags=["gdpr"]) * 3 + line(tenant="games"))
    second.write_text(line(at=2.0, tags=["gdpr"]))
    result = run(before, after, "--log", first, "--log", second, "--format", "json")
    assert result.exit_code == 1
    assert "1 line is no request, and was passed over" in result.stderr
    found = json.loads(result.stdout)
    assert (found["requests"], found["decisions"], found["changed"], found["widened"]) == (5, 10, 8, 4)
    assert [(one["what"], one["decisions"]) for one in found["summary"]["tenant"]] == [("bank", 8)]


def test_a_log_may_come_from_a_pipe(before: Path) -> None:
    result = run(before, before, "--log", "-", stdin=line(tenant="games"))
    assert result.exit_code == 0
    assert "1 recorded request, 1 of them different" in result.stdout


def test_a_tag_that_the_policy_takes_from_its_tenant_is_missed(before: Path, tmp_path: Path) -> None:
    """The recorded tags hold the tenant's own; under the new policy it has none."""
    untagged, log = tmp_path / "untagged.yaml", tmp_path / "a.log"
    untagged.write_text(POLICY.replace(", tags: [gdpr]}, games", "}, games"))
    log.write_text(line(tags=["gdpr"]))
    found = json.loads(run(before, untagged, "--log", log, "--format", "json").stdout)
    assert found["summary"]["route"][0]["what"] == "eu -> default"
    assert found["widenings"][0]["value"] == "us"


def test_one_state_may_be_asked_for(before: Path, tmp_path: Path) -> None:
    smaller = tmp_path / "smaller.yaml"
    smaller.write_text(POLICY.replace("max_in_flight: 8", "max_in_flight: 4"))
    readings = tmp_path / "readings.yaml"
    readings.write_text("own: [{in_flight: 5}, {in_flight: 5}]\n")
    for state in ("idle", "full"):
        assert "0 of 2 decisions change" in run(before, smaller, "--readings", state).stdout
    result = run(before, smaller, "--readings", readings)
    assert result.exit_code == 1
    assert "own -> api" in result.stdout
    assert "target own max_in_flight: 8 -> 4" in result.stdout


def test_readings_may_be_of_a_target_that_only_one_policy_has(before: Path, tmp_path: Path) -> None:
    more, readings = tmp_path / "more.yaml", tmp_path / "readings.yaml"
    new = '  new: {lane: dedicated, url: "http://new:1/v1", model: up, region: eu-west-1}\n'
    more.write_text(POLICY.replace("models: {chat: [", f"{new}models: {{chat: [new, "))
    readings.write_text("new: {in_flight: 300}\n")
    assert run(before, more, "--readings", "idle").exit_code == 1
    assert "no change" in run(before, more, "--readings", readings).stdout
    readings.write_text("nwe: {in_flight: 300}\n")
    result = run(before, more, "--readings", readings)
    assert result.exit_code == 2
    assert f"{readings}:1:1: unknown target `nwe`" in result.stderr


def test_what_cannot_be_read_is_trouble(before: Path, tmp_path: Path) -> None:
    broken, absent = tmp_path / "broken.yaml", tmp_path / "absent.yaml"
    broken.write_text(POLICY.replace("lane", "lnae"))
    assert run(before, broken).exit_code == 2
    assert "unknown key `lnae`" in run(before, broken).stderr
    assert run(absent, before).exit_code == 2
    assert run(before, before, "--log", absent).exit_code == 2
    assert run(before, before, "--readings", absent).exit_code == 2
    empty = tmp_path / "empty.log"
    empty.touch()
    result = run(before, before, "--log", empty)
    assert result.exit_code == 2
    assert "no request in" in result.stderr
