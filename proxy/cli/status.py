"""`spillway status`: what each target costs, how much spills and how much stands idle."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from proxy.meters.embedded import EmbeddedStore, EmbeddedStoreError
from proxy.meters.money import format_usd
from proxy.meters.report import MeterReport, Period, TargetReport, report
from proxy.meters.store import Store, StoreError
from proxy.meters.store_folder import StoreFolder
from proxy.meters.summary import summarise
from proxy.policy.model import Lane

ADMIN_URL = "http://127.0.0.1:9090"
FETCH_TIMEOUT_S = 5.0

AdminUrl = Annotated[str, typer.Option(envvar="SPILLWAY_ADMIN_URL", help="Admin port of a running proxy.")]
RedisUrl = Annotated[str | None, typer.Option(help="Read the store itself instead: totals only, no shared prices.")]
DataDir = Annotated[Path | None, typer.Option(help="Read the embedded store below this folder, running or not.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


class StatusUnavailable(Exception):
    """There is nothing to show; the text says why, and what to do."""


def status(
    admin_url: AdminUrl = ADMIN_URL, redis_url: RedisUrl = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Show live $/M tokens of each target, spill share and idle share."""
    try:
        found = _read(admin_url, redis_url, data_dir)
    except (StatusUnavailable, EmbeddedStoreError, StoreError) as error:
        _fail(str(error))
    if as_json:
        typer.echo(found.to_json())
        return
    console = Console()
    for period in (found.recent, found.total):
        if period is not None:
            console.print(period_table(period))
            console.print(summary_line(period))
    if not found.connected:
        console.print(f"[yellow]the store has not been reached for {found.lag_s:.0f} s: newer counts are in memory[/]")


def period_table(period: Period) -> Table:
    """One period as a table, a row a target."""
    title = "since the beginning" if period.seconds is None else f"last {_duration(period.seconds)}"
    table = Table(title=title, title_justify="left", title_style="bold")
    for name in ("target", "lane"):
        table.add_column(name)
    for name in ("requests", "spilled", "failed", "tokens in", "cached", "tokens out"):
        table.add_column(name, justify="right")
    for name in ("cost", "$/M tokens", "shared $/M", "GPU-hours", "busy", "idle"):
        table.add_column(name, justify="right")
    for row in period.targets:
        table.add_row(*_cells(row))
    return table


def summary_line(period: Period) -> str:
    """One period in a sentence."""
    spill = "no requests yet" if period.spill_share is None else f"{period.spill_share:.1%} of requests spilled"
    return (
        f"{spill}; {format_usd(period.dedicated_nano_usd)} for GPUs, {format_usd(period.shared_nano_usd)} to providers"
    )


def _cells(row: TargetReport) -> list[str]:
    tokens = [f"{count:,}" for count in (row.input_tokens, row.cached_input_tokens, row.output_tokens)]
    cost = _usd(row.nano_usd)
    return [
        row.target,
        row.lane.value,
        f"{row.attempts:,}",
        f"{row.spilled:,}" if row.lane is Lane.SHARED else "",
        f"{row.failures:,}",
        *tokens,
        f"{cost} + {row.unpriced_attempts:,} unpriced" if row.unpriced_attempts else cost,
        _usd(row.nano_usd_per_mtok),
        _usd(row.shared_nano_usd_per_mtok) if row.lane is Lane.DEDICATED else "",
        "" if row.gpu_hours is None else f"{row.gpu_hours:,.2f}",
        "" if row.busy_share is None else f"{row.busy_share:.0%}",
        "" if row.idle_share is None else f"{row.idle_share:.0%}",
    ]


def _usd(nano_usd: int | None) -> str:
    return "unknown" if nano_usd is None else format_usd(nano_usd)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _read(admin_url: str, redis_url: str | None, data_dir: Path | None) -> MeterReport:
    if redis_url is not None and data_dir is not None:
        raise StatusUnavailable("`--redis-url` and `--data-dir` name two stores; give one of them")
    if redis_url is not None:
        return asyncio.run(_from_store(redis_url))
    if data_dir is not None:
        return _from_folder(data_dir)
    return _from_proxy(admin_url)


def _from_proxy(admin_url: str) -> MeterReport:
    url = f"{admin_url.rstrip('/')}/admin/meters"
    if not url.startswith(("http://", "https://")):
        raise StatusUnavailable(f"`{admin_url}` is no URL; it starts with `http://` or `https://`")
    try:
        with urllib.request.urlopen(url, timeout=FETCH_TIMEOUT_S) as response:  # noqa: S310  (scheme checked above)
            return MeterReport.from_json(response.read())
    except msgspec.MsgspecError:
        raise StatusUnavailable(f"`{url}` does not answer like a Spillway of this release") from None
    except urllib.error.HTTPError as error:
        raise StatusUnavailable(f"`{url}` answers {error.code}; {_reason(error)}") from None
    except OSError as error:
        raise StatusUnavailable(
            f"no proxy answers at `{admin_url}`: {getattr(error, 'reason', error)}; "
            "start one with `spillway serve`, or name its store with `--redis-url` or `--data-dir`"
        ) from None


def _reason(error: urllib.error.HTTPError) -> str:
    return "its store is away" if error.code == 503 else "is that the admin port of a Spillway?"


def _from_folder(data_dir: Path) -> MeterReport:
    folder = StoreFolder(data_dir)
    if not folder.path.is_dir():
        raise StatusUnavailable(f"no store in `{data_dir}`; is it the data folder of a proxy?")
    try:
        return asyncio.run(_from_store(f"unix://{folder.socket}"))
    except StoreError:
        # No proxy runs there: start the server on its files for as long as it takes to read them.
        with EmbeddedStore(data_dir) as embedded:
            return asyncio.run(_from_store(embedded.url))
    finally:
        folder.release()


async def _from_store(url: str) -> MeterReport:
    store = Store(url)
    try:
        totals = await store.read_totals()
    finally:
        await store.aclose()
    return report(summarise(totals), None, {}, {}, processes=totals.processes)


def _fail(problem: str) -> NoReturn:
    typer.secho(f"error: {problem}", fg=typer.colors.RED, err=True)
    raise typer.Exit(1)
