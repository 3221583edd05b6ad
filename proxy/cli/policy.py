"""`spillway policy`: its verbs, each in a file of its own that is imported when the verb is used."""

from __future__ import annotations

import importlib
from typing import Any

import typer
from typer.core import TyperGroup

VERBS = ("check", "schema", "explain", "test", "diff", "import")
"""`spillway policy NAME` is `app` of `proxy.cli.policy_NAME`: one command, or a group of them."""


class _Verbs(TyperGroup):
    """Knows the verbs by name, for its help and for suggestions, and imports one when it is asked for."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        names: dict[str, Any] = dict.fromkeys(VERBS)
        self.commands = names

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands:
            return None
        command = typer.main.get_command(importlib.import_module(f"proxy.cli.policy_{cmd_name}").app)
        command.name = cmd_name
        return command


app = typer.Typer(name="policy", cls=_Verbs, no_args_is_help=True, help="Work on a policy before it serves.")


@app.callback()
def _policy() -> None:
    """Work on a policy before it serves."""
