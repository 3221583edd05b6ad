"""Routes: shares by lane, why they spilled, and each objective beside what was observed."""

from __future__ import annotations

import pytest
from proxy.live.recent import Recent
from proxy.live.routes import routes_of
from proxy.live.view import RouteView
from proxy.policy.model import Objective, Route, Rules
from proxy.routing.explain.explained import Uptime
from proxy.routing.outcome import Failure
from proxy.routing.plan import Cause
from tests.live.test_recent import SPILLED
from tests.telemetry.requests import API, outcome, record

TTFT = Objective(rule="ttft_p99", field="ttft_p99_s", limit_s=0.2)
SPEED = Objective(rule="tps_p95", field="itl_p95_s", limit_s=0.05)
ROUTE = Route(name="default", require=Rules(objectives=(TTFT,)), want=Rules(objectives=(SPEED,)))


def view(recent: Recent, now: float, route: Route = ROUTE) -> RouteView:
    uptimes = {"default": Uptime(share=0.999, known=1, targets=2)}
    (found,) = routes_of((route,), recent, uptimes, now, rate_ticks=11, share_ticks=61)
    return found


def test_before_anything_came_nothing_is_known() -> None:
    found = view(Recent(0.0), 0.0)
    assert (found.requests_per_s_here, found.dedicated_share_here, found.spill_share_here) == (0.0, None, None)
    assert [(one.rule, one.observed_s, one.met, one.required) for one in found.objectives] == [
        ("ttft_p99", None, None, True),
        ("tps_p95", None, None, False),
    ]
    assert found.uptime_here == 0.999


def test_shares_and_reasons() -> None:
    recent = Recent(0.0)
    for one in [record(outcome())] * 6 + [SPILLED] * 3 + [record(outcome(API, failure=Failure.BROKEN))] + [record()]:
        recent.note(one)
    found = view(recent, 5.0)
    assert found.requests_per_s_here == pytest.approx(10 / 5.0)
    assert (found.requests_here, found.failed_here, found.refused_here) == (10, 1, 1)
    assert (found.dedicated_share_here, found.shared_share_here, found.spill_share_here) == (0.6, 0.4, 0.3)
    assert (found.spilled_by_here, found.refused_by_here) == ({"ttft": 3}, {"capacity": 1})


def test_an_objective_is_met_or_not_by_its_own_percentile() -> None:
    recent = Recent(0.0)
    for _ in range(30):
        recent.note(record(outcome(API, Cause.SPILLOVER, ttft_s=0.4, itl_s=0.02)))
    recent.tick(1.0)
    wait, speed = view(recent, 1.0).objectives
    assert wait.observed_s == pytest.approx(0.4, rel=0.05)
    assert (wait.met, wait.samples) == (False, 30)
    assert speed.observed_s == pytest.approx(0.02, rel=0.05)
    assert speed.met is True


def test_other_routes_requests_are_not_its_own() -> None:
    recent = Recent(0.0)
    recent.note(record(outcome()))
    assert view(recent, 1.0, Route(name="nightly")).requests_here == 0
