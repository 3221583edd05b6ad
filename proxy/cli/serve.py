"""`spillway serve`: the proxy itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from proxy.settings import Settings, data_dir


def serve(
    policy: Annotated[Path, typer.Option(envvar="SPILLWAY_POLICY", help="Policy file, or a folder of them")],
    host: Annotated[str | None, typer.Option(envvar="SPILLWAY_HOST", help="Default: loopback without keys")] = None,
    port: Annotated[int, typer.Option(envvar="SPILLWAY_PORT", min=0, max=65535, help="Data port")] = 8080,
    admin_port: Annotated[
        int, typer.Option(envvar="SPILLWAY_ADMIN_PORT", min=0, max=65535, help="Metrics, health, admin")
    ] = 9090,
    redis_url: Annotated[str | None, typer.Option(envvar="SPILLWAY_REDIS_URL", help="Default: embedded")] = None,
    workers: Annotated[int, typer.Option(envvar="SPILLWAY_WORKERS", min=1, help="Worker processes")] = 1,
) -> None:
    """Serve the policy until SIGINT or SIGTERM."""
    from proxy.run import run
    from proxy.serving import StartError

    settings = Settings(
        policy=policy,
        host=host,
        port=port,
        admin_host=os.environ.get("SPILLWAY_ADMIN_HOST"),
        admin_port=admin_port,
        redis_url=redis_url,
        workers=workers,
        data_dir=data_dir(os.environ),
    )
    try:
        run(settings)
    except StartError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
