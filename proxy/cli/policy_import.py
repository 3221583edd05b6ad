"""`spillway policy import litellm`: a policy from the config of a LiteLLM proxy."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from proxy.policy.from_litellm.document import Note

app = typer.Typer(no_args_is_help=True, help="Make a policy of another proxy's config.")


@app.callback()
def _import() -> None:
    """Make a policy of another proxy's config."""


@app.command()
def litellm(
    config: Annotated[Path, typer.Argument(help="The file that LiteLLM is started with")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to write; default: print it")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="A name that callers use and only a wildcard such as `openai/*` has; repeatable"),
    ] = None,
) -> None:
    """Turn a LiteLLM config into a policy; what has no equivalent is told on stderr, with what to do instead.

    Exit status: 0 written, 1 it is no such config or nothing of it can be imported, 2 there is no such file.
    """
    from proxy.policy.from_litellm.config import import_config
    from proxy.policy.problem import PolicyError
    from proxy.policy.source import read_source

    if not config.is_file():
        print(f"no such file: `{config}`", file=sys.stderr)
        raise typer.Exit(2)
    try:
        (file,) = read_source(config).files
        imported = import_config(file, model or ())
    except PolicyError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    _tell(imported.notes)
    if output is None:
        print(imported.policy, end="")
    else:
        _write(output, imported.policy)
    found = f"{_count(imported.target_count, 'target')}, {_count(imported.model_count, 'model')}"
    checked = output or "FILE"
    notes = _count(len(imported.notes), "note")
    print(f"{found}, {notes}; next: spillway policy check --without-secrets {checked}", file=sys.stderr)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        print(f"cannot write `{path}`: {(error.strerror or type(error).__name__).lower()}", file=sys.stderr)
        raise typer.Exit(1) from None


def _tell(notes: Iterable[Note]) -> None:
    for note in notes:
        print(note, file=sys.stderr)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
