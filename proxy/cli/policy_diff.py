"""`spillway policy diff`: what one policy decides differently from another, for recorded or made-up requests."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from proxy.cases.compare import Side
    from proxy.cases.request import Request
    from proxy.policy.model import Snapshot
    from proxy.routing.readings import Readings

app = typer.Typer(add_completion=False)

IDLE, FULL, SPENT = "every target idle", "dedicated targets full", "budgets used up while dedicated targets are full"


class Format(StrEnum):
    """How the difference is told."""

    TEXT = "text"
    JSON = "json"


@app.command()
def diff(
    before: Annotated[Path, typer.Argument(help="The policy that is: a file, or a folder of them")],
    after: Annotated[Path, typer.Argument(help="The policy that would be")],
    log: Annotated[list[Path] | None, typer.Option(help="Request log to take the requests from; `-` is stdin")] = None,
    readings: Annotated[str, typer.Option(help="idle, full, or a YAML file of them; default: both")] = "",
    output: Annotated[Format, typer.Option("--format", help="How to tell it")] = Format.TEXT,
) -> None:
    """Say what would change. Exit status, as of `diff`: 0 nothing, 1 something, 2 a file cannot be read.

    Without a log the requests are made up, from whatever the policies tell apart.

    Environment variables that are not set are taken as set.
    """
    from proxy.cases.compare import Side
    from proxy.cases.contrast import contrast
    from proxy.cases.contrast_report import Basis, as_json, told
    from proxy.cli.policy_assumed import compiled, listing
    from proxy.meters.prices import PriceListUnreadable
    from proxy.policy.problem import PolicyError

    try:
        both = compiled(before), compiled(after)
        states = _states(readings, both)
    except PolicyError as error:
        _fail(listing(error.problems))
    except PriceListUnreadable as error:
        _fail(str(error))
    sides = [Side(one, {name: seen[index] for name, seen in states.items()}, {SPENT}) for index, one in enumerate(both)]
    requests, words = _recorded(log, sides[0], both) if log else _generated(both)
    found = contrast(requests, tuple(states), *sides)
    basis = Basis(before=str(before), after=str(after), requests=words, states=tuple(states))
    if output is Format.JSON:
        print(json.dumps(as_json(found, basis), indent=2))
    else:
        print("\n".join(told(found, basis)))
    if found.differs:
        raise typer.Exit(1)


def _fail(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    raise typer.Exit(2)


def _states(readings: str, both: tuple[Snapshot, Snapshot]) -> Mapping[str, tuple[Readings, Readings]]:
    """By name of each state, the readings of either policy's targets in it."""
    from proxy.cases.compare import full_readings

    idle: tuple[Readings, Readings] = ({}, {})
    full = full_readings(both[0]), full_readings(both[1])
    match readings:
        case "":
            return {IDLE: idle, FULL: full} | ({SPENT: full} if any(one.budgets for one in both) else {})
        case "idle":
            return {IDLE: idle}
        case "full":
            return {FULL: full}
        case path:
            return {f"the readings of {path}": _read_readings(Path(path), both)}


def _read_readings(path: Path, both: tuple[Snapshot, Snapshot]) -> tuple[Readings, Readings]:
    """The readings in a file, a mapping by target name; each policy takes those of its own targets."""
    from proxy.cases.observed import read_readings
    from proxy.policy.document import read_document
    from proxy.policy.findings import Findings
    from proxy.policy.problem import PolicyError
    from proxy.policy.source import read_source

    document = read_document(read_source(path).files, {})
    findings = Findings(document)
    if findings.problems:
        raise PolicyError(findings.problems)
    found = []
    for own, other in (both, both[::-1]):
        known = {
            name: value for name, value in document.root.items() if name in own.targets or name not in other.targets
        }
        found.append(read_readings(known, own, (), findings))
    if findings.problems:
        raise PolicyError(findings.problems)
    return found[0], found[1]


def _generated(both: tuple[Snapshot, Snapshot]) -> tuple[Counter[Request], str]:
    from proxy.cases.contrast_report import counted
    from proxy.cases.generated import MAX_REQUESTS, generated

    made = generated(*both)
    count = counted(len(made.requests), "made-up request")
    if made.possible > MAX_REQUESTS:
        return Counter(made.requests), f"{count}, from all over {made.possible:,} combinations"
    return Counter(made.requests), f"{count} ({made.possible:,} combinations, each request once)"


def _recorded(logs: list[Path], recorder: Side, both: tuple[Snapshot, Snapshot]) -> tuple[Counter[Request], str]:
    """The requests of the logs, without the tags that their keys had when they were recorded."""
    from proxy.cases.compare import own_tags
    from proxy.cases.contrast_report import counted
    from proxy.cases.recorded import read_log

    with_time = any(route.match.schedule for snapshot in both for route in snapshot.routes)
    found = read_log(_lines(logs), with_time=with_time)
    if not found.requests:
        _fail(f"no request in {', '.join(f'`{path}`' for path in logs)} (hint: name the request log, one JSON a line)")
    if found.passed_over:
        noise = "line is no request, and was" if found.passed_over == 1 else "lines are no requests, and were"
        print(f"{found.passed_over:,} {noise} passed over", file=sys.stderr)
    requests: Counter[Request] = Counter()
    for request, count in found.requests.items():
        requests[own_tags(request, recorder)] += count
    return requests, f"{counted(requests.total(), 'recorded request')}, {len(requests):,} of them different"


def _lines(logs: list[Path]) -> Iterator[bytes]:
    from proxy.cli.log_lines import log_lines

    for path in logs:
        if str(path) == "-":
            yield from sys.stdin.buffer
            continue
        try:
            yield from log_lines(path)
        except OSError as error:
            _fail(f"`{path}` cannot be read: {(error.strerror or type(error).__name__).lower()}")
