"""Totals brought down to models and targets."""

from __future__ import annotations

from proxy.meters.fields import Series, field
from proxy.meters.gpu_hours import GpuTotals
from proxy.meters.store import Totals
from proxy.meters.summary import Summary, summarise


def totals(*, as_of_s: float = 100.0, gpus: dict[str, GpuTotals] | None = None, **counts: int) -> Totals:
    counters = {field(name, Series("bank", "llama", "together")): value for name, value in counts.items()}
    return Totals(counters, gpus or {}, as_of_s, 1)


def test_tenants_are_added_up_and_unknown_names_left_out() -> None:
    counters = {
        field("requests", Series("bank", "llama", "together")): 2,
        field("requests", Series("growth", "llama", "together")): 3,
        field("requests", Series("growth", "llama", "llama-eu")): 4,
        field("of_a_later_release", Series("bank", "llama", "together")): 9,
        "another shape": 9,
    }
    summary = summarise(Totals(counters, {}, 1.0, 2))
    assert summary.tallies == {("llama", "together"): {"requests": 5}, ("llama", "llama-eu"): {"requests": 4}}
    assert summary.of_target("together") == {"requests": 5}
    assert summary.all() == {"requests": 9}


def test_the_difference_of_two_is_what_came_between() -> None:
    earlier = summarise(totals(requests=2, gpus={"llama-eu": GpuTotals(replica_ms=100)}))
    later = summarise(totals(as_of_s=160.0, requests=5, spilled=1, gpus={"llama-eu": GpuTotals(replica_ms=350)}))
    between = later.minus(earlier)
    assert between.all() == {"requests": 3, "spilled": 1}
    assert between.gpus == {"llama-eu": GpuTotals(replica_ms=250)}


def test_a_store_that_lost_counts_does_not_continue_the_one_before() -> None:
    full, wiped = summarise(totals(requests=2)), summarise(totals(as_of_s=101.0))
    assert summarise(totals(as_of_s=101.0, requests=2)).continues(full)
    assert not wiped.continues(full)
    assert not summarise(totals(as_of_s=99.0, requests=3)).continues(full)
    assert not Summary(as_of_s=101.0, tallies={}, gpus={}).continues(
        Summary(as_of_s=100.0, tallies={}, gpus={"llama-eu": GpuTotals(replica_ms=1)})
    )
