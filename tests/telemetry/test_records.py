"""A record is a value: what telemetry is told cannot change under it."""

from __future__ import annotations

import pytest
from tests.telemetry.requests import outcome, record


def test_a_record_cannot_be_changed() -> None:
    one = record(outcome())
    with pytest.raises(AttributeError):
        one.duration_s = 1.0  # type: ignore[misc]


def test_there_is_a_charge_for_every_outcome() -> None:
    one = record(outcome(), outcome())
    assert [charge.target for charge in one.charges] == [outcome.attempt.target.name for outcome in one.outcomes]
