"""What a replay comes to: sums, shares and quantiles that can be counted on one's fingers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from proxy.advisor.figures import SLOWER, figures
from proxy.advisor.trace import App
from tests.advisor.replays import NEVER, PRICE_NANO_USD, replayed, trace_of


def test_the_bill() -> None:
    found = figures(replayed("ddssp", [0.1] * 5, every_s=720.0, gpu_nano_usd=6_000_000_000))
    assert found.hours == 1.0
    assert found.whole.shared_nano_usd == 3 * PRICE_NANO_USD
    assert found.nano_usd == 6_000_000_000 + 3 * PRICE_NANO_USD
    assert found.usd_per_hour(found.nano_usd) == pytest.approx(6.003)
    assert found.usd_per_month(found.nano_usd) == pytest.approx(730 * 6.003)


def test_dollars_are_per_hour_of_the_trace() -> None:
    found = figures(replayed("s" * 10, [0.1] * 10, every_s=60.0, gpu_nano_usd=0))
    assert found.usd_per_hour(found.nano_usd) == pytest.approx(6 * 10 * PRICE_NANO_USD / 1e9)


def test_a_refusal_is_a_miss() -> None:
    found = figures(replayed("drsp", [0.1, 0.1, 2.5, 1.9])).whole
    assert (found.requests, found.met, found.refused) == (4, 2, 1)
    assert (found.dedicated, found.shared, found.spilled) == (1, 2, 1)
    assert found.attainment == 0.5
    assert found.spill_share == 0.25


def test_pace_misses_too_and_without_objectives_only_refusals_do() -> None:
    run = replayed("dd", [0.1, 0.1])
    slow = dataclasses.replace(run, pace_s=np.array([0.06, 0.04], np.float32))
    assert figures(slow).whole.met == 1
    free = dataclasses.replace(
        replayed("dr", [9.0, 9.0]),
        ttft_objective_s=np.full(2, NEVER, np.float32),
        pace_objective_s=np.full(2, NEVER, np.float32),
    )
    assert figures(free).whole.met == 1


def test_quantiles_leave_out_what_was_refused() -> None:
    found = figures(replayed("r" + "d" * 101, [99.0, *(at / 100 for at in range(101))])).whole
    assert found.ttft_s.p50 == pytest.approx(0.5)
    assert found.ttft_s.p90 == pytest.approx(0.9)
    assert found.ttft_s.p99 == pytest.approx(0.99)
    assert found.e2e_s.p95 == pytest.approx(4.95)
    nothing = figures(replayed("rr", [0.0, 0.0]))
    assert np.isnan(nothing.whole.ttft_s.p99)
    assert np.isnan(nothing.distributions.ttft_s).all()


def test_the_worst_minute_is_the_busiest_of_the_worst() -> None:
    lanes, waits = ["d"] * 200, [0.1] * 200
    for missed in (5, 70, 80):  # one in the first minute of 60, two in the second
        waits[missed] = 3.0
    minutes = figures(replayed("".join(lanes), waits)).minutes
    assert len(minutes) == 4
    assert minutes.worst == 1
    assert minutes.attainment[1] == pytest.approx(58 / 60)
    alike = figures(replayed("r" * 70, [0.1] * 70)).minutes
    assert (alike.worst, int(alike.requests[alike.worst])) == (0, 60)


def test_minutes_without_requests() -> None:
    run = replayed("dd", [0.1, 0.1], trace=trace_of([0.0, 150.0], span_s=290.0))
    minutes = figures(run).minutes
    assert minutes.requests.tolist() == [1, 0, 1, 0, 0]
    assert np.isnan(minutes.attainment[1])
    assert minutes.requests[minutes.worst] == 1


def test_the_course_adds_up() -> None:
    found = figures(replayed("dsprdsprds" * 20, [0.1] * 200))
    minutes = found.minutes
    every = minutes.dedicated + minutes.spilled + minutes.preferred_shared + minutes.refused
    assert every.tolist() == minutes.requests.tolist()
    assert minutes.requests.sum() == found.whole.requests
    assert minutes.shared_nano_usd.sum() == found.whole.shared_nano_usd
    assert minutes.met.sum() == found.whole.met


def test_routes_targets_tenants_and_apps() -> None:
    apps = (App(name="a", tenant="x"), App(name="b", tenant="x"), App(name="c", tenant="y"))
    trace = trace_of([0.0, 1.0, 2.0, 3.0], span_s=4.0, app=[0, 1, 2, 2], apps=apps)
    found = figures(replayed("dssr", [0.1, 3.0, 0.1, 0.1], trace=trace))
    assert {part.name: part.requests for part in found.routes} == {"chat": 3, "rest": 1}
    assert {part.name: (part.requests, part.met) for part in found.targets} == {"gpus": (1, 1), "api": (2, 1)}
    assert {part.name: part.requests for part in found.tenants} == {"x": 2, "y": 2}
    assert {part.name: part.shared_nano_usd // PRICE_NANO_USD for part in found.apps} == {"a": 0, "b": 1, "c": 1}
    assert found.reasons == {"spilled: no room": 2, "preferred": 1, "refused: no room": 1}
    assert found.objectives == ((2.0, 0.05),)


def test_one_app_is_no_breakdown() -> None:
    found = figures(replayed("dd", [0.1, 0.1]))
    assert (found.tenants, found.apps) == ((), ())


def test_what_the_slowest_took() -> None:
    found = figures(replayed("d" * 10_001, [at / 10_000 for at in range(10_001)], every_s=0.1)).distributions
    assert found.ttft_s == pytest.approx(1.0 - SLOWER, abs=1e-4)


@pytest.mark.parametrize(
    ("windows", "changes"),
    [
        (["d" * 10] * 6, 0),
        (["d" * 10, "s" * 10] * 3, 5),
        (["d" * 10, "ddddsssssd", "s" * 10, "ddddsssssd", "s" * 10], 1),  # between the two is no change
        (["ddddddddss", "ssssssssdd"], 1),  # a fifth, four fifths
    ],
)
def test_oscillation(windows: list[str], changes: int) -> None:
    lanes = "".join(windows)
    found = figures(replayed(lanes, [0.1] * len(lanes)))
    assert found.oscillations_per_hour == pytest.approx(changes * 360 / len(windows))
