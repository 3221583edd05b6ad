"""`spillway meters`: what was used and what it cost, summed by any dimension, or row by row for FinOps tools."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, NoReturn

import typer
from typer.core import TyperGroup

from proxy.cli.status import ADMIN_URL, PIPE_COLUMNS, AdminUrl

if TYPE_CHECKING:
    from proxy.cli.meters_report import Dimension
    from proxy.cli.meters_source import Ledger


class _ReportByDefault(TyperGroup):
    """`spillway meters --by tenant` is `spillway meters report --by tenant`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = ["report", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="meters", cls=_ReportByDefault, add_completion=False, help="What was used and what it cost, by any dimension."
)


class Told(StrEnum):
    """How a report is told."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class Grain(StrEnum):
    """How long the periods of an export are."""

    MINUTE = "minute"
    HOUR = "hour"


class Format(StrEnum):
    """How an export is written."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


From = Annotated[str, typer.Option("--from", metavar="TIME", help="2026-11-22, 2026-11-22T18:00Z, -24h, yesterday")]
To = Annotated[str, typer.Option("--to", metavar="TIME", help="Likewise; the hour that it lies in is included")]


@app.command()
def report(
    by: Annotated[
        str, typer.Option(help="Any of tenant, key, model, route, target, lane, hour, day, month")
    ] = "target",
    from_: From = "-24h",
    to: To = "now",
    told: Annotated[Told, typer.Option("--format", help="How to tell it")] = Told.TABLE,
    admin_url: AdminUrl = ADMIN_URL,
) -> None:
    """Sum up requests, tokens and both kinds of money, in whole hours, from a running proxy."""
    from rich.console import Console

    from proxy.cli import meters_report as reports

    dimensions = _dimensions(by)
    ledger = _ledger(admin_url, from_, to, Grain.HOUR)
    with _told_errors():
        found = reports.report(ledger.bill(), dimensions)
    if told is Told.TABLE:
        console = Console() if sys.stdout.isatty() else Console(width=PIPE_COLUMNS + 40)
        reports.as_table(found, dimensions, console)
    else:
        typer.echo((reports.as_json if told is Told.JSON else reports.as_csv)(found, dimensions), nl=told is Told.JSON)


@app.command()
def export(
    from_: From,
    to: To = "now",
    output: Annotated[Format, typer.Option("--format", help="Parquet needs the extra `parquet`")] = Format.CSV,
    grain: Annotated[Grain, typer.Option(help="Minutes are kept for two days, hours for 400")] = Grain.HOUR,
    file: Annotated[Path | None, typer.Option("-o", "--output", help="Default: standard output")] = None,
    admin_url: AdminUrl = ADMIN_URL,
) -> None:
    """Write every series of every period, and the GPU time of every hour, in FOCUS columns.

    The sum of BilledCost is the bill: tokens at shared targets, and GPUs by the clock, used or idle. The same sum,
    given to whoever used the GPUs, is that of EffectiveCost.
    """
    from proxy.cli import meters_export as exports
    from proxy.meters.focus import focus_row

    ledger = _ledger(admin_url, from_, to, grain)
    if file is None and output is Format.PARQUET and sys.stdout.isatty():
        _fail("parquet is not for terminals (hint: name a file with `-o`)")
    with _told_errors():
        write = exports.writer_of(exports.Format(output))
        with _out(file) as out:
            count = write((focus_row(line, ledger.targets) for line in ledger.bill()), out)
    if file is not None:
        print(f"{count:,} rows in {file}", file=sys.stderr)


def _ledger(admin_url: str, from_: str, to: str, grain: Grain) -> Ledger:
    from proxy.cli.meters_source import Ledger
    from proxy.cli.meters_time import point_in_time
    from proxy.meters import aggregates

    now_s = time.time()
    try:
        begin, end = point_in_time(from_, now_s), point_in_time(to, now_s)
    except ValueError as error:
        _fail(str(error))
    if end <= begin:
        _fail(f"`--to {to}` is not after `--from {from_}`")
    return Ledger(admin_url, begin, end, aggregates.Grain(grain))


def _dimensions(by: str) -> tuple[Dimension, ...]:
    from proxy.cli.meters_report import Dimension
    from proxy.policy.words import did_you_mean

    known = [one.value for one in Dimension]
    words = [word.strip() for word in by.split(",")]
    for word in words:
        if word not in known:
            _fail(f"nothing is counted by `{word}` (hint: {did_you_mean(word, known)})")
    return tuple(dict.fromkeys(map(Dimension, words)))


@contextlib.contextmanager
def _told_errors() -> Iterator[None]:
    from proxy.cli.meters_export import NotInstalled
    from proxy.cli.meters_source import MetersUnavailable

    try:
        yield
    except (MetersUnavailable, NotInstalled) as error:
        _fail(str(error))


@contextlib.contextmanager
def _out(file: Path | None) -> Iterator[BinaryIO]:
    """Standard output, or a file that takes its name only once it is complete."""
    if file is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        part = Path(name)
        try:
            with open(descriptor, "wb") as out:  # noqa: PTH123  (a descriptor, not a path)
                yield out
            umask = os.umask(0)
            os.umask(umask)
            part.chmod(0o666 & ~umask)
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        _fail(f"`{file}` cannot be written: {(error.strerror or type(error).__name__).lower()}")


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(1)
