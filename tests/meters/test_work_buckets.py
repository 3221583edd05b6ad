"""The buckets are those by which the advisor reads demand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from proxy.advisor.demand import work_edges
from proxy.meters.work_buckets import LAST, bucket_of, counts_of


@given(st.integers(0, 10**13), st.sampled_from([500, 3000, 60_000]))
def test_a_bin_lies_between_the_edges_of_its_bucket(work_us: int, bin_ms: int) -> None:
    edges, demand = work_edges(), work_us / bin_ms / 1000
    bucket = bucket_of(work_us, bin_ms)
    assert len(edges) == LAST + 2
    assert edges[bucket] <= demand * 1.000001
    assert demand * 0.999999 <= edges[bucket + 1] or bucket == LAST


def test_bins_without_work_are_not_counted() -> None:
    assert counts_of([0, 0, 1], 3000) == [1]
    assert sum(counts_of(range(100_000), 3000)) == 99_999
    assert counts_of([], 3000) == []
