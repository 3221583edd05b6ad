"""Reads what a running proxy metered from its admin port, a line at a time."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from typing import TypeVar
from urllib.parse import urlencode

import msgspec

from proxy.cli.admin_port import AdminPortError, ask, unanswered
from proxy.meters.aggregates import Grain
from proxy.meters.bill import BillLine, bill
from proxy.meters.usage_rows import Complete, Failed, GpuHour, TargetRow, UsageRow, read_line

TIMEOUT_S = 60.0
_HINT = "meters are read through the admin port of a running proxy: name it with `--admin-url`"
Row = TypeVar("Row")


class MetersUnavailable(Exception):
    """They could not be read, or not to its end; the text says why, and what to do."""


class Ledger:
    """The rows of a span; `targets` is filled before the first line of the bill comes."""

    def __init__(self, admin_url: str, from_s: float, to_s: float, grain: Grain) -> None:
        self.targets: dict[str, TargetRow] = {}
        self._admin_url = admin_url
        asked = urlencode({"from": from_s, "to": to_s, "grain": grain.value})
        self._path = f"/admin/meters/rows?{asked}"

    def bill(self) -> Iterator[BillLine]:
        """The bill, as its rows come in. Raises MetersUnavailable; a bill that was cut off is never taken for whole."""
        return bill(self._rows())

    def _rows(self) -> Iterator[UsageRow | GpuHour]:
        for row in rows_from(self._path, self._admin_url, read_line):
            match row:
                case TargetRow():
                    self.targets[row.name] = row
                case UsageRow() | GpuHour():
                    yield row


def rows_from(path: str, admin_url: str, read: Callable[[bytes], Row | Failed | Complete]) -> Iterator[Row]:
    """The rows that the admin port at `admin_url` answers to `path`, all of them. Raises MetersUnavailable.

    The last line tells how many of a dated kind came, those with a `start_s`, so that an answer that was cut off is
    never taken for whole.
    """
    count, complete = 0, None
    for line in _lines(path, admin_url):
        try:
            row = read(line)
        except msgspec.MsgspecError:
            raise MetersUnavailable(f"`{admin_url}` does not answer like a Spillway of this release") from None
        match row:
            case Failed():
                raise MetersUnavailable(f"the proxy could not read all of its meters: {row.message}")
            case Complete():
                complete = row.rows
            case _:
                count += hasattr(row, "start_s")
                yield row
    if complete != count:
        raise MetersUnavailable("the proxy's answer was cut off (hint: try again, or ask for a shorter time)")


def _lines(path: str, admin_url: str) -> Iterator[bytes]:
    try:
        with ask(admin_url, path, timeout_s=TIMEOUT_S, hint=_HINT) as lines:
            try:
                yield from lines
            except (OSError, ValueError, http.client.HTTPException) as error:
                unanswered(admin_url, error, _HINT)
    except AdminPortError as error:
        raise MetersUnavailable(str(error)) from None
