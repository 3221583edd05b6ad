"""The bill adds up, to the nano-USD, whatever was used."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from proxy.meters.aggregates import Grain
from proxy.meters.bill import BillLine, Kind, bill, split
from proxy.meters.usage_rows import HOUR_S, GpuRow, UsageRow

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


def gpu(nano_usd: int = 10_000, *, start_s: int = HOUR, replicas: int = 1, target: str = "gpu") -> GpuRow:
    return GpuRow(start_s=start_s, target=target, replica_ms=replicas * MS, gpu_ms=4 * replicas * MS, nano_usd=nano_usd)


def sums(lines: list[BillLine]) -> tuple[int, int]:
    return sum(line.billed_nano_usd for line in lines), sum(line.effective_nano_usd for line in lines)


def test_shared_tokens_are_billed_to_whoever_used_them() -> None:
    (line,) = bill([usage("api", nano_usd=500, input_tokens=7)])
    assert (line.kind, line.billed_nano_usd, line.effective_nano_usd) == (Kind.TOKENS, 500, 500)
    assert (line.series.tenant, line.seconds, line.counts["input_tokens"]) == ("bank", 3600, 7)


def test_gpu_time_is_billed_as_such_and_belongs_to_the_work_that_used_it() -> None:
    quarter, eighth = usage(work_us=MS * 250), usage(work_us=MS * 125)
    lines = list(bill([quarter, eighth, gpu(8_000)]))
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


def test_more_work_than_there_was_time_costs_no_more_than_the_gpus_do() -> None:
    lines = list(bill([usage(work_us=MS * 3000), usage(work_us=MS * 1000), gpu(8_001)]))
    assert [line.effective_nano_usd for line in lines] == [6_001, 2_000, 0, 0]
    assert sums(lines) == (8_001, 8_001)


def test_minutes_share_the_gpus_of_their_hour_and_of_no_other() -> None:
    first = usage(grain=Grain.MINUTE, work_us=MS * 100)
    second = usage(grain=Grain.MINUTE, start_s=HOUR + 3540, work_us=MS * 300)
    later = usage(grain=Grain.MINUTE, start_s=HOUR + 3600, work_us=MS * 300)
    lines = list(bill([first, second, gpu(1_000), later]))
    assert [line.effective_nano_usd for line in lines] == [100, 300, 0, 600, 0]


@given(whole=st.integers(0, 10**18), weights=st.lists(st.integers(0, 10**15), max_size=20))
def test_a_whole_is_split_in_proportion_and_nothing_is_lost(whole: int, weights: list[int]) -> None:
    parts = split(whole, weights)
    total = sum(weights)
    assert sum(parts) == (whole if total else 0)
    assert all(abs(part * total - whole * weight) < total for part, weight in zip(parts, weights, strict=True) if total)


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
    costs=st.lists(st.tuples(st.integers(0, 10**15), st.integers(0, 9)), max_size=2),
)
def test_both_sums_of_a_bill_are_what_is_paid(used: list[UsageRow], costs: list[tuple[int, int]]) -> None:
    gpus = [
        gpu(cost, replicas=replicas, target=name)
        for (cost, replicas), name in zip(costs, ("gpu", "other"), strict=False)
    ]
    lines = list(bill([*used, *gpus]))
    paid = sum(row.counts.get("nano_usd", 0) for row in used) + sum(row.nano_usd for row in gpus)
    assert sums(lines) == (paid, paid)
    assert all(line.billed_nano_usd >= 0 and line.effective_nano_usd >= 0 for line in lines)
    assert sum(line.gpu_ms for line in lines) == sum(row.gpu_ms for row in gpus)
