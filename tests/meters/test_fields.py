"""Names in the store come back as what they were."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.meters.fields import Series, parse_series, series_name

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
