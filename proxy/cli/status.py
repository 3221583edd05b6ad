"""`spillway status`: what each target costs, how much spills and stands idle, what budgets have left, where the time
goes, which policy.
"""

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
    """Show live $/M tokens of each target, spill and idle share, budgets, rates, latency, and the policy served."""
    from rich.console import Console

    from proxy.cli.status_latency import print_latency
    from proxy.cli.status_source import StatusUnavailable, read_found, read_latency, read_meters, read_policy
    from proxy.cli.status_standing import print_standing
    from proxy.cli.status_table import print_found, print_policy, print_report, to_json

    try:
        found = read_meters(admin_url, redis_url, data_dir)
        asked_a_proxy = redis_url is None and data_dir is None
        policy = read_policy(admin_url) if asked_a_proxy else None
        latency = read_latency(admin_url) if asked_a_proxy else None
        pods = read_found(admin_url) if asked_a_proxy else {}
    except StatusUnavailable as error:
        typer.secho(f"error: {error}", fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(to_json(found, policy, latency, pods))
        raise typer.Exit(0 if found.report is not None else 1)
    # A pipe has no width: give the table the room that it needs.
    console = Console() if sys.stdout.isatty() else Console(width=PIPE_COLUMNS)
    if found.report is not None:
        print_report(found.report, console)
    if found.standing is not None:
        print_standing(found.standing, console)
    if latency is not None:
        print_latency(latency, console)
    print_found(pods, console)
    if policy is not None:
        print_policy(policy, console)
    if found.report is None:
        typer.secho(f"error: `{admin_url}` has no figures: its store is away", fg=typer.colors.RED, err=True)
        raise typer.Exit(1)
