"""`spillway policy explain`: where a request goes, and what kept it from everywhere else."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from proxy.cli.policy_explain_source import Found

PIPE_COLUMNS = 100

app = typer.Typer(add_completion=False)


class Format(StrEnum):
    """How the explanation is told."""

    TEXT = "text"
    JSON = "json"


@app.command()
def explain(
    path: Annotated[Path | None, typer.Argument(help="Policy file, or a folder of them")] = None,
    model: Annotated[str | None, typer.Option(help="The name that the app asks for")] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose request it is")] = None,
    key: Annotated[str | None, typer.Option(help="The name of the key it comes with, such as bank/ci")] = None,
    tags: Annotated[str | None, typer.Option(help="What it brings in x-spillway-tags: a,b")] = None,
    endpoint: Annotated[str | None, typer.Option(help="chat, completions, embeddings, responses, messages ...")] = None,
    traffic: Annotated[str | None, typer.Option(help="online or offline")] = None,
    stream: Annotated[bool | None, typer.Option("--stream/--no-stream", help="Whether it asks for a stream")] = None,
    modality: Annotated[str | None, typer.Option(help="What its prompt holds: image,audio ...")] = None,
    tools: Annotated[bool | None, typer.Option("--tools/--no-tools", help="Whether it has tools")] = None,
    input_tokens: Annotated[str | None, typer.Option(help="About how long its prompt is: 8k")] = None,
    max_output_tokens: Annotated[str | None, typer.Option(help="The limit that it sets to its answer")] = None,
    priority: Annotated[str | None, typer.Option(help="low, normal or high, at most the tenant's")] = None,
    lane: Annotated[str | None, typer.Option(help="What it asks for in x-spillway-lane")] = None,
    target: Annotated[str | None, typer.Option(help="What it asks for in x-spillway-target")] = None,
    at: Annotated[str | None, typer.Option(help="When: 2026-01-05T12:00+01:00; default: now")] = None,
    readings: Annotated[Path | None, typer.Option(help="Made-up readings, as in a policy test")] = None,
    exhausted: Annotated[str | None, typer.Option(help="Budgets to take as used up: growth-spill,...")] = None,
    request: Annotated[str | None, typer.Option(help="The id of a request in the log instead")] = None,
    log: Annotated[str, typer.Option(help="The request log that has it; - is standard input")] = "-",
    live: Annotated[str | None, typer.Option(help="Ask the proxy whose admin port this is: http://host:9090")] = None,
    output: Annotated[Format, typer.Option("--format", help="How to tell it")] = Format.TEXT,
) -> None:
    """Say which route and target a request gets, and why not the others. Nothing is sent to any model.

    Exit status: 0 it would be served, 1 it would be refused, 2 the question cannot be answered.
    """
    from proxy.cli.policy_explain_source import Unanswerable, find

    asked = {
        "model": model,
        "tenant": tenant,
        "key": key,
        "tags": _listed(tags),
        "endpoint": endpoint,
        "traffic": traffic,
        "stream": stream,
        "modality": _listed(modality),
        "tools": tools,
        "input_tokens": input_tokens,
        "max_output_tokens": max_output_tokens,
        "priority": priority,
        "lane": lane,
        "target": target,
        "at": at,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    try:
        found = find(path, live, given, readings, request, log, _listed(exhausted) or ())
    except Unanswerable as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None
    _show(found, output)
    raise typer.Exit(1 if found.refused else 0)


def _listed(words: str | None) -> list[str] | None:
    return None if words is None else [word.strip() for word in words.split(",") if word.strip()]


def _show(found: Found, output: Format) -> None:
    if output is Format.JSON:
        print(found.to_json())
        return
    from rich.console import Console

    from proxy.cli.policy_explain_table import print_found

    # A pipe has no width of its own.
    print_found(
        found, Console(highlight=False) if sys.stdout.isatty() else Console(width=PIPE_COLUMNS, highlight=False)
    )
