"""The demo's reading of the meters."""

from __future__ import annotations

import pytest
from proxy.cli.demo_money import Bill, Purse
from proxy.cli.demo_story import DEDICATED, SHARED
from proxy.meters.report import MeterReport, Period, TargetReport
from proxy.policy.model import Lane


def target(lane: Lane, nano_usd: int | None, tokens: int, at_shared_prices: int | None = None) -> TargetReport:
    return TargetReport(
        target=f"the-{lane}",
        lane=lane,
        requests=1,
        attempts=1,
        spilled=0,
        fallbacks=0,
        failures=0,
        abandoned=0,
        input_tokens=tokens - 1,
        output_tokens=1,
        cached_input_tokens=0,
        estimated_tokens=0,
        unpriced_attempts=0,
        busy_request_s=0.0,
        nano_usd=nano_usd,
        nano_usd_per_mtok=None,
        shared_nano_usd=at_shared_prices,
    )


def report(*targets: TargetReport) -> MeterReport:
    period = Period(
        seconds=None,
        targets=targets,
        requests=len(targets),
        spilled=0,
        spill_share=0.0,
        shared_nano_usd=0,
        dedicated_nano_usd=0,
    )
    return MeterReport(as_of_s=0.0, connected=True, lag_s=0.0, processes=1, total=period, recent=None)


def test_before_the_first_report_nothing_has_been_spent() -> None:
    assert (Purse().total(DEDICATED), Purse().recent(SHARED), Purse().requests) == (Bill(), Bill(), 0)
    assert Bill().usd_per_mtok is None


def test_the_lanes_are_added_up_apart() -> None:
    purse = Purse()
    purse.note(report(target(Lane.DEDICATED, 3_000_000, 1500, 4_000_000), target(Lane.SHARED, 720_000, 1000)), 1.0)
    assert purse.total(DEDICATED) == Bill(3_000_000, 1500, 4_000_000)
    assert purse.total(DEDICATED).usd_per_mtok == pytest.approx(2.0)
    assert (purse.total(SHARED).usd, purse.total(SHARED).usd_per_mtok) == (pytest.approx(7.2e-4), pytest.approx(0.72))
    assert purse.requests == 2


def test_recent_is_what_came_in_the_last_ten_seconds() -> None:
    purse = Purse()
    for now in range(30):
        purse.note(report(target(Lane.DEDICATED, now * now, 10 * now + 1)), float(now))
    assert purse.recent(DEDICATED) == Bill(29 * 29 - 19 * 19, 100)


def test_what_is_not_known_is_not_money() -> None:
    purse = Purse()
    purse.note(report(target(Lane.DEDICATED, None, 100)), 1.0)
    assert purse.total(DEDICATED) == Bill(0, 100, None)
