"""The ledger in lines: hour by hour, and never cut off without a word."""

from __future__ import annotations

import msgspec
import pytest
from proxy.meters.aggregates import Grain, Row
from proxy.meters.fields import Series
from proxy.meters.gpu_hours import GpuRow, GpuTotals
from proxy.meters.usage_rows import (
    HOUR_S,
    Complete,
    Failed,
    GpuHour,
    TargetRow,
    UsageRow,
    failed_line,
    read_line,
    usage_lines,
    whole_hours,
)
from tests.harness import dedicated, shared

DAY = 1_795_305_600
BANK = Series("bank", "", "m", "default", "gpu", "dedicated")
SHOP = BANK._replace(tenant="a-shop", target="api", lane="shared")


class Books:
    """What a store would have, and what it was asked for."""

    def __init__(self, rows: list[Row], gpus: list[GpuRow]) -> None:
        self._rows, self._gpus = rows, gpus
        self.asked: list[tuple[float, float]] = []

    async def rows(self, from_s: float, to_s: float, grain: Grain) -> list[Row]:
        self.asked.append((from_s, to_s))
        return [row for row in self._rows if from_s <= row.start_s < to_s and row.grain is grain]

    async def gpus(self, from_s: float, to_s: float) -> list[GpuRow]:
        return [row for row in self._gpus if from_s <= row.start_s < to_s]


async def test_hours_come_in_turn_and_each_ends_with_its_gpus() -> None:
    rows = [Row(DAY + at_s, Grain.MINUTE, series, {"requests": at_s}) for series in (SHOP, BANK) for at_s in (3660, 60)]
    gpus = [GpuRow(DAY + hour * HOUR_S, "gpu", GpuTotals(nano_usd=hour)) for hour in (1, 0, 30)]
    books = Books(rows, gpus)
    targets = [dedicated("gpu", "http://gpu"), shared("api", "https://api", provider="together_ai")]
    text = b"".join(
        [part async for part in usage_lines(DAY, DAY + 48 * HOUR_S, Grain.MINUTE, books.rows, books.gpus, targets)]
    )
    gpu, api, *found, last = map(read_line, text.splitlines())
    assert isinstance(gpu, TargetRow)
    assert isinstance(api, TargetRow)
    assert (gpu.name, gpu.provider, api.name, api.provider) == ("gpu", "", "api", "together_ai")
    assert [(one.start_s - DAY, one.target, type(one)) for one in found if isinstance(one, UsageRow | GpuHour)] == [
        (60, "api", UsageRow),
        (60, "gpu", UsageRow),
        (0, "gpu", GpuHour),
        (3660, "api", UsageRow),
        (3660, "gpu", UsageRow),
        (3600, "gpu", GpuHour),
        (108_000, "gpu", GpuHour),
    ]
    assert last == Complete(rows=7)
    assert books.asked == [(DAY, DAY + 86_400), (DAY + 86_400, DAY + 172_800)]


def test_lines_come_back_as_they_were() -> None:
    row = UsageRow(start_s=DAY, grain=Grain.HOUR, counts={"requests": 2**60}, **BANK._asdict())
    assert read_line(msgspec.json.encode(row)) == row
    assert read_line(failed_line("away")) == Failed(message="away")
    with pytest.raises(msgspec.MsgspecError):
        read_line(b'{"type": "other"}')


@pytest.mark.parametrize(
    ("span", "hours"), [((0, 3600), (0, 3600)), ((3599.5, 3600.5), (0, 7200)), ((7200, 7200), (7200, 7200))]
)
def test_a_span_is_widened_to_whole_hours(span: tuple[float, float], hours: tuple[int, int]) -> None:
    assert whole_hours(*span) == hours
