"""Reads traces: CSV, JSON lines and Parquet under anybody's column names, and Spillway's own decision log."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from proxy.advisor.trace import BLOCK_TOKENS, Trace
from proxy.advisor.trace_apps import apps_of
from proxy.advisor.trace_columns import (
    ALIASES,
    ARRIVAL,
    INPUT,
    NUMBERS,
    OUTPUT,
    PREFIX,
    WORDS,
    BadCell,
    TimeUnit,
    arrivals,
    block_tokens,
    blocks,
    counts,
    matched,
)
from proxy.advisor.trace_log import observed_s, read_log
from proxy.advisor.trace_table import Format, Table, TraceUnreadable, format_of, table_of


def read_trace(path: Path, *, unit: TimeUnit = TimeUnit.AUTO, tokens_per_block: int | None = None) -> Trace:
    """The requests that a file holds, by arrival.

    `unit` is that of arrival times that are bare numbers, told by their name and size unless it is given;
    `tokens_per_block` the size of prefix blocks, told by the prompts' lengths. The trace begins with its first request.
    Where nothing was asked, or answered, one token was: an engine computes no less.

    Raises TraceUnreadable, whose text names the line that is wrong.
    """
    found = format_of(path)
    if found is Format.LOG:
        return read_log(path)
    table = table_of(path, found, lambda names: _wanted(path, names))
    try:
        return _trace(path, table, unit, tokens_per_block)
    except BadCell as error:
        raise TraceUnreadable(f"{table.place(error.row)}: {error}") from None


def _wanted(path: Path, names: Collection[str]) -> Collection[str]:
    found = matched(names)
    for ours in NUMBERS:
        if ours not in found:
            there = ", ".join(f"`{name}`" for name in names)
            known = ", ".join(f"`{alias}`" for alias in ALIASES[ours][:6])
            raise TraceUnreadable(f"`{path}` has no column `{ours}`: it has {there} (hint: also known are {known} ...)")
    return list(dict.fromkeys(found.values()))


def _trace(path: Path, table: Table, unit: TimeUnit, tokens_per_block: int | None) -> Trace:
    names = matched(table.columns)
    column = {ours: table.columns[theirs] for ours, theirs in names.items()}
    if not len(column[ARRIVAL]):
        raise TraceUnreadable(f"`{path}` has no rows")
    came = arrivals(column[ARRIVAL], names[ARRIVAL], unit, in_blocks=PREFIX in column)
    input_tokens, output_tokens = counts(column[INPUT], names[INPUT]), counts(column[OUTPUT], names[OUTPUT])
    app, apps = apps_of({word: column[word] for word in WORDS if word in column}, len(came.after_s))
    prefix = blocks(column[PREFIX], names[PREFIX]) if PREFIX in column else None
    size = tokens_per_block or (None if prefix is None else block_tokens(input_tokens, prefix)) or BLOCK_TOKENS
    order = np.argsort(came.after_s, kind="stable")
    arrival_s = came.after_s[order]
    return Trace(
        name=path.name,
        arrival_s=arrival_s,
        input_tokens=np.maximum(input_tokens[order], 1),
        output_tokens=np.maximum(output_tokens[order], 1),
        app=app[order],
        apps=apps,
        span_s=observed_s(arrival_s),
        prefix=None if prefix is None else tuple(prefix[row] for row in order),
        block_tokens=size,
        began_at_s=came.began_at_s,
    )
