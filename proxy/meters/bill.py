"""The bill: what each hour's usage cost, both kinds of money together, so that all lines add up to what is paid.

Theory of operation
-------------------
A series on a shared target costs what its tokens cost. A dedicated target costs what its GPUs cost by the clock; of
that, the part that its requests took of the engine's time is *attributed*, and the rest was *idle*:

    attributed = provisioned * min(1, work / replica time)

An attributed dollar is on the bill once, as GPU time, and belongs to somebody, in proportion to their work. So there
are two sums of money, as FinOps has them (FOCUS): what is *billed* stands with the GPUs, and what is *effective* with
the series that used them. Idle time is billed and effective alike. Both add up to the same, to the nano-USD: what a
division leaves over goes to the largest remainders.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from itertools import groupby

import msgspec

from proxy.meters.fields import Series
from proxy.meters.money import divide_half_even
from proxy.meters.usage_rows import HOUR_S, GpuRow, UsageRow
from proxy.policy.model import Lane

US_PER_MS = 1000


class Kind(StrEnum):
    """What a line is about."""

    TOKENS = "tokens"
    GPU_ATTRIBUTED = "gpu-attributed"
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


def bill(rows: Iterable[UsageRow | GpuRow]) -> Iterator[BillLine]:
    """The lines of rows that come hour by hour."""
    for _, of_hour in groupby(rows, key=lambda row: row.start_s // HOUR_S):
        yield from _hour(list(of_hour))


def _hour(rows: list[UsageRow | GpuRow]) -> Iterator[BillLine]:
    used = [row for row in rows if isinstance(row, UsageRow)]
    gpus = [row for row in rows if isinstance(row, GpuRow)]
    attributed = {gpu.target: _attributed(gpu, used) for gpu in gpus}
    effective = [_cost(row) for row in used]
    for target, nano_usd in attributed.items():
        mine = [index for index, row in enumerate(used) if row.target == target]
        for index, part in zip(mine, split(nano_usd, [_work_us(used[index]) for index in mine]), strict=True):
            effective[index] += part
    for row, nano_usd in zip(used, effective, strict=True):
        yield _tokens(row, nano_usd)
    for gpu in gpus:
        yield from _gpu_time(
            gpu, attributed[gpu.target], sum(_work_us(row) for row in used if row.target == gpu.target)
        )


def split(whole: int, weights: list[int]) -> list[int]:
    """`whole` in proportion to `weights`, in integers that add up to it; all zero where there is no weight."""
    total = sum(weights)
    if not total:
        return [0] * len(weights)
    parts = [whole * weight // total for weight in weights]
    rest = whole - sum(parts)
    largest = sorted(range(len(weights)), key=lambda index: -(whole * weights[index] % total))
    for index in largest[:rest]:
        parts[index] += 1
    return parts


def _attributed(gpu: GpuRow, used: Iterable[UsageRow]) -> int:
    work_us = sum(_work_us(row) for row in used if row.target == gpu.target)
    replica_us = gpu.replica_ms * US_PER_MS
    if work_us >= replica_us:
        return gpu.nano_usd if work_us else 0
    return divide_half_even(gpu.nano_usd * work_us, replica_us)


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


def _gpu_time(gpu: GpuRow, attributed_nano_usd: int, work_us: int) -> Iterator[BillLine]:
    """The attributed time of the target, if any, and the idle one."""
    replica_ms = min(gpu.replica_ms, work_us // US_PER_MS)
    gpu_ms = gpu.gpu_ms * replica_ms // gpu.replica_ms if gpu.replica_ms else 0
    idle_nano_usd = gpu.nano_usd - attributed_nano_usd
    if attributed_nano_usd or gpu_ms:
        yield _gpu_line(gpu, Kind.GPU_ATTRIBUTED, attributed_nano_usd, 0, gpu_ms, replica_ms)
    yield _gpu_line(gpu, Kind.GPU_IDLE, idle_nano_usd, idle_nano_usd, gpu.gpu_ms - gpu_ms, gpu.replica_ms - replica_ms)


def _gpu_line(gpu: GpuRow, kind: Kind, billed: int, effective: int, gpu_ms: int, replica_ms: int) -> BillLine:
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


def _work_us(row: UsageRow) -> int:
    return row.counts.get("work_us", 0) if row.lane == Lane.DEDICATED else 0
