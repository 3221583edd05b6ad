"""A reading that was never taken says unknown, not zero."""

from __future__ import annotations

from proxy.routing.readings import Breaker, Quantiles, Reading


def test_what_was_not_observed_is_unknown_and_held_against_nobody() -> None:
    blank = Reading(target="t", replica=0, as_of=0.0)
    assert all(getattr(blank.latency, name) is None for name in Quantiles.__struct_fields__)
    assert (blank.uptime, blank.quota) == (None, None)
    assert blank.paced_until <= 0.0
    assert blank.breaker is Breaker.CLOSED
    assert blank.full_until <= 0.0
