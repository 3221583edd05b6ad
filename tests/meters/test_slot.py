"""The pure half of the push protocol; the whole of it is in test_conservation."""

from __future__ import annotations

import pytest
from proxy.meters.aggregates import Grain, Period
from proxy.meters.slot import MAX_CELLS, MAX_HOURS, MAX_MINUTES, Accepted, Behind, Folded, Push, Raise, Slot
from proxy.meters.vectors import Vector
from tests.meters.examples import NOON


class Counts:
    """Counts set by hand: series of one counter."""

    def __init__(self, **values: int) -> None:
        self._grown: dict[str, Vector] = {}
        self.raise_to(**values)

    def raise_to(self, **values: int) -> None:
        self._grown |= {name: (value,) for name, value in values.items()}

    def changed(self) -> dict[str, Vector]:
        grown, self._grown = self._grown, {}
        return grown


def minute(number: int) -> Period:
    return Period(Grain.MINUTE, NOON.start_s + 60 * number)


def raised(**values: int) -> dict[str, Vector]:
    return {name: (value,) for name, value in values.items()}


def sent(push: Push) -> list[tuple[Period | None, dict[str, int]]]:
    return [(one.period, {name: vector[0] for name, vector in one.cells.items()}) for one in push.raises]


def begun(counts: Counts) -> Slot:
    slot = Slot(counts, "id")
    slot.replied(slot.next_push(NOON), Accepted())
    return slot


def test_each_push_carries_what_grew_since_the_last() -> None:
    counts = Counts(a=1, b=2)
    slot = Slot(counts, "id")
    first = slot.next_push(NOON)
    assert first == Push(slot="id", expected=0, raises=(Raise(NOON, raised(a=1, b=2)),))
    slot.replied(first, Accepted())
    counts.raise_to(b=5)
    second = slot.next_push(minute(1))
    assert second == Push(slot="id", expected=1, raises=(Raise(minute(1), raised(b=5)),))
    assert (second.sequence, slot.settled) == (2, False)
    slot.replied(second, Accepted())
    assert slot.settled


def test_nothing_new_is_still_a_question_whether_the_slot_is_there() -> None:
    slot = begun(Counts(a=1))
    push = slot.next_push(NOON)
    assert (push.expected, push.sequence, push.raises) == (1, 1, ())


def test_an_unanswered_push_is_sent_again_and_keeps_its_minute() -> None:
    counts = Counts(a=1)
    slot = begun(counts)
    counts.raise_to(a=2)
    lost = slot.next_push(minute(1))
    counts.raise_to(a=4, b=1)
    again = slot.next_push(minute(2))
    assert (again.expected, again.sequence) == (lost.expected, lost.sequence)
    assert sent(again) == [(minute(1), {"a": 2}), (minute(2), {"a": 4, "b": 1})]


def test_what_is_counted_before_the_store_told_the_time_is_of_the_first_minute_known() -> None:
    counts = Counts(a=1)
    slot = Slot(counts, "id")
    assert slot.next_push(None).raises == ()
    counts.raise_to(a=3)
    assert slot.next_push(None).raises == ()
    assert not slot.settled
    counts.raise_to(b=1)
    assert sent(slot.next_push(NOON)) == [(NOON, {"a": 3, "b": 1})]


def test_a_push_whose_reply_was_lost_is_known_to_be_in() -> None:
    counts = Counts(a=1)
    slot = begun(counts)
    counts.raise_to(a=2)
    slot.next_push(NOON)
    slot.replied(slot.next_push(NOON), Behind(2))
    again = slot.next_push(NOON)
    assert (again.expected, again.force, sent(again)) == (2, False, [(NOON, {"a": 2})])


def test_a_slot_that_is_back_at_an_earlier_time_is_raised_to_what_was_accepted_in_the_present_minute() -> None:
    counts = Counts(a=1, b=1)
    slot = begun(counts)
    counts.raise_to(b=2)
    slot.replied(slot.next_push(minute(1)), Accepted())
    counts.raise_to(b=3)
    slot.replied(slot.next_push(minute(2)), Behind(1))
    again = slot.next_push(minute(2))
    assert again.force
    assert sent(again) == [(minute(2), {"a": 1, "b": 2}), (minute(2), {"b": 3})]
    slot.replied(again, Accepted())
    assert slot.settled
    counts.raise_to(a=9)
    assert not slot.next_push(minute(2)).force


def test_a_slot_that_was_wiped_is_told_everything_and_files_only_what_was_not_accepted() -> None:
    counts = Counts(a=1)
    slot = begun(counts)
    counts.raise_to(b=2)
    slot.replied(slot.next_push(NOON), Behind(None))
    again = slot.next_push(NOON)
    assert again.force
    assert sent(again) == [(None, {"a": 1}), (NOON, {"b": 2})]
    slot.replied(again, Accepted())
    assert slot.settled
    slot.replied(slot.next_push(NOON), Behind(None))
    assert sent(slot.next_push(NOON)) == [(None, {"a": 1, "b": 2})]


def test_what_was_folded_is_not_published_again() -> None:
    counts = Counts(a=10, b=3)
    slot = begun(counts)
    counts.raise_to(a=15)
    slot.replied(slot.next_push(NOON), Folded(raised(a=10, b=3)))
    push = slot.next_push(NOON)
    assert (push.slot, push.expected, push.force, sent(push)) == ("id~1", 0, False, [(NOON, {"a": 5})])
    slot.replied(push, Accepted())
    counts.raise_to(a=16)
    slot.replied(slot.next_push(NOON), Folded(raised(a=5)))
    push = slot.next_push(NOON)
    assert (push.slot, sent(push)) == ("id~2", [(NOON, {"a": 1})])


def test_what_a_folded_slot_had_lost_is_published() -> None:
    slot = begun(Counts(a=10, b=3))
    slot.replied(slot.next_push(NOON), Folded(raised(a=7, b=3)))
    assert sent(slot.next_push(NOON)) == [(NOON, {"a": 3})]


def test_the_slots_of_a_dead_process_are_found_from_its_first() -> None:
    slot = Slot(Counts(a=10), "dead", accepted={})
    slot.replied(slot.next_push(NOON), Folded(raised(a=4)))
    slot.replied(slot.next_push(NOON), Folded(raised(a=5)))
    push = slot.next_push(NOON)
    assert (push.slot, sent(push)) == ("dead~2", [(NOON, {"a": 1})])


@pytest.mark.parametrize("sequence", [None, 1, 7])
def test_the_slot_of_a_dead_process_is_written_to_once_it_is_known_where_it_stands(sequence: int | None) -> None:
    """A slot that is there is raised in the present minute, one that was wiped only by what it never had."""
    slot = Slot(Counts(a=10), "dead", accepted=raised(a=4, b=1))
    first = slot.next_push(NOON)
    assert (first.expected, first.force) == (-1, False)
    slot.replied(first, Behind(sequence))
    push = slot.next_push(NOON)
    assert push.force
    assert sent(push) == [(NOON if sequence else None, {"a": 4, "b": 1}), (NOON, {"a": 10})]
    slot.replied(push, Accepted())
    assert slot.settled


def test_a_slot_after_a_fold_is_made_at_once_while_what_was_folded_is_remembered() -> None:
    slot = begun(Counts(a=10))
    slot.replied(slot.next_push(NOON), Folded(raised(a=10)))
    push = slot.next_push(NOON)
    assert (push.slot, push.after, push.sequence, sent(push)) == ("id~1", "id", 1, [(None, {})])
    slot.replied(push, Accepted())
    assert slot.settled
    assert slot.next_push(NOON).after is None


def test_a_later_slot_that_is_gone_leads_back_to_the_first() -> None:
    counts = Counts(a=10)
    slot = begun(counts)
    slot.replied(slot.next_push(NOON), Folded(raised(a=10)))
    slot.replied(slot.next_push(NOON), Accepted())
    counts.raise_to(a=12)
    slot.replied(slot.next_push(NOON), Behind(None))
    first = slot.next_push(NOON)
    assert (first.slot, first.expected, first.force) == ("id", -1, False)
    slot.replied(first, Behind(None))
    push = slot.next_push(NOON)
    assert (push.slot, push.force, sent(push)) == ("id", True, [(None, {"a": 10}), (NOON, {"a": 12})])
    slot.replied(push, Accepted())
    assert slot.settled


def test_a_burst_is_sent_in_parts() -> None:
    counts = Counts()
    slot = begun(counts)
    counts.raise_to(**{f"f{number}": 1 for number in range(MAX_CELLS)})
    slot.next_push(NOON)
    counts.raise_to(more=1)
    first = slot.next_push(minute(1))
    slot.replied(first, Accepted())
    second = slot.next_push(minute(1))
    slot.replied(second, Accepted())
    assert ([len(one.cells) for one in first.raises], sent(second)) == ([MAX_CELLS], [(minute(1), {"more": 1})])
    assert slot.settled
    slot.replied(slot.next_push(minute(1)), Behind(None))
    sizes = []
    while (push := slot.next_push(minute(1))).raises:
        sizes += [(push.force, one.period, len(one.cells)) for one in push.raises]
        slot.replied(push, Accepted())
    assert sizes == [(True, None, MAX_CELLS), (False, None, 1)]


def test_of_a_long_outage_the_last_hours_are_kept_by_the_minute_and_the_sum_is_kept() -> None:
    counts = Counts()
    slot = Slot(counts, "id")
    for number in range(MAX_MINUTES + 90):
        counts.raise_to(a=number + 1)
        push = slot.next_push(minute(number))
    found = sent(push)
    hours = [(period, cells["a"]) for period, cells in found if period and period.grain is Grain.HOUR]
    minutes = [period for period, _ in found if period and period.grain is Grain.MINUTE]
    assert hours == [(minute(0).hour, 60), (minute(60).hour, 90)]
    assert minutes == [minute(number) for number in range(90, MAX_MINUTES + 90)]


def test_an_outage_without_end_takes_no_more_memory() -> None:
    counts = Counts(first=1)
    slot = Slot(counts, "id")
    for number in range(MAX_MINUTES + 2 * MAX_HOURS):
        counts.raise_to(a=number + 1)
        push = slot.next_push(minute(60 * number))
    found = sent(push)
    assert len(found) <= MAX_CELLS
    total = 0
    while push.raises:
        total += len(push.raises)
        slot.replied(push, Accepted())
        push = slot.next_push(minute(60 * number))
    assert total <= MAX_MINUTES + MAX_HOURS + 1
    assert "first" in found[0][1]
