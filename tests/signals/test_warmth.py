"""A replica that has just come is given little at first."""

from __future__ import annotations

import pytest
from proxy.signals.warmth import LEAST, LONG_S, RAMP_S, Warmth


def test_what_was_there_from_the_beginning_is_warm() -> None:
    assert Warmth().at(0.0) == 1.0


def test_what_has_appeared_warms_up_evenly() -> None:
    warmth = Warmth()
    warmth.appeared(100.0)
    assert warmth.at(100.0) == LEAST
    assert warmth.at(100.0 + RAMP_S / 2) == pytest.approx(0.5)
    assert warmth.at(100.0 + RAMP_S) == 1.0


def test_only_a_long_outage_cools_a_replica_down() -> None:
    warmth = Warmth()
    warmth.shut(0.0)
    warmth.closed(LONG_S)
    assert warmth.at(LONG_S) == 1.0
    warmth.shut(100.0)
    warmth.shut(100.0 + LONG_S)
    assert warmth.at(105.0) == 1.0
    warmth.closed(100.1 + LONG_S)
    assert warmth.at(100.1 + LONG_S) == LEAST
    warmth.closed(500.0)
    assert warmth.at(500.0) == 1.0


def test_what_was_woken_starts_once() -> None:
    warmth = Warmth()
    warmth.shut(0.0)
    warmth.appeared(60.0)
    warmth.closed(75.0)
    assert warmth.at(75.0) == pytest.approx(0.5)
