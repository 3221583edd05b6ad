"""What the columns of a trace mean: the names that others give them, their units, and which cell is wrong.

Theory of operation
-------------------
Every publisher of traces names the same three numbers differently, so columns are found by their names' letters and
digits alone, and the first alias that is there wins. Times are seconds, unless the name says otherwise or the numbers
do: an integer of 13 digits can only be milliseconds since 1970. The time of a trace begins with its first request.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np
import pyarrow
from numpy.typing import NDArray
from pyarrow import compute, types

ARRIVAL, INPUT, OUTPUT, PREFIX = "arrival_s", "input_tokens", "output_tokens", "hash_ids"
NUMBERS = (ARRIVAL, INPUT, OUTPUT)
WORDS = ("app", "tenant", "key", "model", "endpoint", "stream", "traffic", "tags", "priority")
ALIASES: Mapping[str, tuple[str, ...]] = {
    ARRIVAL: (
        *("arrival_s", "arrived_at", "arrival_time", "arrival", "arrival_ms", "arrival_timestamp"),
        *("timestamp", "timestamp_s", "timestamp_ms", "received_at", "start_time", "time", "ts"),
    ),
    INPUT: (
        *("input_tokens", "context_tokens", "input_length", "input_len", "prompt_tokens", "prompt_length"),
        *("prompt_len", "num_prefill_tokens", "num_input_tokens", "request_tokens", "tokens_in"),
    ),
    OUTPUT: (
        *("output_tokens", "generated_tokens", "output_length", "output_len", "completion_tokens"),
        *("num_decode_tokens", "num_output_tokens", "response_tokens", "response_length", "tokens_out"),
    ),
    PREFIX: ("hash_ids", "prefix_blocks", "block_hashes", "prefix"),
    "app": ("app", "app_id", "application", "client", "client_id"),
    "tenant": ("tenant", "tenant_id"),
    "key": ("key", "key_name"),
    "model": ("model", "model_name"),
    **{word: (word,) for word in ("endpoint", "stream", "traffic", "tags", "priority")},
}
_YEAR_2001_S, _YEAR_2100_S = 978_307_200, 4_102_444_800
_PER_S = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_IN_NAME = re.compile(r"_(ms|us|ns)$")


class TimeUnit(StrEnum):
    """The unit of arrival times that are bare numbers."""

    AUTO = "auto"
    S = "s"
    MS = "ms"
    US = "us"
    NS = "ns"


class BadCell(Exception):
    """A cell makes no sense: in `row`, counted from 0."""

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Seconds from the first request, in the file's order; `began_at_s` is the first one's Unix time, if known."""

    after_s: NDArray[np.float64]
    began_at_s: float | None


def matched(names: Collection[str]) -> dict[str, str]:
    """What each column is called in the file, by what it is called here, as far as they are there."""
    by_letters = {_letters(name): name for name in reversed(list(names))}
    found = {
        ours: [by_letters[alias] for alias in map(_letters, ALIASES[ours]) if alias in by_letters] for ours in ALIASES
    }
    return {ours: theirs[0] for ours, theirs in found.items() if theirs}


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def counts(column: Any, name: str) -> NDArray[np.int64]:
    """Whole numbers, none below 0. Raises BadCell."""
    _no_gaps(column, name)
    try:
        whole = compute.cast(column, pyarrow.int64(), safe=True)
    except pyarrow.ArrowException:
        raise BadCell(*_first_odd(column, name, _is_whole, "is no whole number")) from None
    values: NDArray[np.int64] = whole.to_numpy(zero_copy_only=False)
    if len(values) and values.min() < 0:
        row = int(np.argmax(values < 0))
        raise BadCell(row, f"`{name}` is {values[row]}, below 0")
    return values


def arrivals(column: Any, name: str, unit: TimeUnit, *, in_blocks: bool) -> Arrivals:
    """When each request came. `in_blocks` says that the trace has prefix blocks. Raises BadCell."""
    _no_gaps(column, name)
    if types.is_string(column.type) or types.is_large_string(column.type):
        column = _parsed(column, name)
    if types.is_timestamp(column.type):
        since: NDArray[np.int64] = (
            column.cast(pyarrow.timestamp("ns", tz=column.type.tz)).cast(pyarrow.int64()).to_numpy()
        )
        first = int(since.min())
        return Arrivals(after_s=(since - first) / 1e9, began_at_s=first / 1e9)
    if not (types.is_integer(column.type) or types.is_floating(column.type)):
        raise BadCell(0, f"`{name}` is no time (hint: seconds, or `2026-11-22T18:00:00Z`)")
    stated: NDArray[np.float64] = column.cast(pyarrow.float64(), safe=False).to_numpy(zero_copy_only=False)
    if not np.isfinite(stated).all():
        raise BadCell(int(np.argmin(np.isfinite(stated))), f"`{name}` is no finite number")
    looks_like_mooncake = in_blocks and types.is_integer(column.type)
    return _since_first(stated, _unit(stated, name, unit, looks_like_mooncake))


def _unit(stated: NDArray[np.float64], name: str, unit: TimeUnit, looks_like_mooncake: bool) -> str:
    """Mooncake, the usual source of prefix blocks, counts whole milliseconds in a column named `timestamp`."""
    named = _IN_NAME.search(name.lower())
    if unit is not TimeUnit.AUTO:
        return unit.value
    if named:
        return named[1]
    for epoch, per_s in _PER_S.items():
        if stated.min() / per_s >= _YEAR_2001_S and stated.max() / per_s <= _YEAR_2100_S:
            return epoch
    return "ms" if looks_like_mooncake and _letters(name) == "timestamp" else "s"


def _since_first(stated: NDArray[np.float64], unit: str) -> Arrivals:
    first = float(stated.min())
    in_epoch = _YEAR_2001_S <= first / _PER_S[unit] <= _YEAR_2100_S
    return Arrivals(after_s=(stated - first) / _PER_S[unit], began_at_s=first / _PER_S[unit] if in_epoch else None)


def _parsed(column: Any, name: str) -> Any:
    """Texts as times, or as numbers."""
    for kind in (pyarrow.timestamp("ns"), pyarrow.timestamp("ns", tz="UTC"), pyarrow.float64()):
        try:
            return compute.cast(column, kind)
        except pyarrow.ArrowException:
            continue
    raise BadCell(*_first_odd(column, name, _is_time, "is no time")) from None


def _is_whole(value: Any) -> bool:
    try:
        return int(value) == float(value) and abs(int(value)) < 1 << 63
    except (TypeError, ValueError):
        return False


def _is_time(value: Any) -> bool:
    for read in (float, datetime.fromisoformat):
        try:
            read(value)
        except ValueError:
            continue
        return True
    return False


def blocks(column: Any, name: str) -> tuple[tuple[int, ...], ...]:
    """Prefix blocks, a list a row; also as a text of numbers, for CSV has no lists. Raises BadCell."""
    rows = []
    for row, value in enumerate(column.to_pylist()):
        told = "" if value is None else str(value)
        listed = value if isinstance(value, list) else told.strip("[] ").replace(",", " ").split()
        try:
            rows.append(tuple(map(int, listed)))
        except ValueError:
            raise BadCell(row, f"`{name}` is no list of numbers: `{told[:60]}`") from None
    return tuple(rows)


def block_tokens(input_tokens: NDArray[np.int64], prefix: tuple[tuple[int, ...], ...]) -> int | None:
    """How many tokens a block has: the power of two by which the longest prompts were cut; None without any blocks."""
    lengths = np.fromiter(map(len, prefix), np.int64, len(prefix))
    longest = np.argsort(-lengths, kind="stable")[:64]
    longest = longest[lengths[longest] > 0]
    if not len(longest):
        return None
    ratio = float(np.median(input_tokens[longest] / lengths[longest]))
    return int(2 ** round(np.log2(max(ratio, 1.0))))


def _no_gaps(column: Any, name: str) -> None:
    if column.null_count:
        raise BadCell(compute.index(compute.is_null(column), True).as_py(), f"`{name}` is missing")


def _first_odd(column: Any, name: str, is_fine: Callable[[Any], bool], why: str) -> tuple[int, str]:
    """The first cell that is not fine."""
    cells = enumerate(column.to_pylist())
    row, value = next(((row, value) for row, value in cells if not is_fine(value)), (0, ""))
    return row, f"`{name}` {why}: `{str(value)[:60]}`"
