"""`spillway serve`: the proxy itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from proxy.meters.store_error import StoreUrlInvalid
from proxy.meters.store_url import store_url
from proxy.settings import Settings, data_dir, size_bytes

DecisionLog = Annotated[
    Path | None, typer.Option(envvar="SPILLWAY_DECISION_LOG", help="Append the request log to this file too")
]
MaxBytes = Annotated[
    str, typer.Option(envvar="SPILLWAY_DECISION_LOG_MAX_BYTES", metavar="SIZE", help="Rotate it at this size")
]
MaxAge = Annotated[
    str,
    typer.Option(envvar="SPILLWAY_DECISION_LOG_MAX_AGE", metavar="TIME", help="Rotate it each 1h, or 24h: at midnight"),
]
Keep = Annotated[
    int, typer.Option(envvar="SPILLWAY_DECISION_LOG_KEEP", min=1, help="Rotated files to keep, besides the present one")
]
Gzip = Annotated[
    bool, typer.Option("--decision-log-gzip", envvar="SPILLWAY_DECISION_LOG_GZIP", help="Compress rotated files")
]


def serve(
    policy: Annotated[Path, typer.Option(envvar="SPILLWAY_POLICY", help="Policy file, or a folder of them")],
    host: Annotated[str | None, typer.Option(envvar="SPILLWAY_HOST", help="Default: loopback without keys")] = None,
    port: Annotated[int, typer.Option(envvar="SPILLWAY_PORT", min=0, max=65535, help="Data port")] = 8080,
    admin_port: Annotated[
        int, typer.Option(envvar="SPILLWAY_ADMIN_PORT", min=0, max=65535, help="Metrics, health, admin")
    ] = 9090,
    redis_url: Annotated[str | None, typer.Option(envvar="SPILLWAY_REDIS_URL", help="Default: embedded")] = None,
    workers: Annotated[int, typer.Option(envvar="SPILLWAY_WORKERS", min=1, help="Worker processes")] = 1,
    decision_log: DecisionLog = None,
    decision_log_max_bytes: MaxBytes = "100MiB",
    decision_log_max_age: MaxAge = "",
    decision_log_keep: Keep = 10,
    decision_log_gzip: Gzip = False,
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
        redis_url=_store_url(redis_url),
        workers=workers,
        data_dir=data_dir(os.environ),
        decision_log=decision_log,
        decision_log_max_bytes=_size(decision_log_max_bytes),
        decision_log_max_age_s=_age(decision_log_max_age),
        decision_log_keep=decision_log_keep,
        decision_log_gzip=decision_log_gzip,
    )
    try:
        run(settings)
    except StartError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None


def _store_url(given: str | None) -> str | None:
    try:
        return None if given is None else store_url(given, os.environ)
    except StoreUrlInvalid as error:
        raise typer.BadParameter(str(error), param_hint="--redis-url") from None


def _size(text: str) -> int:
    try:
        return size_bytes(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--decision-log-max-bytes") from None


def _age(text: str) -> float | None:
    """Seconds; None for no such limit."""
    from proxy.policy.problem import Mistake
    from proxy.policy.units import duration_s

    if not text:
        return None
    try:
        return duration_s(text)
    except Mistake as mistake:
        message = f"{mistake.message} (hint: {mistake.hint})"
        raise typer.BadParameter(message, param_hint="--decision-log-max-age") from None
