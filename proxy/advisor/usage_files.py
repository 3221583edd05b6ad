"""Reads usage that was summed over minutes: a row for each app and each few minutes, in CSV, JSON lines or Parquet."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proxy.advisor.disaggregate import Coarse
from proxy.advisor.trace_apps import apps_of
from proxy.advisor.trace_columns import INPUT, OUTPUT, WORDS, BadCell, TimeUnit, arrivals, counts, matched
from proxy.advisor.trace_table import Format, TraceUnreadable, format_of, table_of

REQUESTS = ("requests", "request_count", "num_requests", "calls", "count")
STARTS = ("window_s", "window_start", "window", "start_s", "start", "bucket", "period_start")
_DAY_S = 86_400.0


def is_usage(path: Path) -> bool:
    """Whether the file's rows are sums over many requests: whether they have a number of requests.

    Raises TraceUnreadable.
    """
    found = format_of(path)
    if found is Format.LOG:
        return False
    names: list[str] = []

    def seen(there: Collection[str]) -> Collection[str]:
        names.extend(there)
        return list(there)[:1]

    table_of(path, found, seen)
    return _named(names, REQUESTS) is not None


def read_usage(path: Path) -> Coarse:
    """The usage that the file holds. Its rows are as long as the shortest time between two. Raises TraceUnreadable."""
    table = table_of(path, format_of(path), _wanted)
    try:
        return _coarse(path, table.columns)
    except BadCell as error:
        raise TraceUnreadable(f"{table.place(error.row)}: {error}") from None


def _named(names: Collection[str], known: Collection[str]) -> str | None:
    """What one of the `known` names is called in the file."""
    by_letters = {name.lower(): name for name in names}
    return next((by_letters[name] for name in known if name in by_letters), None)


def _start(names: Collection[str]) -> str | None:
    return _named(names, STARTS) or matched(names).get("arrival_s")


def _wanted(names: Collection[str]) -> Collection[str]:
    numbers = (_start(names), _named(names, REQUESTS), *(matched(names).get(one) for one in (INPUT, OUTPUT)))
    for ours, theirs in zip((STARTS[0], REQUESTS[0], INPUT, OUTPUT), numbers, strict=True):
        if theirs is None:
            there = ", ".join(f"`{name}`" for name in names)
            raise TraceUnreadable(f"usage needs a column `{ours}`, and has {there}")
    words = [theirs for ours, theirs in matched(names).items() if ours in WORDS]
    return list(dict.fromkeys([*(name for name in numbers if name), *words]))


def _coarse(path: Path, columns: dict[str, Any]) -> Coarse:
    names = matched(columns)
    start, requests = _start(columns), _named(columns, REQUESTS)
    assert start is not None
    assert requests is not None
    if not len(columns[start]):
        raise TraceUnreadable(f"`{path}` has no rows")
    came = arrivals(columns[start], start, TimeUnit.AUTO, in_blocks=False)
    app, apps = apps_of({word: columns[names[word]] for word in WORDS if word in names}, len(came.after_s))
    row_s = _row_s(path, came.after_s)
    return Coarse(
        name=path.name,
        row_s=row_s,
        start_s=came.after_s,
        app=app,
        requests=counts(columns[requests], requests),
        input_tokens=counts(columns[names[INPUT]], INPUT),
        output_tokens=counts(columns[names[OUTPUT]], OUTPUT),
        apps=apps,
        span_s=_span_s(float(came.after_s.max()) + row_s),
        began_at_s=came.began_at_s,
    )


def _row_s(path: Path, start_s: NDArray[np.float64]) -> float:
    starts = np.unique(start_s)
    if len(starts) < 2:
        raise TraceUnreadable(f"`{path}` has a single time, so nobody can tell how long its rows are")
    return float(np.diff(starts).min())


def _span_s(until_s: float) -> float:
    """Whole days, where only the last few quiet minutes of one are missing."""
    whole = np.ceil(until_s / _DAY_S) * _DAY_S
    return float(whole) if whole - until_s <= 0.02 * _DAY_S else until_s
