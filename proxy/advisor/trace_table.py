"""Reads the table that a trace file holds, whatever its format, and knows which line a row came from.

The format is told by the content, not by the name: logs that were rotated have a time for a suffix. Arrow's readers do
the work, on all cores; a file that they refuse is gone through once more, slowly, for the line that is wrong.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pyarrow
from pyarrow import csv, json, parquet

SNIFFED_BYTES = 1 << 16
_GZIP = b"\x1f\x8b"
_LOGGED = re.compile(rb'"event"\s*:\s*"request"')
_ROW = re.compile(r"Row #([0-9]+): (.*)", re.DOTALL)


class TraceUnreadable(Exception):
    """A trace cannot be read; the text says why, where, and what to do."""


class Format(Enum):
    """What a trace is written in."""

    CSV = "CSV"
    JSON_LINES = "JSON lines"
    PARQUET = "Parquet"
    LOG = "decision log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Columns by their names in the file; `place` is where a row stands, for a reader who has to correct it."""

    columns: dict[str, Any]
    place: Callable[[int], str]


def format_of(path: Path) -> Format:
    """By its first bytes. Raises TraceUnreadable for what cannot be opened or is empty."""
    with opened(path) as file:
        head = file.read(SNIFFED_BYTES)
    if not head.strip():
        raise TraceUnreadable(f"`{path}` is empty (hint: a trace has a line of names and a line for each request)")
    if head.startswith(b"PAR1"):
        return Format.PARQUET
    if _LOGGED.search(head):
        return Format.LOG
    begin = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if begin == b"[":
        raise TraceUnreadable(f"`{path}` is one JSON array (hint: write an object a line; `jq -c '.[]'` does it)")
    return Format.JSON_LINES if begin == b"{" else Format.CSV


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, unpacked where they are gzip. Raises TraceUnreadable, also while it is being read."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == _GZIP
            raw.seek(0)
            if not packed:
                yield raw
                return
            with gzip.open(raw) as file:
                yield file  # type: ignore[misc]
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise TraceUnreadable(f"the archive `{path}` is cut off or damaged") from None
    except OSError as error:
        raise TraceUnreadable(f"cannot read `{path}`: {(error.strerror or str(error)).lower()}") from None


def table_of(path: Path, found: Format, wanted: Callable[[Collection[str]], Collection[str]]) -> Table:
    """The columns that `wanted` picks of those that there are. Raises TraceUnreadable."""
    read = {Format.CSV: _csv, Format.JSON_LINES: _json_lines, Format.PARQUET: _parquet}[found]
    return read(path, wanted)


def _parquet(path: Path, wanted: Callable[[Collection[str]], Collection[str]]) -> Table:
    try:
        with path.open("rb") as file:
            pages = parquet.ParquetFile(file)
            return _table(pages.read(columns=list(wanted(pages.schema_arrow.names))), lambda row: f"{path}, row {row}")
    except (pyarrow.ArrowException, OSError) as error:
        raise TraceUnreadable(f"`{path}` is no Parquet that can be read: {_first_line(error)}") from None


def _csv(path: Path, wanted: Callable[[Collection[str]], Collection[str]]) -> Table:
    cut = csv.ParseOptions(delimiter=_delimiter(path))
    try:
        with opened(path) as file, csv.open_csv(file, parse_options=cut) as begun:
            names = list(wanted(begun.schema.names))
        chosen = csv.ConvertOptions(include_columns=names, strings_can_be_null=True)
        with opened(path) as file:
            table = csv.read_csv(file, parse_options=cut, convert_options=chosen)
        return _table(table, lambda row: _line(path, row + 1))
    except pyarrow.ArrowInvalid as error:
        raise TraceUnreadable(_ragged(path, cut, error)) from None


def _delimiter(path: Path) -> str:
    """A comma, unless the line of names has more semicolons or tabs."""
    with opened(path) as file:
        names = next(filter(bytes.strip, file), b"")
    return max(",;\t", key=lambda mark: names.count(mark.encode()))


def _ragged(path: Path, cut: csv.ParseOptions, error: Exception) -> str:
    """What Arrow says of a CSV, with the line: read by one thread, it knows the row."""
    try:
        with opened(path) as file:
            csv.read_csv(file, parse_options=cut, read_options=csv.ReadOptions(use_threads=False))
    except pyarrow.ArrowInvalid as slowly:
        named = _ROW.search(str(slowly))
        if named:
            return f"{_line(path, int(named[1]) - 1)}: {named[2][:1].lower()}{_first_line(named[2])[1:]}"
    return f"`{path}` is no CSV that can be read: {_first_line(error)}"


def _json_lines(path: Path, wanted: Callable[[Collection[str]], Collection[str]]) -> Table:
    try:
        with opened(path) as file:
            whole = json.read_json(file)
        return _table(whole.select(list(wanted(whole.column_names))), lambda row: _line(path, row))
    except pyarrow.ArrowInvalid:
        return _by_hand(path, wanted)


def _by_hand(path: Path, wanted: Callable[[Collection[str]], Collection[str]]) -> Table:
    """JSON lines whose columns change their type; what is no JSON is found here."""
    rows = []
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                rows.append(_object(line, f"{path}:{number}"))
    names = wanted({name: None for row in rows for name in row})
    columns = {name: _array([row.get(name) for row in rows]) for name in names}
    return Table(columns=columns, place=lambda row: _line(path, row))


def _object(line: bytes, place: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise TraceUnreadable(
            f"{place}: no JSON object: {error} (hint: each line describes one request, as "
            '`{"arrival_s": 0.5, "input_tokens": 512, "output_tokens": 64}`)'
        ) from None


def _array(values: list[Any]) -> Any:
    try:
        return pyarrow.array(values)
    except pyarrow.ArrowException:
        return pyarrow.array([None if value is None else str(value) for value in values])


def _table(table: Any, place: Callable[[int], str]) -> Table:
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    return Table(columns=columns, place=place)


def _line(path: Path, row: int) -> str:
    """`path:line` of a row, counted from 0 over the lines that are not blank."""
    with opened(path) as file:
        numbers = (number for number, line in enumerate(file, 1) if line.strip())
        return f"{path}:{next(islice(numbers, row, None), 0)}"


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0]
