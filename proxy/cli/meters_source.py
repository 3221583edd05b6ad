"""Reads what a running proxy metered from its admin port, a line at a time."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import TypeVar
from urllib.parse import urlencode

import msgspec

from proxy.meters.aggregates import Grain
from proxy.meters.bill import BillLine, bill
from proxy.meters.usage_rows import Complete, Failed, GpuHour, TargetRow, UsageRow, read_line

TIMEOUT_S = 60.0
Row = TypeVar("Row")


class MetersUnavailable(Exception):
    """They could not be read, or not to its end; the text says why, and what to do."""


class Ledger:
    """The rows of a span; `targets` is filled before the first line of the bill comes."""

    def __init__(self, admin_url: str, from_s: float, to_s: float, grain: Grain) -> None:
        self.targets: dict[str, TargetRow] = {}
        self._admin_url = admin_url
        asked = urlencode({"from": from_s, "to": to_s, "grain": grain.value})
        self._url = f"{admin_url.rstrip('/')}/admin/meters/rows?{asked}"

    def bill(self) -> Iterator[BillLine]:
        """The bill, as its rows come in. Raises MetersUnavailable; a bill that was cut off is never taken for whole."""
        return bill(self._rows())

    def _rows(self) -> Iterator[UsageRow | GpuHour]:
        for row in rows_from(self._url, self._admin_url, read_line):
            match row:
                case TargetRow():
                    self.targets[row.name] = row
                case UsageRow() | GpuHour():
                    yield row


def rows_from(url: str, admin_url: str, read: Callable[[bytes], Row | Failed | Complete]) -> Iterator[Row]:
    """The rows that the admin port at `admin_url` answers to `url`, all of them. Raises MetersUnavailable.

    The last line tells how many of a dated kind came, those with a `start_s`, so that an answer that was cut off is
    never taken for whole.
    """
    count, complete = 0, None
    for line in _lines(url, admin_url):
        try:
            row = read(line)
        except msgspec.MsgspecError:
            raise MetersUnavailable(f"`{url}` does not answer like a Spillway of this release") from None
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


def _lines(url: str, admin_url: str) -> Iterator[bytes]:
    if not url.startswith(("http://", "https://")):
        raise MetersUnavailable(f"`{admin_url}` is no URL (hint: begin with `http://` or `https://`)")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as lines:  # noqa: S310  (scheme checked above)
            yield from lines
    except urllib.error.HTTPError as error:
        raise MetersUnavailable(f"`{url}` answers {error.code}: {_reason(error)}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise MetersUnavailable(
            f"no proxy answers at `{admin_url}`: {getattr(error, 'reason', error) or type(error).__name__}"
            " (hint: meters are read through the admin port of a running proxy: name it with `--admin-url`)"
        ) from None


def _reason(error: urllib.error.HTTPError) -> str:
    with error:
        try:
            document = msgspec.json.decode(error.read())
            return str(document["error"]["message"])
        except (msgspec.MsgspecError, LookupError, TypeError, OSError):
            return "is that the admin port of a Spillway?"
