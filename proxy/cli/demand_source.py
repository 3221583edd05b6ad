"""Reads the demand that was metered from a running proxy's admin port."""

from __future__ import annotations

from urllib.parse import urlencode

import msgspec

from proxy.cli.meters_source import LedgerUnavailable, lines_from
from proxy.meters.demand_rows import AppHour, DemandHour, Watched, read_demand_line
from proxy.meters.usage_rows import Complete, Failed


def read_demand(admin_url: str, from_s: float, to_s: float) -> list[Watched | DemandHour | AppHour]:
    """What was asked for between two points in time (Unix), in whole hours, and what of it all was watched.

    Raises LedgerUnavailable; what was cut off is never taken for whole.
    """
    url = f"{admin_url.rstrip('/')}/admin/demand?{urlencode({'from': from_s, 'to': to_s})}"
    rows: list[Watched | DemandHour | AppHour] = []
    complete = None
    for line in lines_from(url, admin_url):
        try:
            row = read_demand_line(line)
        except msgspec.MsgspecError:
            raise LedgerUnavailable(f"`{url}` does not answer like a Spillway of this release") from None
        match row:
            case Failed():
                raise LedgerUnavailable(f"the proxy could not read all that it has metered: {row.message}")
            case Complete():
                complete = row.rows
            case _:
                rows.append(row)
    if complete != sum(not isinstance(row, Watched) for row in rows):
        raise LedgerUnavailable("the proxy's answer was cut off (hint: try again, or ask for a shorter time)")
    return rows
