"""Counts with marks, and an even sample of what was noted."""

from __future__ import annotations

from proxy.live.cell import MARKS, Cell, Tally
from proxy.policy.model import Lane
from tests.telemetry.requests import outcome


def test_what_came_since_a_mark() -> None:
    cell = Cell(Lane.DEDICATED)
    cell.requests, cell.output_tokens = 3, 30
    assert cell.since(5).requests == 3  # younger than that: all of it
    cell.mark()
    cell.requests += 2
    cell.failed += 1
    assert (cell.since(1).requests, cell.since(1).failed, cell.since(1).output_tokens) == (2, 1, 0)
    cell.mark()
    assert (cell.since(1).requests, cell.since(2).requests, cell.since(3).requests) == (0, 2, 5)


def test_a_cell_rests_once_nothing_came_for_as_long_as_marks_are_kept() -> None:
    cell, tally = Cell(Lane.SHARED), Tally()
    cell.requests, tally.count = 1, 1
    for _ in range(MARKS - 1):
        cell.mark()
        tally.mark()
        assert not cell.rested
        assert not tally.rested
    cell.mark()
    tally.mark()
    assert cell.rested
    assert tally.rested
    cell.requests += 1
    tally.count += 1
    assert not cell.rested
    assert not tally.rested
    assert tally.since(MARKS) == 1


def test_a_sample_is_even_and_takes_all_along() -> None:
    cell = Cell(Lane.DEDICATED)
    noted = [outcome(total_s=float(at)) for at in range(100)]
    for one in noted:
        cell.note(one)
    sampled = cell.sampled(32)
    assert [one.total_s for one in sampled] == [float(at) for at in range(0, 100, 4)]
    assert cell.sampled(32) == []


def test_few_are_all_sampled() -> None:
    cell = Cell(Lane.DEDICATED)
    cell.note(outcome())
    assert len(cell.sampled(32)) == 1
