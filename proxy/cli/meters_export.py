"""Writes the bill in FOCUS columns: CSV, JSON lines, or Parquet for DuckDB, pandas and data lakes.

Rows are written as they come: a bill need not fit into memory. Money is never a binary float: CSV and JSON have its
decimal digits, Parquet the type `decimal(38, 9)`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from itertools import islice
from typing import Any, BinaryIO

import msgspec

from proxy.meters.focus import COLUMNS, Type, Value

ROWS_AT_ONCE = 10_000
DECIMAL = (38, 9)
Row = Mapping[str, Value]


class Format(StrEnum):
    """How a bill is written."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


class NotInstalled(Exception):
    """A format needs a library that is not there; the text names what to install."""


def writer_of(output: Format) -> Callable[[Iterable[Row], BinaryIO], int]:
    """What writes rows to a binary stream and returns how many they were. Raises NotInstalled."""
    if output is Format.PARQUET:
        _pyarrow()
    return {Format.CSV: write_csv, Format.JSONL: write_jsonl, Format.PARQUET: write_parquet}[output]


def write_csv(rows: Iterable[Row], out: BinaryIO) -> int:
    """With a line of names (RFC 4180, but for the line breaks); what is not known is empty."""
    text = io.TextIOWrapper(out, "utf-8", newline="", write_through=False)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    count = 0
    for row in rows:
        writer.writerow([_spelled(row[name]) for name in COLUMNS])
        count += 1
    text.flush()
    text.detach()
    return count


def write_jsonl(rows: Iterable[Row], out: BinaryIO) -> int:
    """An object a line; dollars are number literals with all their digits, for readers that keep them."""
    encode = msgspec.json.Encoder(decimal_format="number").encode
    count = 0
    for batch in _batches(rows):
        out.write(b"".join([encode(row) + b"\n" for row in batch]))
        count += len(batch)
    return count


def write_parquet(rows: Iterable[Row], out: BinaryIO) -> int:
    """One row group for each ten thousand rows, compressed. Raises NotInstalled."""
    arrow = _pyarrow()
    from pyarrow import parquet

    types: dict[Type, Any] = {
        Type.TEXT: arrow.string(),
        Type.COUNT: arrow.int64(),
        Type.MONEY: arrow.decimal128(*DECIMAL),
        Type.QUANTITY: arrow.decimal128(*DECIMAL),
        Type.TIME: arrow.timestamp("ms", tz="UTC"),
    }
    schema = arrow.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    count = 0
    with parquet.ParquetWriter(out, schema, compression="zstd") as writer:
        for batch in _batches(rows):
            writer.write_table(arrow.Table.from_pylist(batch, schema=schema))
            count += len(batch)
    return count


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise NotInstalled("parquet needs pyarrow (hint: pip install 'spillway-proxy[parquet]')") from None
    return pyarrow


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    rest = iter(rows)
    while batch := list(islice(rest, ROWS_AT_ONCE)):
        yield batch


def _spelled(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"{value:f}" if isinstance(value, Decimal) else str(value)
