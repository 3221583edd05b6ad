"""The values that routing answers with."""

from __future__ import annotations

import pytest
from proxy.routing.plan import Exclusion, Plan


def test_an_exclusion_reads_as_one_line_of_explanation() -> None:
    assert str(Exclusion("together", "require.region", "us", "eu-*", True)) == (
        "together: require.region us against eu-*"
    )


def test_a_plan_cannot_be_changed_once_made() -> None:
    with pytest.raises(AttributeError):
        Plan(route="r", attempts=()).route = "other"  # type: ignore[misc]
