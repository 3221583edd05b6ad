"""Names in the store come back as what they were."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.meters.fields import Series, gauge, parse_series, series_name
from proxy.signals.tracker import Tracker
from tests.harness import dedicated

names = st.text(st.characters(exclude_categories=("Cs",)))


@given(st.tuples(*[names] * len(Series._fields)))
def test_any_policy_name_survives_the_round_trip(labels: tuple[str, ...]) -> None:
    series = Series(*labels)
    assert parse_series(series_name(series)) == series


def test_a_name_stays_readable() -> None:
    series = Series("bank", "bank/ci", "llama-70b", "default", "eu|1", "dedicated")
    assert series_name(series) == "bank|bank/ci|llama-70b|default|eu%7C1|dedicated"


@pytest.mark.parametrize("name", ["#sequence", "", "a|b|c|d|e", "a|b|c|d|e|f|g"])
def test_names_of_another_shape_are_not_taken_for_series(name: str) -> None:
    assert parse_series(name) is None


def test_a_gauge_names_one_replica() -> None:
    assert gauge("llama-eu", "http://a/v1") != gauge("llama-eu", "http://b/v1")
    assert gauge("llama-eu", "http://a/v1").startswith("llama-eu/")


def test_a_gauge_is_named_as_the_tracker_names_it() -> None:
    target = dedicated("llama-eu", "http://a/v1", "http://b/v1")
    told = Tracker([target], lambda: 0.5).gauges(0.0)
    assert {gauge(target.name, url) for url in target.urls} <= told.keys()
