"""Totals brought down to models and targets."""

from __future__ import annotations

from proxy.meters.gpu_hours import GpuTotals
from proxy.meters.store import Totals
from proxy.meters.summary import Summary, summarise
from tests.meters.examples import series, vector


def of(tenant: str, model: str, target: str, route: str = "default") -> str:
    return series(tenant=tenant, model=model, target=target, route=route)


def totals(*, as_of_s: float = 100.0, gpus: dict[str, GpuTotals] | None = None, **counts: int) -> Totals:
    return Totals({of("bank", "llama", "together"): vector(**counts)}, gpus or {}, as_of_s, 1)


def test_tenants_and_routes_are_added_up_and_unknown_names_left_out() -> None:
    counters = {
        of("bank", "llama", "together"): vector(requests=2),
        of("growth", "llama", "together"): vector(requests=3, nano_usd=7),
        of("growth", "llama", "together", route="other"): vector(requests=1),
        of("growth", "llama", "llama-eu"): (*vector(requests=4), 5),
        "another shape": vector(requests=9),
    }
    summary = summarise(Totals(counters, {}, 1.0, 2))
    assert summary.tallies == {
        ("llama", "together"): {"requests": 6, "nano_usd": 7},
        ("llama", "llama-eu"): {"requests": 4},
    }
    assert summary.of_target("together") == {"requests": 6, "nano_usd": 7}
    assert summary.all() == {"requests": 10, "nano_usd": 7}


def test_each_target_has_its_part() -> None:
    counters = {
        of("bank", "llama", "together"): vector(requests=2),
        of("bank", "qwen", "together"): vector(requests=3),
        of("bank", "llama", "llama-eu"): vector(requests=4),
    }
    summary = summarise(Totals(counters, {"llama-eu": GpuTotals(replica_ms=1)}, 1.0, 1))
    parts = summary.by_target()
    assert {name: part.all() for name, part in parts.items()} == {
        "together": {"requests": 5},
        "llama-eu": {"requests": 4},
    }
    assert parts["llama-eu"].gpus == summary.gpus


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
