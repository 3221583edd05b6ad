"""The bill adds up, to the nano-USD, whatever was used."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from proxy.meters.aggregates import Grain
from proxy.meters.bill import BillLine, Kind, bill
from proxy.meters.gpu_hours import GpuTotals
from proxy.meters.usage_rows import HOUR_S, GpuHour, UsageRow

HOUR = 1_795_359_600 - 1_795_359_600 % HOUR_S
MS = 3_600_000


def usage(target: str = "gpu", *, start_s: int = HOUR, grain: Grain = Grain.HOUR, **counts: int) -> UsageRow:
    return UsageRow(
        start_s=start_s,
        grain=grain,
        tenant="bank",
        key="bank/ci",
        model="m",
        route="default",
        target=target,
        lane="shared" if target == "api" else "dedicated",
        counts=counts,
    )


def gpu(
    nano_usd: int = 10_000, busy: float = 0.0, *, start_s: int = HOUR, replicas: int = 1, target: str = "gpu"
) -> GpuHour:
    """An hour of replicas with four GPUs each, `busy` for so much of it."""
    totals = GpuTotals(
        replica_ms=replicas * MS,
        busy_replica_ms=int(busy * replicas * MS),
        gpu_ms=4 * replicas * MS,
        nano_usd=nano_usd,
        busy_nano_usd=int(nano_usd * busy),
    )
    return GpuHour(start_s=start_s, target=target, totals=totals)


def sums(lines: list[BillLine]) -> tuple[int, int]:
    return sum(line.billed_nano_usd for line in lines), sum(line.effective_nano_usd for line in lines)


def test_shared_tokens_are_billed_to_whoever_used_them() -> None:
    (line,) = bill([usage("api", nano_usd=500, input_tokens=7)])
    assert (line.kind, line.billed_nano_usd, line.effective_nano_usd) == (Kind.TOKENS, 500, 500)
    assert (line.series.tenant, line.seconds, line.counts["input_tokens"]) == ("bank", 3600, 7)


def test_gpu_time_is_billed_as_such_and_belongs_to_the_work_that_kept_it_busy() -> None:
    lines = list(bill([usage(work_us=200), usage(work_us=100), gpu(8_000, busy=0.375)]))
    assert [(line.kind, line.billed_nano_usd, line.effective_nano_usd) for line in lines] == [
        (Kind.TOKENS, 0, 2_000),
        (Kind.TOKENS, 0, 1_000),
        (Kind.GPU_ATTRIBUTED, 3_000, 0),
        (Kind.GPU_IDLE, 5_000, 5_000),
    ]
    assert [(line.gpu_ms, line.replica_ms) for line in lines[2:]] == [
        (4 * MS * 3 // 8, MS * 3 // 8),
        (4 * MS * 5 // 8, MS * 5 // 8),
    ]
    assert sums(lines) == (8_000, 8_000)


def test_idle_gpus_are_on_the_bill_and_nobody_is_said_to_have_used_them() -> None:
    (line,) = bill([gpu(8_000)])
    assert (line.kind, line.billed_nano_usd, line.effective_nano_usd) == (Kind.GPU_IDLE, 8_000, 8_000)
    assert line.series == ("", "", "", "", "gpu", "dedicated")


def test_busy_time_of_requests_that_have_not_ended_is_unclaimed() -> None:
    lines = list(bill([usage(requests=1), usage("api", work_us=5), gpu(8_000, busy=0.5)]))
    assert [(line.kind, line.billed_nano_usd, line.effective_nano_usd) for line in lines[2:]] == [
        (Kind.GPU_UNCLAIMED, 4_000, 4_000),
        (Kind.GPU_IDLE, 4_000, 4_000),
    ]


def test_minutes_share_the_gpus_of_their_hour_and_of_no_other() -> None:
    first = usage(grain=Grain.MINUTE, work_us=100)
    second = usage(grain=Grain.MINUTE, start_s=HOUR + 3540, work_us=300)
    later = usage(grain=Grain.MINUTE, start_s=HOUR + 3600, work_us=300)
    rows = [first, second, gpu(1_000, busy=0.4), later, gpu(1_000, busy=1.0, start_s=HOUR + 3600)]
    lines = list(bill(rows))
    assert [line.effective_nano_usd for line in lines if line.kind is Kind.TOKENS] == [100, 300, 1_000]
    assert sums(lines) == (2_000, 2_000)


USED = st.builds(
    usage,
    st.sampled_from(["gpu", "other", "api"]),
    nano_usd=st.just(0),
    work_us=st.integers(0, 10**10),
    input_tokens=st.integers(0, 10**9),
)
SHARED = st.builds(usage, st.just("api"), nano_usd=st.integers(0, 10**15), work_us=st.integers(0, 10**10))


@given(
    used=st.lists(USED | SHARED, max_size=8),
    costs=st.lists(st.tuples(st.integers(0, 10**15), st.integers(0, 9), st.floats(0, 1)), max_size=2),
)
def test_both_sums_of_a_bill_are_what_is_paid(used: list[UsageRow], costs: list[tuple[int, int, float]]) -> None:
    targets = zip(costs, ("gpu", "other"), strict=False)
    gpus = [gpu(cost, busy, replicas=replicas, target=name) for (cost, replicas, busy), name in targets]
    lines = list(bill([*used, *gpus]))
    paid = sum(row.counts.get("nano_usd", 0) for row in used) + sum(row.totals.nano_usd for row in gpus)
    assert sums(lines) == (paid, paid)
    assert all(line.billed_nano_usd >= 0 and line.effective_nano_usd >= 0 for line in lines)
    assert sum(line.gpu_ms for line in lines) == sum(row.totals.gpu_ms for row in gpus)
