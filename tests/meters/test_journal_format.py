"""The layout: what a power cut or a bad disk does to the bytes costs what they touch, and nothing is made up."""

from __future__ import annotations

from contextlib import closing
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.meters.journal import Journal
from proxy.meters.journal_format import (
    MAX_FILE_BYTES,
    MAX_WIDTH,
    SECTOR,
    SLOT,
    UNIT,
    Cell,
    Unreadable,
    arena_at,
    copy_format,
    entry_of,
    header,
    least_bytes,
    read,
    sizes,
    values_format,
)
from tests.thorough import examples

NAMES = ("a", "b", "c")
ARENA_BYTES = 8192
BYTES = arena_at(4) + ARENA_BYTES
VALUES = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=21, max_size=21)


@given(st.integers(1, MAX_WIDTH), st.text(max_size=300), st.integers(0, 100))
def test_no_copy_straddles_a_sector_and_nothing_overlaps(width: int, name: str, place: int) -> None:
    at = arena_at(8) + place * UNIT
    entry, head = entry_of(Cell("counters", name, width), at, 1)
    first, second = entry.copies
    size = copy_format(width).size
    assert at + len(head) <= first
    assert first + size <= second
    assert second + size <= at + entry.size
    assert entry.size % UNIT == 0
    for copy in entry.copies:
        assert copy // SECTOR == (copy + size - 1) // SECTOR


@given(st.integers(1, MAX_WIDTH), st.text(max_size=300), st.integers(0, 100))
def test_what_is_less_than_the_least_room_never_holds_an_entry(width: int, name: str, place: int) -> None:
    cell = Cell("counters", name, width)
    assert least_bytes(cell) <= entry_of(cell, place * UNIT, 1)[0].size


def test_values_from_an_earlier_use_of_a_place_are_not_taken_for_a_new_cells() -> None:
    """A power cut may leave a new head before old copies."""
    at = arena_at(4)
    cell = Cell("counters", "acme", 1)
    (entry, _), (_, later) = entry_of(cell, at, 1), entry_of(cell, at, 2)
    data = bytearray(header(4, ARENA_BYTES).ljust(BYTES, b"\0"))
    for copy in entry.copies:
        written = values_format(cell.width).pack(7, -1, 5)
        copy_format(cell.width).pack_into(data, copy, crc32(written, entry.seed), written)
    data[at : at + len(later)] = later
    found = read(bytes(data))
    assert (found.cells, found.damaged) == ({}, 1)


def test_a_header_says_how_long_the_file_is() -> None:
    assert sizes(header(8, 1024).ljust(4096, b"\0")) == (8, 4096 + 8 * 128 + 1024)


def test_a_header_that_promises_a_monster_is_not_believed() -> None:
    with pytest.raises(Unreadable, match="at most"):
        sizes(header(8, MAX_FILE_BYTES).ljust(4096, b"\0"))


def small(folder: str) -> Journal:
    return Journal.open(Path(folder), "s1", attempts=4, arena_bytes=ARENA_BYTES)


@cache
def whole() -> bytes:
    """A journal of three cells, each with both copies, and three attempts."""
    with TemporaryDirectory() as folder, closing(small(folder)) as journal:
        assert journal.path is not None
        for name in NAMES:
            cell = journal.cell("counters", name, 21)
            journal.note(cell, [1] * 21)
            journal.note(cell, [2] * 21)
            journal.begin(cell, (3,))
        return journal.path.read_bytes()


@cache
def extents() -> dict[str, tuple[int, int]]:
    """Where each cell's entry begins and ends: one behind the other, and the slot's before them all."""
    found = {}
    end = entry_of(Cell(SLOT, "s1", 1), arena_at(4), 1)[0].size + arena_at(4)
    for name in NAMES:
        start, end = end, end + entry_of(Cell("counters", name, 21), end, 1)[0].size
        found[name] = (start, end)
    return found


@given(st.integers(0, BYTES - 1), st.binary(min_size=1, max_size=700))
@settings(max_examples=examples(300), deadline=None)
def test_of_damaged_bytes_nothing_is_made_up(at: int, garbage: bytes) -> None:
    """Whatever is overwritten: what is found was there, and what was not touched is found, unless the header was."""
    spoiled = (whole()[:at] + garbage + whole()[at + len(garbage) :])[:BYTES]
    try:
        found = read(spoiled)
    except Unreadable:
        assert at < SECTOR
        return
    for values in {**found.cells, **found.acknowledged}.values():
        assert values in {(1,) * 21, (2,) * 21}
    assert {name for _, name in found.cells} <= set(NAMES)
    for attempt in found.open:
        assert (attempt.name in NAMES, attempt.values) == (True, (3,))
    if at >= SECTOR:
        untouched = {name for name, (start, end) in extents().items() if at + len(garbage) <= start or end <= at}
        assert untouched <= {name for _, name in found.acknowledged.keys() | found.cells.keys()}


@given(
    st.lists(VALUES, min_size=len(NAMES), max_size=len(NAMES)),
    st.lists(st.tuples(st.integers(0, len(NAMES) - 1), VALUES), max_size=5),
    st.lists(st.integers(0, 1000), min_size=1, max_size=50),
)
@settings(max_examples=examples(300), deadline=None)
def test_a_power_cut_costs_at_most_what_was_not_flushed(
    flushed: list[list[int]], later: list[tuple[int, list[int]]], disk: list[int]
) -> None:
    """The disk has each sector as it was at the flush or at any time after; of every cell there is one such state."""
    with TemporaryDirectory() as folder, closing(small(folder)) as journal:
        assert journal.path is not None
        cells = [journal.cell("counters", name, 21) for name in NAMES]
        for cell, values in zip(cells, flushed, strict=True):
            journal.note(cell, values)
        images = [journal.path.read_bytes()]
        for index, values in later:
            journal.note(cells[index], values)
            images.append(journal.path.read_bytes())
    sectors = (images[disk[at // SECTOR % len(disk)] % len(images)][at : at + SECTOR] for at in range(0, BYTES, SECTOR))
    found = read(b"".join(sectors))
    assert found.damaged == 0
    for index, name in enumerate(NAMES):
        noted = [flushed[index], *(values for cell, values in later if cell == index)]
        assert list(found.cells["counters", name]) in noted
