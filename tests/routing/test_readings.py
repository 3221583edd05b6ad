"""A reading that was never taken says unknown, not zero."""

from __future__ import annotations

from proxy.routing.readings import Breaker, Reading


def test_what_was_not_observed_is_unknown_and_held_against_nobody() -> None:
    blank = Reading(target="t", replica=0, as_of=0.0)
    assert (blank.ttft_p99_s, blank.itl_p99_s, blank.uptime) == (None, None, None)
    assert blank.breaker is Breaker.CLOSED
    assert blank.full_until <= 0.0
