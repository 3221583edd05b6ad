"""The `spillway` command: one small file a verb."""

from __future__ import annotations


def main() -> None:
    """The console script. Verbs are imported here, so that importing `proxy` costs nothing."""
    from proxy.cli.command import app

    app(prog_name="spillway")
