"""The pure half of the push protocol; the whole of it is in test_conservation."""

from __future__ import annotations

from proxy.meters.slot import MAX_FIELDS, Accepted, Behind, Folded, Slot


class Counts:
    """Counters set by hand."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}
        self._grown: set[str] = set()

    def raise_to(self, **values: int) -> None:
        self.values |= values
        self._grown |= values.keys()

    def changed(self) -> dict[str, int]:
        grown, self._grown = self._grown, set()
        return {name: self.values[name] for name in grown}

    def totals(self) -> dict[str, int]:
        return dict(self.values)


def slot_of(counts: Counts) -> Slot:
    return Slot(counts, "id")


def begun(counts: Counts) -> Slot:
    slot = slot_of(counts)
    slot.replied(slot.next_push(), Accepted())
    return slot


def test_the_first_push_is_full_and_later_ones_carry_what_grew() -> None:
    counts = Counts()
    counts.raise_to(a=1, b=2)
    slot = slot_of(counts)
    first = slot.next_push()
    assert (first.slot, first.expected, first.sequence, first.full, first.fields) == (
        "id",
        0,
        1,
        True,
        {"a": 1, "b": 2},
    )
    slot.replied(first, Accepted())
    counts.raise_to(b=5)
    second = slot.next_push()
    assert (second.expected, second.sequence, second.full, second.fields) == (1, 2, False, {"b": 5})


def test_an_unanswered_push_is_sent_again_with_what_grew_since() -> None:
    counts = Counts()
    slot = begun(counts)
    counts.raise_to(a=1)
    lost = slot.next_push()
    counts.raise_to(b=1)
    again = slot.next_push()
    assert (again.expected, again.sequence) == (lost.expected, lost.sequence)
    assert again.fields == {"a": 1, "b": 1}
    assert not slot.settled


def test_a_slot_that_is_behind_is_told_everything() -> None:
    counts = Counts()
    counts.raise_to(a=1)
    slot = begun(counts)
    counts.raise_to(b=2)
    slot.replied(slot.next_push(), Behind())
    full = slot.next_push()
    assert full.full
    assert full.fields == {"a": 1, "b": 2}
    slot.replied(full, Accepted())
    assert slot.settled


def test_what_was_folded_is_not_published_again() -> None:
    counts = Counts()
    counts.raise_to(a=10, b=3)
    slot = begun(counts)
    counts.raise_to(a=15)
    slot.replied(slot.next_push(), Folded({"a": 10, "b": 3}))
    push = slot.next_push()
    assert (push.slot, push.expected, push.full, push.fields) == ("id~1", 0, True, {"a": 5})
    slot.replied(push, Accepted())
    counts.raise_to(a=16)
    slot.replied(slot.next_push(), Folded({"a": 5}))
    assert slot.next_push().fields == {"a": 1}


def test_a_burst_is_sent_in_parts() -> None:
    counts = Counts()
    slot = begun(counts)
    counts.raise_to(**{f"f{number}": 1 for number in range(MAX_FIELDS + 1)})
    first = slot.next_push()
    slot.replied(first, Accepted())
    second = slot.next_push()
    slot.replied(second, Accepted())
    assert (len(first.fields), len(second.fields), slot.settled) == (MAX_FIELDS, 1, True)
    assert first.fields.keys().isdisjoint(second.fields)


def test_nothing_new_is_still_a_heartbeat() -> None:
    slot = begun(Counts())
    assert slot.next_push().fields == {}
