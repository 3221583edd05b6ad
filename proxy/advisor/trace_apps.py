"""The apps of a trace: every combination of the words that its requests carry stands once.

Theory of operation
-------------------
Columns of words are encoded as numbers, the numbers of one row are put together into one, and each different one is an
app. So a million rows with twelve clients are looked at twelve times.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow
from numpy.typing import NDArray
from pyarrow import compute, types

from proxy.advisor.trace import App
from proxy.advisor.trace_columns import BadCell
from proxy.policy.model import Endpoint, Priority, Traffic

EVERYTHING = App(name="all")
"""What the requests of a trace have in common that says nothing of them."""


def apps_of(columns: Mapping[str, Any], rows: int) -> tuple[NDArray[np.int32], tuple[App, ...]]:
    """Which app each row belongs to, and the apps, by name. Raises BadCell for a word that is not known."""
    codes = np.zeros(rows, np.int64)
    choices = {}
    for name, column in columns.items():
        encoded = _texts(column, name).dictionary_encode()
        choices[name] = [value.as_py() for value in encoded.dictionary]
        codes = codes * max(len(choices[name]), 1) + encoded.indices.to_numpy(zero_copy_only=False)
    different, first, place = np.unique(codes, return_index=True, return_inverse=True)
    found = [_app(_spelled(int(code), choices), int(row)) for code, row in zip(different, first, strict=True)]
    order = sorted(range(len(found)), key=lambda index: _natural(found[index].name))
    rank = np.empty(len(found), np.int32)
    rank[order] = np.arange(len(found), dtype=np.int32)
    return rank[place], tuple(found[index] for index in order)


def _texts(column: Any, name: str) -> Any:
    """Words as texts, the missing ones empty."""
    if types.is_binary(column.type):
        column = pyarrow.array([_decoded(cell, row, name) for row, cell in enumerate(column.to_pylist())])
    if types.is_list(column.type) or types.is_large_list(column.type):
        column = pyarrow.array([" ".join(map(str, value or ())) for value in column.to_pylist()], pyarrow.string())
    return compute.fill_null(compute.cast(column, pyarrow.string()), "")


def _decoded(cell: bytes | None, row: int, name: str) -> str | None:
    try:
        return None if cell is None else cell.decode()
    except UnicodeDecodeError:
        raise BadCell(row, f"`{name}` is no UTF-8: `{cell!r}`") from None


def _spelled(code: int, choices: Mapping[str, list[str]]) -> dict[str, str]:
    """The words of a row, taken apart again."""
    words = {}
    for name, known in reversed(list(choices.items())):
        code, index = divmod(code, max(len(known), 1))
        words[name] = known[index] if known else ""
    return words


def _app(words: Mapping[str, str], row: int) -> App:
    read: dict[str, Any] = {name: words.get(name, "") for name in ("tenant", "key", "model")}
    if read["tenant"] and read["key"] and "/" not in read["key"]:
        read["key"] = f"{read['tenant']}/{read['key']}"  # as policies and logs have it
    for name, word in words.items():
        if word and name in _READ:
            try:
                read[name] = _READ[name](word)
            except (KeyError, ValueError):
                raise BadCell(row, f"`{name}` is not known: `{word[:60]}` (hint: {_HINTS[name]})") from None
    named = " ".join(filter(None, (words.get("tenant", ""), words.get("key", ""), words.get("model", ""))))
    return dataclasses.replace(EVERYTHING, name=words.get("app", "") or named or EVERYTHING.name, **read)


def _natural(name: str) -> tuple[int, str]:
    """Numbers by their value, before words."""
    return (int(name), "") if name.isdecimal() else (1 << 62, name)


_READ: Mapping[str, Callable[[str], Any]] = {
    "endpoint": Endpoint,
    "traffic": Traffic,
    "stream": {"true": True, "1": True, "false": False, "0": False}.__getitem__,
    "tags": lambda text: frozenset(text.replace(",", " ").replace(";", " ").split()),
    "priority": lambda text: Priority(int(text)) if text.isdecimal() else Priority[text.upper()],
}
_HINTS = {
    "endpoint": ", ".join(Endpoint),
    "traffic": ", ".join(Traffic),
    "stream": "true or false",
    "priority": "low, normal or high",
}
