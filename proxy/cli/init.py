"""`spillway init`: five answers become a commented policy, a test file beside it, and the result of a check."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from proxy.policy.compile import Compiled
    from proxy.policy.starter.answers import Answers
    from proxy.policy.targets import PriceOf


def init(
    answers: Annotated[
        Path | None, typer.Option(help="Answers in YAML, instead of asking; `-` is standard input")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The policy to write")] = Path("policy.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there")] = False,
) -> None:
    """Ask five questions, and write a policy, its tests, and what to do next.

    Exit status: 0 written and nothing found, 1 refused or something was found, 2 there is no such file of answers.
    """
    from proxy.meters.prices import PriceList, PriceListUnreadable
    from proxy.policy.problem import PolicyError

    tests = _beside(output)
    _keep(output, tests, force)
    try:
        price_of = PriceList.load().price_of
        given = _asked(price_of) if answers is None else _read(answers)
        found = _write(given, output, tests, price_of)
    except PolicyError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    except (PriceListUnreadable, OSError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    _tell_what_next(given, output)
    if found:
        raise typer.Exit(1)


def _beside(output: Path) -> Path:
    if output.suffix not in (".yaml", ".yml") or output.name.endswith((".test.yaml", ".test.yml")):
        raise typer.BadParameter(f"`{output}` is no name for a policy (hint: end it in `.yaml`)", param_hint="--output")
    return output.with_name(f"{output.stem}.test.yaml")


def _keep(output: Path, tests: Path, force: bool) -> None:
    """Refuse before anything is asked."""
    for path in (output, tests):
        if path.exists() and not force:
            hint = "name another with `-o`, or overwrite it with `--force`"
            print(f"`{path}` exists already (hint: {hint})", file=sys.stderr)
            raise typer.Exit(1)
    if not output.parent.is_dir():
        print(f"no such folder: `{output.parent}`", file=sys.stderr)
        raise typer.Exit(1)


def _asked(price_of: PriceOf) -> Answers:
    from proxy.cli.init_questions import interview
    from proxy.policy.providers import known_providers

    return interview(price_of, known_providers())


def _read(path: Path) -> Answers:
    from proxy.policy.source import SourceFile, read_source
    from proxy.policy.starter.answers import read_answers

    if str(path) == "-":
        return read_answers(SourceFile("standard input", sys.stdin.read()))
    if not path.is_file():
        print(f"no such file: `{path}`", file=sys.stderr)
        raise typer.Exit(2)
    return read_answers(read_source(path).files[0])


def _write(answers: Answers, output: Path, tests: Path, price_of: PriceOf) -> bool:
    """Write the policy, and the tests if it compiles; returns whether anything was found in it."""
    from proxy.policy.lint.lint import lint
    from proxy.policy.problem import PolicyError
    from proxy.policy.starter.cases import starting_cases
    from proxy.policy.starter.plan import planned_routes, settled
    from proxy.policy.starter.text import starting_policy

    answers = settled(answers, price_of)
    text = starting_policy(answers)
    try:
        compiled = _compiled(text, output, price_of)
    except PolicyError as error:
        _save({output: text})
        print(f"wrote {output}, which needs mending:\n{error}")
        return True
    works = {route.name: route.work for route in planned_routes(answers)}
    _save({output: text, tests: starting_cases(compiled.snapshot, works, str(output))})
    print(f"wrote {output} and {tests}")
    findings = lint(compiled)
    for finding in findings:
        print(f"{finding.severity}: {finding}")
    if not findings:
        print("checked: nothing was found in it")
    return bool(findings)


def _compiled(text: str, output: Path, price_of: PriceOf) -> Compiled:
    from proxy.cli.policy_assumed import Assumed
    from proxy.policy.compile import check_source
    from proxy.policy.source import Source, SourceFile

    source = Source(str(output), (SourceFile(str(output), text),), "0" * 64)
    return check_source(source, env=Assumed(os.environ), price_of=price_of)


def _save(texts: dict[Path, str]) -> None:
    """Write whole files: an interruption leaves no half of one behind."""
    drafts = {path: path.with_name(f".{path.name}.{os.getpid()}") for path in texts}
    try:
        for path, text in texts.items():
            drafts[path].write_text(text, "utf-8")
        for path, draft in drafts.items():
            draft.replace(path)
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)


def _tell_what_next(answers: Answers, output: Path) -> None:
    from proxy.policy.starter.text import variables

    unset = [name for name in variables(answers) if not os.environ.get(name)]
    if unset:
        print(f"it reads {', '.join(unset)} from the environment: its first lines say how to set them")
    print("next:")
    print(f"  spillway policy test {output}")
    print(f"  spillway serve --policy {output}")
