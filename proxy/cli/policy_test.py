"""`spillway policy test`: puts the cases beside a policy to the router that serves it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from proxy.cases.case import Result
    from proxy.cases.report import Run
    from proxy.policy.model import Snapshot

app = typer.Typer(add_completion=False)


class Format(StrEnum):
    """How the run is told."""

    TEXT = "text"
    JSON = "json"
    JUNIT = "junit"


@app.command()
def test(
    path: Annotated[Path, typer.Argument(help="Policy file, or a folder of them")],
    file: Annotated[list[Path] | None, typer.Option(help="Cases; default: NAME.test.yaml beside the policy")] = None,
    update: Annotated[bool, typer.Option("--update", help="Rewrite what the cases expect to what is decided")] = False,
    output: Annotated[Format, typer.Option("--format", help="How to tell it")] = Format.TEXT,
    coverage_min: Annotated[str, typer.Option(help="Fail when the cases see less, such as 100%")] = "",
) -> None:
    """Run the policy's cases. Exit status: 0 all pass, 1 one fails or cannot be read, 2 no such file, or no cases.

    Environment variables that are not set are taken as set.
    """
    from proxy.cli.policy_assumed import compiled, listing
    from proxy.meters.prices import PriceListUnreadable
    from proxy.policy.problem import PolicyError

    least = _share(coverage_min)
    files = _files(path, file or [])
    try:
        snapshot = compiled(path)
        if update:
            for one in files:
                _update(one, snapshot)
        run = _run(snapshot, files)
    except PolicyError as error:
        print(listing(error.problems))
        raise typer.Exit(1) from None
    except PriceListUnreadable as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    _print(run, output)
    enough = run.coverage.share >= least
    if not enough:
        print(f"the cases see less of the policy than {coverage_min}", file=sys.stderr)
    if run.failed or not enough:
        raise typer.Exit(1)


def _share(value: str) -> float:
    from proxy.policy.problem import Mistake
    from proxy.policy.units import share

    try:
        return share(value) if value else 0.0
    except Mistake as mistake:
        raise typer.BadParameter(f"{mistake.message} (hint: {mistake.hint})", param_hint="--coverage-min") from None


def _files(path: Path, stated: list[Path]) -> tuple[Path, ...]:
    from proxy.cases.case import files_of

    for one in (path, *stated):
        if not one.exists():
            print(f"no such file or folder: `{one}`", file=sys.stderr)
            raise typer.Exit(2)
    files = tuple(stated) or files_of(path)
    if not files:
        where = f"`*.test.yaml` in `{path}`" if path.is_dir() else f"`{path.with_name(path.stem)}.test.yaml`"
        print(f"no cases: there is no {where} (hint: write one, or name a file with `--file`)", file=sys.stderr)
        raise typer.Exit(2)
    return files


def _run(snapshot: Snapshot, files: tuple[Path, ...]) -> Run:
    from proxy.cases.coverage import coverage
    from proxy.cases.report import Run

    results = tuple(result for file in files for result in _results(file, snapshot))
    seen = coverage(snapshot, [(result.case.given, result.decision) for result in results])
    return Run(snapshot=snapshot, results=results, coverage=seen)


def _results(file: Path, snapshot: Snapshot, *, may_be_empty: bool = False) -> Iterator[Result]:
    from proxy.cases.case import judge, read_cases, read_file
    from proxy.routing.decide import Router

    router = Router(snapshot)
    cases = read_cases(read_file(file), snapshot, may_be_empty=may_be_empty)
    return (judge(case, router) for case in cases)


def _update(file: Path, snapshot: Snapshot) -> None:
    """Rewrite what the file's cases expect, and show what has changed."""
    from difflib import unified_diff

    from proxy.cases.case import read_file
    from proxy.cases.update import updated

    before = read_file(file).text
    after = updated(before, _results(file, snapshot, may_be_empty=True))
    if after == before:
        return
    mark = b"\xef\xbb\xbf"
    data = after.encode()
    file.write_bytes(mark + data if file.read_bytes().startswith(mark) else data)
    lines = unified_diff(before.splitlines(), after.splitlines(), str(file), str(file), lineterm="")
    print("\n".join(lines), file=sys.stderr)


def _print(run: Run, output: Format) -> None:
    from proxy.cases.report import as_json, as_junit, told

    match output:
        case Format.TEXT:
            print("\n".join(told(run)))
        case Format.JSON:
            print(json.dumps(as_json(run), indent=2))
        case Format.JUNIT:
            print(as_junit(run))
