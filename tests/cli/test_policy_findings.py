"""Findings as JSON and as the workflow commands of GitHub Actions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from proxy.cli.policy import app
from proxy.cli.policy_findings import Report, as_github, as_text
from proxy.policy.checks import Check
from proxy.policy.problem import Problem
from tests.policy.corpus import BROKEN, DOUBTFUL, ENV, expected
from typer.testing import CliRunner


def as_json(path: Path, *options: str) -> tuple[int, dict[str, Any]]:
    result = CliRunner().invoke(app, ["check", str(path), "--format", "json", *options], env=ENV)
    return result.exit_code, json.loads(result.stdout)


def test_a_broken_policy_as_json() -> None:
    path = next(path for path in BROKEN if path.stem == "misspelt_key")
    status, told = as_json(path)
    assert status == 1
    (finding,) = told.pop("findings")
    assert told == {"policy": str(path), "digest": None, "ok": False, "errors": 1, "warnings": 0, "advice": 0}
    stated = expected(path)
    assert {key: finding[key] for key in ("check", "severity", "file", "line")} == {
        "check": stated.check,
        "severity": "error",
        "file": str(path),
        "line": stated.line,
    }
    assert stated.says in finding["message"]
    assert stated.hint in finding["hint"]
    assert finding["column"] >= 1


def test_a_policy_that_may_be_served_as_json() -> None:
    path = next(path for path in DOUBTFUL if path.stem == "unused_model")
    status, told = as_json(path)
    assert (status, told["ok"], told["warnings"], len(told["digest"])) == (0, True, 1, 64)
    status, told = as_json(path, "--strict")
    assert (status, told["ok"]) == (1, False)


def test_a_finding_about_the_file_has_no_line(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(b"x" * (9 << 20))
    _, told = as_json(path)
    (finding,) = told["findings"]
    assert (finding["check"], finding["line"], finding["column"]) == ("unreadable-file", None, None)


def test_github_is_told_in_its_own_words() -> None:
    path = next(path for path in BROKEN if path.stem == "misspelt_key")
    result = CliRunner().invoke(app, ["check", str(path), "--format", "github"], env=ENV)
    stated = expected(path)
    assert result.exit_code == 1
    command, counts = result.stdout.splitlines()
    assert command.startswith(f"::error file={path},title={stated.check},line={stated.line},col=")
    assert stated.says in command.partition("::error")[2].partition("::")[2]
    assert counts == f"{path}: 1 errors, 0 warnings, 0 advice"


def test_what_commands_give_a_meaning_is_escaped() -> None:
    odd = Problem("a,b:c%\n.yaml", 1, 2, "50% of `x` is ::error:: text", "remove, it", Check.CHUNK_SIZE)
    told = as_github(Report(path="p", snapshot=None, findings=(odd,)), strict=False).splitlines()
    assert told[0] == (
        "::notice file=a%2Cb%3Ac%25%0A.yaml,title=chunk-size,line=1,col=2"
        "::50%25 of `x` is ::error:: text (hint: remove, it)"
    )


def test_text_is_coloured_for_whoever_can_see_it() -> None:
    problem = Problem("p.yaml", 1, 2, "wrong", "right", Check.SYNTAX)
    text = as_text(Report(path="p", snapshot=None, findings=(problem,)), strict=False)
    assert "\x1b[" in text
    plain = CliRunner().invoke(app, ["check", str(BROKEN[0])], env=ENV)
    assert "\x1b[" not in plain.stdout
