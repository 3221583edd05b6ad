"""Counting requests in flight over several workers."""

from __future__ import annotations

from proxy.signals.inflight import OTHERS_BELIEVED_S, InFlight


def test_the_total_adds_what_the_other_workers_report() -> None:
    count = InFlight()
    count.own = 3
    assert count.total(10.0) == 3
    count.absorb(4, 10.0)
    assert count.total(10.1) == 7
    count.absorb(1, 10.2)
    assert count.total(10.2) == 4


def test_a_silent_sync_leaves_only_what_this_worker_knows() -> None:
    count = InFlight()
    count.own = 3
    count.absorb(4, 10.0)
    assert count.total(10.0 + OTHERS_BELIEVED_S) == 3
