"""`spillway top`: what a running proxy does right now, in the terminal."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from proxy.cli.status import ADMIN_URL, AdminUrl

Once = Annotated[bool, typer.Option("--once", help="Print one frame and end")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the view as JSON: a line a second, or one with --once")]


def top(admin_url: AdminUrl = ADMIN_URL, once: Once = False, as_json: AsJson = False) -> None:
    """Watch targets, routes, money, budgets and the last decisions of a running proxy. Ctrl-C ends it."""
    from proxy.cli.admin_port import AdminPortError
    from proxy.cli.top_run import run, show_once

    try:
        if once:
            show_once(admin_url, as_json=as_json)
        else:
            run(admin_url, as_json=as_json)
    except AdminPortError as error:
        typer.secho(f"error: {error}", fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from None
    except BrokenPipeError:
        # Whoever read the pipe has seen enough; the interpreter would flush into it once more.
        sys.stdout = None
