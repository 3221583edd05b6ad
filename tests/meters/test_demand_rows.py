"""Demand as lines: what the store has of an hour, read and written."""

from __future__ import annotations

import struct

import msgspec
import pytest
from proxy.meters.demand_rows import (
    AppHour,
    DemandHour,
    StoredHour,
    Watched,
    demand_lines,
    key_of_hour,
    read_demand_line,
    rows_of,
    stored_hour,
)
from proxy.meters.usage_rows import Complete
from proxy.meters.work_bins import SUMS
from proxy.meters.work_buckets import bucket_of

NOON = 1_795_348_800
HOUR_S = 3600


def hour(start_s: int = NOON) -> StoredHour:
    flat = [
        b"app|llama||bank%7C1|bank%7C1/app|support", b"2,2000,0,200",
        b"bins|3000|llama|", b"0,5,1",
        b"bins|1200|llama|", b"7",
        b"later|release", b"1",
    ]  # fmt: skip
    opened = struct.pack(">3q", 0, 2_000_000, 1)
    return stored_hour(start_s, flat, {"3000|llama|": opened, "3000||other": None})


def test_open_bins_are_added_to_those_that_were_closed() -> None:
    first, second, app = rows_of(hour())
    assert isinstance(second, DemandHour)
    assert first == DemandHour(start_s=NOON, target="llama", model="", bin_ms=1200, bins=(7,))
    counts = {bucket: count for bucket, count in enumerate(second.bins) if count}
    assert counts == {0: 1, 1: 5, 2: 1, bucket_of(2_000_000, 3000): 1}
    sums = {"requests": 2, "input_tokens": 2000, "output_tokens": 200}
    assert app == AppHour(
        start_s=NOON, target="llama", model="", tenant="bank|1", key="bank|1/app", asked="support", sums=sums
    )


def test_the_name_of_an_hour() -> None:
    assert key_of_hour(NOON) == "20261122T12"


@pytest.mark.parametrize("hours", [0, 1, 30])
async def test_the_lines_say_what_was_watched_and_when_they_end(hours: int) -> None:
    async def read(from_s: int, to_s: int) -> tuple[Watched, list[StoredHour]]:
        return Watched(from_s=NOON + 60.0, to_s=NOON + 1e6), [hour(at) for at in range(from_s, to_s, HOUR_S)]

    to_s = NOON + hours * HOUR_S
    lines = b"".join([portion async for portion in demand_lines(NOON, to_s, read)])
    watched, *rows, last = [read_demand_line(line) for line in lines.splitlines()]
    assert watched == Watched(from_s=NOON + 60.0, to_s=max(NOON + 60.0, to_s))
    assert last == Complete(rows=3 * hours)
    assert [row.start_s for row in rows if isinstance(row, AppHour)] == list(range(NOON, to_s, HOUR_S))


def test_a_line_of_another_kind_is_not_taken_for_one() -> None:
    with pytest.raises(msgspec.MsgspecError):
        read_demand_line(b'{"type":"usage"}')


def test_the_sums_are_those_by_which_the_advisor_reckons() -> None:
    from proxy.advisor.demand import SUMS as ADVISED

    assert SUMS[: len(ADVISED)] == ADVISED
