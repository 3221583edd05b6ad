"""`spillway policy check`: says all that is wrong with a policy, or what it amounts to and what looks odd in it."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from proxy.cli.policy_findings import Report
    from proxy.meters.prices import PriceList
    from proxy.policy.model import Price

app = typer.Typer(add_completion=False)


class Format(StrEnum):
    """How the findings are told."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="Policy file, or a folder of them")],
    output: Annotated[Format, typer.Option("--format", help="How to tell it")] = Format.TEXT,
    strict: Annotated[bool, typer.Option("--strict", help="Let warnings fail the check too")] = False,
    without_secrets: Annotated[
        bool,
        typer.Option("--without-secrets", help="Take environment variables that are not set as set, as CI needs it"),
    ] = False,
    observed: Annotated[
        str, typer.Option(metavar="FILE|URL", help="Latencies: a proxy's /metrics, saved or live, or JSON")
    ] = "",
) -> None:
    """Compile the policy as `serve` would, and look for what it cannot mean.

    Exit status: 0 fine, 1 it has mistakes (with --strict: or warnings), 2 there is no such file.
    """
    from proxy.cli.policy_findings import as_github, as_json, as_text
    from proxy.meters.prices import PriceListUnreadable
    from proxy.policy.checks import Severity

    if not path.exists():
        print(f"no such file or folder: `{path}`", file=sys.stderr)
        raise typer.Exit(2)
    try:
        report = _report(path, without_secrets, observed)
    except PriceListUnreadable as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    told = {Format.TEXT: as_text, Format.JSON: as_json, Format.GITHUB: as_github}[output]
    typer.echo(told(report, strict=strict))
    if report.count(Severity.ERROR) or (strict and report.count(Severity.WARNING)):
        raise typer.Exit(1)


def _report(path: Path, without_secrets: bool, observed: str) -> Report:
    from proxy.cli.policy_assumed import Assumed
    from proxy.cli.policy_findings import Report
    from proxy.cli.policy_observed import ObservationsUnreadable, read_observations
    from proxy.policy.compile import check_policy
    from proxy.policy.lint.lint import lint
    from proxy.policy.problem import PolicyError

    try:
        seen = read_observations(observed) if observed else {}
    except ObservationsUnreadable as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None
    env: Mapping[str, str] = Assumed(os.environ) if without_secrets else os.environ
    try:
        compiled = check_policy(path, env=env, price_of=_price_of)
    except PolicyError as error:
        return Report(path=str(path), snapshot=None, findings=error.problems)
    return Report(path=str(path), snapshot=compiled.snapshot, findings=lint(compiled, seen))


@functools.cache
def _prices() -> PriceList:
    from proxy.meters.prices import PriceList

    return PriceList.load()


def _price_of(provider: str, model: str) -> Price | None:
    return _prices().price_of(provider, model)
