"""Dollars an hour from the meters' report, and today's sum from the ledger's hours."""

from __future__ import annotations

import pytest
from proxy.live.money import midnight_s, money_by_target, money_of, spend_of
from proxy.live.view import SpendToday
from proxy.meters.aggregates import Grain, Row
from proxy.meters.fields import Series
from proxy.meters.gpu_hours import MS_PER_HOUR, GpuRow, GpuTotals
from proxy.meters.report import MeterReport, report
from proxy.meters.summary import Summary
from tests.harness import dedicated, shared, snapshot_of

USD = 1_000_000_000
GPU, API = dedicated("gpu", "http://gpu/v1"), shared("api", "http://api/v1")
POLICY = snapshot_of(GPU, API)


def metered() -> MeterReport:
    """Half an hour in which two GPUs cost $3, a third of it idle, and a provider $1, for a million tokens each."""
    gpus = GpuTotals(
        replica_ms=MS_PER_HOUR // 2,
        busy_replica_ms=MS_PER_HOUR // 3,
        gpu_ms=MS_PER_HOUR,
        nano_usd=3 * USD,
        busy_nano_usd=2 * USD,
    )
    counts = {"requests": 90, "input_tokens": 1_000_000}
    tallies = {("m", "gpu"): counts, ("m", "api"): {**counts, "spilled": 60, "nano_usd": USD}}
    latest = Summary(as_of_s=1800.0, tallies=tallies, gpus={"gpu": gpus})
    return report(latest, Summary(as_of_s=0.0, tallies={}, gpus={}), POLICY.targets, POLICY.models)


def test_rates_are_an_hours_worth() -> None:
    found = money_of(metered(), None)
    assert found is not None
    assert (found.recent_s, found.as_of) == (1800.0, 1800.0)
    assert found.dedicated_nano_usd_per_h == pytest.approx(6 * USD)
    assert found.idle_nano_usd_per_h == pytest.approx(2 * USD)
    assert found.shared_nano_usd_per_h == pytest.approx(2 * USD)
    assert found.saving_nano_usd_per_h == pytest.approx(-4 * USD)  # at $1/M the provider would have been cheaper
    assert found.spill_share == pytest.approx(1 / 3)
    assert found.requests_per_s == pytest.approx(0.1)


def test_each_target_beside_the_shared_price() -> None:
    found = money_by_target(metered().recent)
    assert (found["gpu"].nano_usd_per_mtok, found["gpu"].shared_nano_usd_per_mtok) == (3 * USD, USD)
    assert found["gpu"].gpus == pytest.approx(2.0)
    assert found["gpu"].idle_share == pytest.approx(1 / 3)
    assert (found["api"].nano_usd_per_mtok, found["api"].saving_nano_usd_per_h) == (USD, None)


def test_nothing_recent_is_no_money_rather_than_none_spent() -> None:
    latest = Summary(as_of_s=1.0, tallies={}, gpus={})
    first = report(latest, None, POLICY.targets, POLICY.models)
    assert money_of(first, None) is None
    assert money_by_target(first.recent) == {}


def test_today_is_the_sum_of_its_hours() -> None:
    series = Series("t", "", "m", "default", "api", "shared")
    rows = [Row(hour, Grain.HOUR, series, {"nano_usd": 5}) for hour in (0, 3600)]
    gpus = [GpuRow(hour, "gpu", GpuTotals(nano_usd=7, busy_nano_usd=4)) for hour in (0, 3600)]
    assert spend_of(0, rows, gpus) == SpendToday(
        since=0, shared_nano_usd=10, provisioned_nano_usd=14, attributed_nano_usd=8, idle_nano_usd=6
    )


def test_midnight_is_that_of_utc() -> None:
    assert midnight_s(1_795_399_001.7) == 1_795_392_000
    assert midnight_s(1_795_392_000.0) == 1_795_392_000
