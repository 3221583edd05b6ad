"""The bill: what each hour's usage cost, both kinds of money together, so that all lines add up to what is paid.

Theory of operation
-------------------
A series on a shared target costs what its tokens cost. A dedicated target costs what its GPUs cost by the clock; the
busy part of that belongs to those whose work kept them busy (`attribution`), and the rest was idle.

A busy dollar is on the bill once, as GPU time, and belongs to somebody. So there are two sums of money, as FinOps has
them (FOCUS): what is *billed* stands with the GPUs, and what is *effective* with the series that used them. Idle time,
and busy time that no request has claimed yet, is billed and effective alike. Both add up to the same, to the nano-USD.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from itertools import groupby

import msgspec

from proxy.meters.attribution import divide
from proxy.meters.fields import Series
from proxy.meters.usage_rows import HOUR_S, GpuHour, UsageRow
from proxy.policy.model import Lane


class Kind(StrEnum):
    """What a line is about."""

    TOKENS = "tokens"
    GPU_ATTRIBUTED = "gpu-attributed"
    GPU_UNCLAIMED = "gpu-unclaimed"
    GPU_IDLE = "gpu-idle"


class BillLine(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One line: `seconds` long, from `start_s`, Unix time. GPU lines have only a target in their series, and no counts.

    `gpu_ms` is GPU time, `replica_ms` that of whole replicas.
    """

    start_s: int
    seconds: int
    kind: Kind
    series: Series
    billed_nano_usd: int
    effective_nano_usd: int
    counts: Mapping[str, int] = {}
    gpu_ms: int = 0
    replica_ms: int = 0


def bill(rows: Iterable[UsageRow | GpuHour]) -> Iterator[BillLine]:
    """The lines of rows that come hour by hour."""
    for _, of_hour in groupby(rows, key=lambda row: row.start_s // HOUR_S):
        yield from _hour(list(of_hour))


def _hour(rows: list[UsageRow | GpuHour]) -> Iterator[BillLine]:
    used = [row for row in rows if isinstance(row, UsageRow)]
    gpus = [row for row in rows if isinstance(row, GpuHour)]
    claims = {gpu.target: _claims(gpu.target, used) for gpu in gpus}
    effective = [_cost(row) for row in used]
    for gpu in gpus:
        if claims[gpu.target]:
            for index, part in divide(gpu.totals.busy_nano_usd, claims[gpu.target]).items():
                effective[index] += part
    for row, nano_usd in zip(used, effective, strict=True):
        yield _tokens(row, nano_usd)
    for gpu in gpus:
        yield from _gpu_time(gpu, claimed=bool(claims[gpu.target]))


def _claims(target: str, used: list[UsageRow]) -> dict[int, int]:
    """The work of each row, by its index, that kept the target busy."""
    return {
        index: row.counts["work_us"]
        for index, row in enumerate(used)
        if row.target == target and row.lane == Lane.DEDICATED and row.counts.get("work_us", 0) > 0
    }


def _tokens(row: UsageRow, effective_nano_usd: int) -> BillLine:
    return BillLine(
        start_s=row.start_s,
        seconds=row.grain.seconds,
        kind=Kind.TOKENS,
        series=Series(row.tenant, row.key, row.model, row.route, row.target, row.lane),
        billed_nano_usd=_cost(row),
        effective_nano_usd=effective_nano_usd,
        counts=row.counts,
    )


def _gpu_time(gpu: GpuHour, *, claimed: bool) -> Iterator[BillLine]:
    """The busy time of the target, if there was any, and the idle one."""
    all_, busy = gpu.totals, gpu.totals.busy_nano_usd
    if busy or all_.busy_gpu_ms:
        kind, effective = (Kind.GPU_ATTRIBUTED, 0) if claimed else (Kind.GPU_UNCLAIMED, busy)
        yield _gpu_line(gpu, kind, busy, effective, all_.busy_gpu_ms, all_.busy_replica_ms)
    idle = all_.idle_nano_usd
    yield _gpu_line(gpu, Kind.GPU_IDLE, idle, idle, all_.idle_gpu_ms, all_.replica_ms - all_.busy_replica_ms)


def _gpu_line(gpu: GpuHour, kind: Kind, billed: int, effective: int, gpu_ms: int, replica_ms: int) -> BillLine:
    return BillLine(
        start_s=gpu.start_s,
        seconds=HOUR_S,
        kind=kind,
        series=Series("", "", "", "", gpu.target, Lane.DEDICATED.value),
        billed_nano_usd=billed,
        effective_nano_usd=effective,
        gpu_ms=gpu_ms,
        replica_ms=replica_ms,
    )


def _cost(row: UsageRow) -> int:
    return row.counts.get("nano_usd", 0)
