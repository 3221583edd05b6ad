"""Names in the store come back as what they were."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.meters.fields import COUNTERS, Series, field, gauge, parse_field

names = st.text(st.characters(exclude_categories=("Cs",)))


@given(st.sampled_from(COUNTERS), names, names, names)
def test_any_policy_name_survives_the_round_trip(counter: str, tenant: str, model: str, target: str) -> None:
    series = Series(tenant, model, target)
    assert parse_field(field(counter, series)) == (counter, series)


def test_a_name_stays_readable() -> None:
    assert field("requests", Series("bank", "llama-70b", "eu|1")) == "requests|bank|llama-70b|eu%7C1"


@pytest.mark.parametrize("name", ["#sequence", "requests", "requests|a|b", "requests|a|b|c|d"])
def test_names_of_another_shape_are_not_taken_for_counters(name: str) -> None:
    assert parse_field(name) is None


def test_a_gauge_names_one_replica() -> None:
    assert gauge("llama-eu", 1) == "llama-eu/1"
