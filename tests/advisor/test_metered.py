"""Demand from a proxy's meters: hours without a line, hours that are open, and bins of another length."""

from __future__ import annotations

import numpy as np
import pytest
from proxy.advisor.demand import SUMS, work_edges
from proxy.advisor.metered import demand_of, gathered
from proxy.meters.demand_rows import AppHour, DemandHour, DemandRow, Watched
from proxy.meters.usage_rows import Complete
from proxy.meters.work_buckets import LAST, LEAST, PER_OCTAVE, counts_of
from tests.advisor.weeks import MONDAY_S, PROFILE

HOUR = 3600
FROM = int(MONDAY_S)


def hour(start: int, *work_us: int, bin_ms: int = 3000) -> DemandHour:
    return DemandHour(
        start_s=FROM + start * HOUR, target="llama", model="", bin_ms=bin_ms, bins=tuple(counts_of(work_us, bin_ms))
    )


def app(start: int, tenant: str, **sums: int) -> AppHour:
    return AppHour(
        start_s=FROM + start * HOUR, target="llama", model="", tenant=tenant, key="", asked="llama-70b", sums=sums
    )


ROWS: list[DemandRow] = [
    Watched(from_s=FROM, to_s=FROM + 3 * HOUR),
    hour(0, *[3_000_000] * 100),
    hour(2, *[6_000_000] * 50),
    app(0, "bank", requests=100, input_tokens=50_000, output_tokens=9000, attended_tokens=7, read_tokens=5),
    app(2, "bank", requests=50, input_tokens=20_000),
    app(2, "shop", requests=1),
    Complete(rows=5),
]


def test_buckets_are_the_same_on_both_sides() -> None:
    edges = work_edges()
    assert len(edges) == LAST + 2
    assert edges[1] == LEAST
    assert edges[1 + PER_OCTAVE] == 2 * LEAST


def test_hours_without_a_line_had_no_demand() -> None:
    meters = gathered(ROWS)
    found = demand_of(meters.pools["llama", ""], meters.watched, PROFILE)
    assert found is not None
    assert found.seconds.tolist() == [3600.0] * 3
    assert found.began_at_s == FROM
    assert found.excess(0.5).tolist() == pytest.approx([150.0, 0.0, 225.0], rel=0.1)
    assert [one.tenant for one in found.apps] == ["bank", "shop"]
    assert found.sums[0, 0].tolist() == [100, 50_000, 0, 9000, 7, 5]
    assert dict(zip(SUMS, found.sums[2, 1], strict=True))["requests"] == 1


def test_an_hour_that_is_open_counts_for_what_it_is() -> None:
    meters = gathered([Watched(from_s=FROM + 1800, to_s=FROM + HOUR + 900), hour(1, *[3_000_000] * 10), *ROWS[3:4]])
    found = demand_of(meters.pools["llama", ""], meters.watched, PROFILE)
    assert found is not None
    assert found.seconds.tolist() == [1800.0, 900.0]


def test_bins_of_another_length_are_left_out() -> None:
    rows = [ROWS[0], hour(0, 1, bin_ms=1500), hour(1, 3_000_000), hour(2, 3_000_000)]
    meters = gathered(rows)
    found = demand_of(meters.pools["llama", ""], meters.watched, PROFILE)
    assert found is not None
    assert found.bin_s == 3.0
    assert len(found.counts) == 2


def test_nothing_watched_is_no_demand() -> None:
    meters = gathered([Watched(from_s=0, to_s=0), app(0, "bank", requests=1)])
    assert demand_of(meters.pools["llama", ""], meters.watched, PROFILE) is None
    assert np.isfinite(work_edges()).all()
