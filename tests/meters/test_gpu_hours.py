"""This process's half of the accrual."""

from __future__ import annotations

from dataclasses import replace

from proxy.meters.gpu_hours import GpuClock, GpuTotals
from tests.meters.examples import LLAMA, TOGETHER


def test_only_dedicated_targets_accrue_with_everything_that_is_provisioned() -> None:
    (accrual,) = GpuClock().accruals([LLAMA, TOGETHER], {}, now=100.0)
    assert (accrual.target, accrual.replicas, accrual.gpus) == ("llama-eu", 2, 8)
    assert accrual.nano_usd_per_hour == 8 * 2_990_000_000
    assert (accrual.vouched_ms, accrual.seen) == (0, GpuTotals())


def test_a_replica_is_busy_with_one_request_or_many() -> None:
    busy = [
        GpuClock().accruals([LLAMA], in_flight, now=0.0)[0].busy_replicas
        for in_flight in ({}, {"llama-eu/1": 1}, {"llama-eu/0": 9, "llama-eu/1": 0}, {"llama-eu/0": 1, "llama-eu/1": 5})
    ]
    assert busy == [0, 1, 1, 2]


def test_without_a_gpu_price_replicas_still_accrue() -> None:
    (accrual,) = GpuClock().accruals([replace(LLAMA, gpus=None)], {}, now=0.0)
    assert (accrual.replicas, accrual.gpus, accrual.nano_usd_per_hour) == (2, 0, 0)


def test_it_vouches_for_the_time_since_the_last_answer_it_had() -> None:
    clock = GpuClock()
    clock.accruals([LLAMA], {}, now=10.0)
    first = clock.accruals([LLAMA], {}, now=12.5)
    assert first[0].vouched_ms == 2500
    clock.accrued(first, {"llama-eu": GpuTotals(replica_ms=5000)}, asked_at=12.5)
    (second,) = clock.accruals([LLAMA], {}, now=13.0)
    assert (second.vouched_ms, second.seen.replica_ms) == (500, 5000)


def test_it_does_not_vouch_for_the_time_a_target_was_out_of_the_policy() -> None:
    clock = GpuClock()
    clock.accruals([LLAMA], {}, now=0.0)
    clock.accruals([], {}, now=100.0)
    assert clock.accruals([LLAMA], {}, now=200.0)[0].vouched_ms == 0


def test_totals_subtract() -> None:
    assert GpuTotals(5, 4, 3, 2) - GpuTotals(1, 1, 1, 1) == GpuTotals(4, 3, 2, 1)
