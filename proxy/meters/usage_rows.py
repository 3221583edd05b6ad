"""The ledger as the admin port sends it: a JSON line for each series and period, hour after hour.

Theory of operation
-------------------
First come the targets of the policy, for what they are; then, for each hour in turn, what every series counted in each
of its periods, and what each dedicated target's GPUs cost in it. The last line says that it is the last: a list that
was cut off must not pass for a cheap month.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator

import msgspec

from proxy.meters.aggregates import Grain, Row
from proxy.meters.gpu_hours import GpuRow, GpuTotals
from proxy.policy.model import Lane, Target

HOUR_S = 3600
MAX_HOURS = 20_000
"""More than two years: what is asked for beyond that is a slip, and would keep the store busy with nothing."""
_HOURS_AT_ONCE = 24


class TargetRow(msgspec.Struct, frozen=True, kw_only=True, tag="target"):
    """What a target of the policy is; those that have left it have no such row. `provider` is empty for one's own."""

    name: str
    lane: Lane
    model: str
    region: str
    provider: str = ""
    gpu_type: str = ""


class UsageRow(msgspec.Struct, frozen=True, kw_only=True, tag="usage"):
    """What one series counted in one period; counts by name, as in `fields.COUNTERS`, those that are not zero."""

    start_s: int
    grain: Grain
    tenant: str
    key: str
    model: str
    route: str
    target: str
    lane: str
    counts: dict[str, int]


class GpuHour(msgspec.Struct, frozen=True, kw_only=True, tag="gpu"):
    """What one dedicated target accrued in the hour that begins at `start_s`."""

    start_s: int
    target: str
    totals: GpuTotals


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The rows end here, too early."""

    message: str


class Complete(msgspec.Struct, frozen=True, kw_only=True, tag="complete"):
    """The rows end here; how many there were, targets apart."""

    rows: int


AnyRow = TargetRow | UsageRow | GpuHour | Failed | Complete

ReadRows = Callable[[float, float, Grain], Awaitable[list[Row]]]
"""What `Store.rows` is: from, to (Unix time), grain."""
ReadGpus = Callable[[float, float], Awaitable[list[GpuRow]]]
"""What `Store.gpu_rows` is: the hours that begin from the first time on and before the second."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(AnyRow).decode


async def usage_lines(
    from_s: int, to_s: int, grain: Grain, rows: ReadRows, gpus: ReadGpus, targets: Iterable[Target]
) -> AsyncIterator[bytes]:
    """The lines, for whole hours, in portions that are read as they are sent. Raises what `rows` and `gpus` raise."""
    yield _lines(map(target_row, targets))
    count = 0
    for begin in range(from_s, to_s, _HOURS_AT_ONCE * HOUR_S):
        end = min(begin + _HOURS_AT_ONCE * HOUR_S, to_s)
        portion = _by_hour(await rows(begin, end, grain), await gpus(begin, end))
        count += len(portion)
        yield _lines(portion)
    yield _lines([Complete(rows=count)])


def failed_line(message: str) -> bytes:
    """The line that ends a list too early."""
    return _lines([Failed(message=message)])


def read_line(line: bytes) -> AnyRow:
    """The inverse. Raises msgspec.MsgspecError."""
    row: AnyRow = _decode(line)
    return row


def target_row(target: Target) -> TargetRow:
    """What the ledger's readers want to know of a target."""
    return TargetRow(
        name=target.name,
        lane=target.lane,
        model=target.model,
        region=target.region,
        provider=target.provider or "",
        gpu_type="" if target.gpus is None else target.gpus.type,
    )


def whole_hours(from_s: float, to_s: float) -> tuple[int, int]:
    """The hours that the span touches: GPU time is filed by the hour."""
    return int(from_s // HOUR_S) * HOUR_S, -int(-to_s // HOUR_S) * HOUR_S


def _by_hour(rows: list[Row], gpus: list[GpuRow]) -> list[UsageRow | GpuHour]:
    """Usage before GPUs within each hour, and otherwise in an order that does not depend on the store's."""
    counted = [
        UsageRow(start_s=row.start_s, grain=row.grain, counts=dict(row.counts), **row.series._asdict()) for row in rows
    ]
    keyed: list[tuple[tuple[object, ...], UsageRow | GpuHour]] = [
        ((one.start_s // HOUR_S, 0, one.start_s, one.target, one.tenant, one.key, one.model, one.route), one)
        for one in counted
    ]
    keyed += [((one.start_s // HOUR_S, 1, one.start_s, one.target), GpuHour(**one._asdict())) for one in gpus]
    return [one for _, one in sorted(keyed, key=lambda pair: pair[0])]


def _lines(rows: Iterable[AnyRow]) -> bytes:
    def encoded() -> Iterator[bytes]:
        for row in rows:
            yield _encode(row)
            yield b"\n"

    return b"".join(encoded())
