"""`spillway status`: what each target costs, how much spills and how much stands idle."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

PIPE_COLUMNS = 120
ADMIN_URL = "http://127.0.0.1:9090"

AdminUrl = Annotated[str, typer.Option(envvar="SPILLWAY_ADMIN_URL", help="Admin port of a running proxy.")]
RedisUrl = Annotated[str | None, typer.Option(help="Read this store instead: totals only, without shared prices.")]
DataDir = Annotated[Path | None, typer.Option(help="Read the embedded store below this folder, running or not.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


def status(
    admin_url: AdminUrl = ADMIN_URL, redis_url: RedisUrl = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Show live $/M tokens of each target, spill share and idle share."""
    from rich.console import Console

    from proxy.cli.status_source import StatusUnavailable, read_report
    from proxy.cli.status_table import print_report

    try:
        found = read_report(admin_url, redis_url, data_dir)
    except StatusUnavailable as error:
        typer.secho(f"error: {error}", fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(found.to_json())
    else:
        # A pipe has no width: give the table the room that it needs.
        print_report(found, Console() if sys.stdout.isatty() else Console(width=PIPE_COLUMNS))
