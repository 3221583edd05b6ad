"""Composite uptime: what is known, and what follows from it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.policy.model import Lane, Match, Route, Rules, Traffic
from proxy.routing.decide import Router
from proxy.routing.uptime import by_route, composite, of_target
from tests.routing.policies import dedicated, facts, reading, readings, shared, snapshot


def test_two_targets_fail_together_as_often_as_both_do() -> None:
    both = composite([0.99, 0.9])
    assert both is not None
    assert both.share == pytest.approx(0.999)


def test_what_nobody_has_measured_counts_as_nothing() -> None:
    assert composite([]) is None
    assert composite([None, None]) is None
    found = composite([0.9, None])
    assert found is not None
    assert (found.share, found.known, found.targets) == (pytest.approx(0.9), 1, 2)


@given(st.lists(st.none() | st.floats(0, 1), min_size=1))
def test_another_target_never_lowers_it(shares: list[float | None]) -> None:
    more, fewer = composite(shares), composite(shares[1:])
    assert fewer is None or (more is not None and more.share >= fewer.share)
    assert more is None or 0 <= more.share <= 1


def test_a_target_is_as_good_as_its_measured_replicas_on_average() -> None:
    assert of_target([]) is None
    assert of_target([reading("a")]) is None
    assert of_target([reading("a", uptime=0.9), reading("a", 1), reading("a", 2, uptime=1.0)]) == pytest.approx(0.95)


def test_a_route_is_as_good_as_where_it_is_worst_off() -> None:
    routes = [
        Route(name="eu", match=Match(traffic=Traffic.OFFLINE), require=Rules(regions=("eu-*",))),
        Route(name="rest"),
    ]
    router = Router(snapshot([dedicated(), shared()], routes))
    seen = readings(reading("llama-eu", uptime=0.9), reading("together", uptime=0.9))
    assert by_route(router.evaluated(), seen) == {}

    for asked in ({}, {"traffic": Traffic.OFFLINE}, {"lane_override": Lane.SHARED}, {"target_override": "together"}):
        router.decide(facts(**asked), {}, 0.0, 0.0)
    found = by_route(router.evaluated(), seen)
    assert {name: (round(one.share, 9), one.targets) for name, one in found.items()} == {
        "eu": (0.9, 1),
        "rest": (0.99, 2),
    }
    assert by_route(router.evaluated(), {}) == {}
