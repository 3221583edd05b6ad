"""What `spillway policy check` found, as text, as JSON, and as the workflow commands of GitHub Actions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import typer

from proxy.cli.policy_summary import summary
from proxy.policy.checks import Severity
from proxy.policy.model import Snapshot
from proxy.policy.problem import Problem

_COLOURS = {
    Severity.ERROR: typer.colors.RED,
    Severity.WARNING: typer.colors.YELLOW,
    Severity.ADVICE: typer.colors.CYAN,
}
_COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.ADVICE: "notice"}
_PLURALS = {Severity.ERROR: "errors", Severity.WARNING: "warnings", Severity.ADVICE: "advice"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The findings in one policy, in the order of the files; `snapshot` is None when it has errors."""

    path: str
    snapshot: Snapshot | None
    findings: tuple[Problem, ...]

    def count(self, severity: Severity) -> int:
        """How many findings weigh so much."""
        return sum(finding.severity is severity for finding in self.findings)


def as_text(report: Report, *, strict: bool) -> str:
    """The errors and how many they are, or a summary of the policy and what looks odd in it."""
    return "\n".join(_lines(report, strict))


def _lines(report: Report, strict: bool) -> Iterator[str]:
    if report.snapshot is None:
        yield from map(_coloured, report.findings)
        yield _number(len(report.findings), "problem")
        return
    yield from summary(report.snapshot)
    for finding in report.findings:
        yield typer.style(f"{finding.severity}: ", fg=_COLOURS[finding.severity]) + _coloured(finding)
    warnings = report.count(Severity.WARNING)
    if strict and warnings:
        yield f"{_number(warnings, 'warning')}, and --strict lets none pass"


def _coloured(finding: Problem) -> str:
    remedy = f" (hint: {finding.hint})" if finding.hint else ""
    where = typer.style(f"{finding.where}:", bold=True)
    return f"{where} {finding.message}{typer.style(remedy, dim=True) if remedy else ''}"


def _number(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def as_json(report: Report, *, strict: bool) -> str:
    """One object: `policy`, `digest` (null with errors), `ok`, how many findings of each severity, and the findings.

    A finding has `check`, `severity`, `file`, `line` and `column` (null where it is about the file), `message`, `hint`.
    """
    counts = {_PLURALS[severity]: report.count(severity) for severity in Severity}
    whole = {
        "policy": report.path,
        "digest": report.snapshot.digest if report.snapshot else None,
        "ok": not counts["errors"] and not (strict and counts["warnings"]),
        **counts,
        "findings": [_object(finding) for finding in report.findings],
    }
    return json.dumps(whole, indent=2)


def _object(finding: Problem) -> dict[str, object]:
    return {
        "check": finding.check.value,
        "severity": finding.severity.value,
        "file": finding.path,
        "line": finding.line or None,
        "column": finding.column or None,
        "message": finding.message,
        "hint": finding.hint,
    }


def as_github(report: Report, *, strict: bool) -> str:
    """A workflow command for each finding: GitHub shows them beside the lines of a pull request."""
    commands = [_command(finding) for finding in report.findings]
    counts = ", ".join(f"{report.count(severity)} {_PLURALS[severity]}" for severity in Severity)
    return "\n".join([*commands, f"{report.path}: {counts}"])


def _command(finding: Problem) -> str:
    place = {"file": finding.path, "title": finding.check.value}
    if finding.line:
        place |= {"line": str(finding.line), "col": str(finding.column)}
    properties = ",".join(f"{name}={_property(value)}" for name, value in place.items())
    remedy = f" (hint: {finding.hint})" if finding.hint else ""
    return f"::{_COMMANDS[finding.severity]} {properties}::{_data(finding.message + remedy)}"


def _data(text: str) -> str:
    """As `@actions/core` escapes a command's message."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """As `@actions/core` escapes a command's property."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")
