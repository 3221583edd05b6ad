"""`spillway serve`: the proxy itself."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from proxy.meters.store_error import StoreUrlInvalid
from proxy.meters.store_url import store_url
from proxy.settings import Settings, admin_token, data_dir, size_bytes

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

Drain = Annotated[
    str, typer.Option(envvar="SPILLWAY_DRAIN", metavar="TIME", help="After SIGTERM: for what is in flight to end")
]
DrainDelay = Annotated[
    str,
    typer.Option(envvar="SPILLWAY_DRAIN_DELAY", metavar="TIME", help="Before: take new requests still, not ready"),
]
TraceShared = Annotated[
    bool, typer.Option("--trace-shared", envvar="SPILLWAY_TRACE_SHARED", help="Tell shared providers trace ids too")
]
_NO_TIME = re.compile(r"0+(\.0+)?\s?(ms|[smhd])?")


def serve(
    policy: Annotated[Path, typer.Option(envvar="SPILLWAY_POLICY", help="Policy file, or a folder of them")],
    host: Annotated[str | None, typer.Option(envvar="SPILLWAY_HOST", help="Default: loopback without keys")] = None,
    port: Annotated[int, typer.Option(envvar="SPILLWAY_PORT", min=0, max=65535, help="Data port")] = 8080,
    admin_port: Annotated[
        int, typer.Option(envvar="SPILLWAY_ADMIN_PORT", min=0, max=65535, help="Metrics, health, admin")
    ] = 9090,
    redis_url: Annotated[str | None, typer.Option(envvar="SPILLWAY_REDIS_URL", help="Default: embedded")] = None,
    workers: Annotated[int, typer.Option(envvar="SPILLWAY_WORKERS", min=1, help="Worker processes")] = 1,
    drain: Drain = "30s",
    drain_delay: DrainDelay = "0s",
    decision_log: DecisionLog = None,
    decision_log_max_bytes: MaxBytes = "100MiB",
    decision_log_max_age: MaxAge = "",
    decision_log_keep: Keep = 10,
    decision_log_gzip: Gzip = False,
    trace_shared: TraceShared = False,
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
        drain_s=_time(drain, "--drain", zero=True),
        drain_delay_s=_time(drain_delay, "--drain-delay", zero=True),
        decision_log=decision_log,
        decision_log_max_bytes=_size(decision_log_max_bytes),
        decision_log_max_age_s=_time(decision_log_max_age, "--decision-log-max-age") if decision_log_max_age else None,
        decision_log_keep=decision_log_keep,
        decision_log_gzip=decision_log_gzip,
        trace_shared=trace_shared,
        admin_token=_admin_token(),
    )
    try:
        run(settings)
    except StartError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None


def _admin_token() -> str | None:
    try:
        return admin_token(os.environ)
    except ValueError as error:
        print(f"not started: {error}", file=sys.stderr)
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


def _time(text: str, flag: str, *, zero: bool = False) -> float:
    """Seconds; none at all only with `zero`."""
    from proxy.policy.problem import Mistake
    from proxy.policy.units import duration_s

    if zero and _NO_TIME.fullmatch(text.strip()):
        return 0.0
    try:
        return duration_s(text)
    except Mistake as mistake:
        raise typer.BadParameter(f"{mistake.message} (hint: {mistake.hint})", param_hint=flag) from None
