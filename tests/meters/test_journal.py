"""The journal: what is noted is in the file at once, whole, and no trouble with the disk reaches a request."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.meters import journal as journal_module
from proxy.meters.journal import NOWHERE, Journal
from proxy.meters.journal_file import JournalFile, claim
from proxy.meters.journal_format import MAX_ATTEMPT_VALUES, MAX_WIDTH, Contents, read
from tests.thorough import examples

SMALL_ATTEMPTS = 8
SMALL_ARENA_BYTES = 4096
LARGEST = 2**63 - 1


@contextmanager
def opened(folder: Path, slot: str = "s1") -> Iterator[Journal]:
    journal = Journal.open(folder, slot, attempts=SMALL_ATTEMPTS, arena_bytes=SMALL_ARENA_BYTES)
    try:
        yield journal
    finally:
        journal.close()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with opened(tmp_path / "journals") as journal:
        yield journal


def image(journal: Journal) -> bytes:
    """What another process would find in the file now."""
    assert journal.path is not None
    return journal.path.read_bytes()


def contents(journal: Journal) -> Contents:
    return read(image(journal))


def test_the_file_has_the_latest_values_of_every_cell_at_once(journal: Journal) -> None:
    first, second = journal.cell("counters", "acme", 3), journal.cell("escrow", "acme", 2)
    journal.note(first, [1, 2, 3])
    journal.note(first, (4, 5, LARGEST))
    journal.note(second, (7, -1))
    journal.note(second, (6, -2))
    assert contents(journal).cells == {("counters", "acme"): (4, 5, LARGEST), ("escrow", "acme"): (6, -2)}


def test_a_cell_that_was_never_noted_is_not_there(journal: Journal) -> None:
    journal.cell("counters", "acme", 3)
    assert contents(journal).cells == {}


def test_the_same_name_is_the_same_cell_and_another_kind_is_another(journal: Journal) -> None:
    first = journal.cell("counters", "acme", 3)
    assert journal.cell("counters", "acme", 3) == first
    assert journal.cell("escrow", "acme", 3) != first


@pytest.mark.parametrize("width", [0, -1, MAX_WIDTH + 1])
def test_a_cell_of_no_possible_width_is_refused(journal: Journal, width: int) -> None:
    with pytest.raises(ValueError, match=f"not {width}"):
        journal.cell("counters", "acme", width)


def test_what_the_store_has_is_told_from_what_it_may_lack(journal: Journal) -> None:
    early, late = journal.cell("counters", "early", 1), journal.cell("counters", "late", 1)
    journal.note(early, [1])
    journal.note(late, [1])
    mark = journal.mark()
    journal.note(late, [2])
    assert journal.waiting == 2
    journal.checkpoint(mark)
    assert journal.waiting == 1
    found = contents(journal)
    assert (found.cells, found.acknowledged) == ({("counters", "late"): (2,)}, {("counters", "early"): (1,)})


def test_an_older_acknowledgement_that_comes_late_takes_nothing_back(journal: Journal) -> None:
    cell = journal.cell("counters", "acme", 1)
    early = journal.mark()
    journal.note(cell, [1])
    journal.checkpoint(journal.mark())
    journal.checkpoint(early)
    assert (journal.waiting, contents(journal).cells) == (0, {})


def test_the_file_says_when_its_owner_was_last_heard_of(journal: Journal) -> None:
    assert contents(journal).at_ms == 0
    journal.mark(1_700_000_000_123)
    journal.mark()
    assert contents(journal).at_ms == 1_700_000_000_123


def test_attempts_in_flight_are_there_until_they_end(journal: Journal) -> None:
    cell = journal.cell("counters", "acme", 1)
    first, second = journal.begin(cell, (10, 20)), journal.begin(cell)
    journal.progress(first, 5)
    assert contents(journal).open == (("counters", "acme", (10, 20), 5), ("counters", "acme", (), 0))
    journal.end(first)
    assert contents(journal).open == (("counters", "acme", (), 0),)
    journal.end(second)
    assert contents(journal).open == ()


def test_an_attempt_ends_with_the_note_that_counts_it(journal: Journal) -> None:
    cell = journal.cell("counters", "acme", 1)
    attempt = journal.begin(cell, (10,))
    with snapshots(journal) as taken:
        journal.note(cell, [10], settles=attempt)
    found = [read(data) for data in taken]
    assert [bool(each.open) != bool(each.cells) for each in found] == [True] * len(found)
    assert len(taken) == 3, "before, between the note and the table, and after"
    assert journal.begin(cell) == attempt
    assert len(contents(journal).open) == 1


def test_a_note_that_is_dropped_ends_its_attempt_all_the_same(journal: Journal) -> None:
    cell = journal.cell("counters", "acme", 1)
    journal.note(cell, [LARGEST + 1], settles=journal.begin(cell))
    journal.note(NOWHERE, [1], settles=journal.begin(cell))
    assert contents(journal).open == ()


def test_a_place_used_again_has_the_progress_of_its_own_attempt(journal: Journal) -> None:
    cell = journal.cell("counters", "acme", 1)
    first = journal.begin(cell, (1,))
    journal.progress(first, 5)
    journal.end(first)
    assert journal.begin(cell, (2,)) == first
    assert contents(journal).open == (("counters", "acme", (2,), 0),)


def test_an_attempt_that_ends_twice_frees_one_place(journal: Journal) -> None:
    cell = journal.cell("counters", "acme", 1)
    attempt = journal.begin(cell)
    journal.end(attempt)
    journal.end(attempt)
    assert len({journal.begin(cell) for _ in range(SMALL_ATTEMPTS)}) == SMALL_ATTEMPTS


def test_more_attempts_than_there_is_room_for_are_dropped_and_counted(journal: Journal) -> None:
    cell = journal.cell("counters", "acme", 1)
    numbers = [journal.begin(cell, tuple(range(MAX_ATTEMPT_VALUES))) for _ in range(SMALL_ATTEMPTS + 2)]
    assert numbers[SMALL_ATTEMPTS:] == [NOWHERE, NOWHERE]
    assert journal.dropped == 2
    journal.progress(NOWHERE, 1)
    journal.end(NOWHERE)
    journal.end(numbers[0])
    assert journal.begin(cell) == numbers[0]
    assert len(contents(journal).open) == SMALL_ATTEMPTS


def test_more_cells_than_there_is_room_for_are_dropped_and_counted(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    cells = [journal.cell("counters", f"tenant-{number}", 21) for number in range(20)]
    kept = [number for number, cell in enumerate(cells) if cell != NOWHERE]
    assert 0 < len(kept) < len(cells)
    for number, cell in enumerate(cells):
        journal.note(cell, [number] * 21)
    assert journal.dropped == len(cells) - len(kept)
    assert contents(journal).cells == {("counters", f"tenant-{number}"): (number,) * 21 for number in kept}
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert journal.size_bytes <= journal.max_bytes == len(image(journal))


def test_a_name_of_absurd_length_finds_no_room(journal: Journal) -> None:
    assert journal.cell("counters", "x" * 5000, 1) == NOWHERE


def test_released_cells_make_room_for_others_for_ever(journal: Journal) -> None:
    kept = journal.cell("counters", "kept", 4)
    journal.note(kept, [1, 2, 3, 4])
    for hour in range(100):
        cell = journal.cell("escrow", f"growth/{hour}", 4)
        journal.note(cell, [hour] * 4)
        assert contents(journal).cells == {
            ("counters", "kept"): (1, 2, 3, 4),
            ("escrow", f"growth/{hour}"): (hour,) * 4,
        }
        journal.release(cell)
        assert cell == kept + 1
    assert contents(journal).cells == {("counters", "kept"): (1, 2, 3, 4)}
    assert journal.dropped == 0
    journal.release(NOWHERE)


def test_an_attempt_of_a_released_cell_is_not_taken_for_one_of_the_cell_in_its_place(journal: Journal) -> None:
    old = journal.cell("counters", "old", 1)
    journal.begin(old, (1,))
    journal.release(old)
    journal.note(journal.cell("counters", "new", 1), [1])
    assert contents(journal).open == ()


def test_values_that_no_64_bits_hold_are_dropped_and_the_last_ones_stay(journal: Journal) -> None:
    cell = journal.cell("counters", "acme", 1)
    journal.note(cell, [1])
    journal.note(cell, [LARGEST + 1])
    attempt = journal.begin(cell, (1,))
    journal.progress(attempt, LARGEST + 1)
    assert journal.begin(cell, (LARGEST + 1,)) == NOWHERE
    assert (journal.dropped, contents(journal).cells) == (3, {("counters", "acme"): (1,)})
    assert contents(journal).open == (("counters", "acme", (1,), 0),)


def test_a_process_that_counts_under_a_new_slot_says_so(journal: Journal) -> None:
    assert contents(journal).slot == "s1"
    journal.note(journal.cell("counters", "acme", 1), [1])
    journal.rename("s2")
    journal.rename("s2")
    assert (contents(journal).slot, contents(journal).cells) == ("s2", {("counters", "acme"): (1,)})


def test_of_two_slots_the_later_one_holds(journal: Journal) -> None:
    journal.rename("s2")
    with snapshots(journal) as taken:
        journal.rename("s3")
    slots = [read(data).slot for data in taken]
    assert slots == sorted(slots)
    assert slots[-2:] == ["s3", "s3"], "as soon as it is noted, before the old one is gone"


def test_names_of_any_language_are_kept(journal: Journal) -> None:
    name = "größe/東京/\udc80"
    journal.note(journal.cell("counters", name, 1), [1])
    assert contents(journal).cells == {("counters", name): (1,)}


def test_only_its_owner_may_read_it(journal: Journal) -> None:
    assert journal.path is not None
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(journal.path.parent.stat().st_mode) == 0o700


def test_it_goes_away_when_the_store_has_everything(journal: Journal) -> None:
    assert journal.path is not None
    folder = journal.path.parent
    cell = journal.cell("counters", "acme", 1)
    journal.note(cell, [1])
    journal.checkpoint(journal.mark())
    journal.end(journal.begin(cell))
    journal.close()
    assert list(folder.iterdir()) == []


def test_it_stays_when_the_store_lacks_something(journal: Journal) -> None:
    path = journal.path
    assert path is not None
    journal.note(journal.cell("counters", "acme", 1), [1])
    journal.close()
    assert read(path.read_bytes()).cells == {("counters", "acme"): (1,)}


def test_it_stays_when_an_attempt_was_left_in_flight(journal: Journal) -> None:
    path = journal.path
    assert path is not None
    journal.begin(journal.cell("counters", "acme", 1), (3,))
    journal.close()
    assert read(path.read_bytes()).open == (("counters", "acme", (3,), 0),)


def test_whoever_is_late_may_still_use_a_closed_journal(journal: Journal) -> None:
    cell = journal.cell("counters", "acme", 1)
    attempt = journal.begin(cell, (1,))
    journal.close()
    journal.note(cell, [1])
    journal.progress(attempt, 1)
    journal.end(attempt)
    journal.end(journal.begin(journal.cell("counters", "late", 2)))
    journal.checkpoint(journal.mark())
    journal.flush()
    journal.close()
    assert (journal.on_disk, journal.path) == (False, None)


def test_a_flush_has_the_disk_take_this_file(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    real, taken = os.fsync, []

    def seen(handle: int) -> None:
        taken.append(os.fstat(handle).st_ino)
        real(handle)

    monkeypatch.setattr(os, "fsync", seen)
    journal.flush()
    assert journal.path is not None
    assert taken == [journal.path.stat().st_ino]


def use(journal: Journal) -> None:
    """What a request and a sync do."""
    cell = journal.cell("counters", "acme", 1)
    attempt = journal.begin(cell, (1,))
    journal.progress(attempt, 1)
    journal.note(cell, [1])
    journal.end(attempt)
    journal.release(cell)
    journal.rename("s2")
    journal.checkpoint(journal.mark(1))
    journal.flush()
    journal.close()


def test_it_works_in_memory_where_there_can_be_no_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    with opened(tmp_path / "file" / "journals") as journal:
        assert not journal.on_disk
        assert (journal.size_bytes, journal.max_bytes, journal.waiting) == (0, 0, 0)
        use(journal)
    assert journal.dropped == 2
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no journal in" in caplog.text


def test_a_file_that_would_be_far_too_large_is_not_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not Journal.open(tmp_path, "s1", arena_bytes=1 << 31).on_disk
    assert "are the most" in caplog.text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["posix_fallocate", "rename"])
def test_nothing_is_left_of_a_file_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os if call == "posix_fallocate" else Path, call, full)
    with opened(tmp_path) as journal:
        use(journal)
        assert not journal.on_disk
    assert list(tmp_path.iterdir()) == []


def test_where_the_disk_cannot_allocate_the_file_is_written_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    with opened(tmp_path) as journal:
        assert journal.path is not None
        assert journal.path.stat().st_blocks * 512 >= journal.max_bytes


def test_a_deleted_file_is_noticed_once_and_serving_goes_on(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    assert journal.path is not None
    cell = journal.cell("counters", "acme", 1)
    journal.path.unlink()
    journal.mark()
    journal.note(cell, [1])
    use(journal)
    assert not journal.on_disk
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@dataclass
class Model:
    """What a reader should find, kept in dictionaries."""

    values: dict[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)
    fresh: set[tuple[str, str]] = field(default_factory=set)
    open: dict[int, tuple[str, str, tuple[int, ...], int]] = field(default_factory=dict)
    slot: str = "s1"
    at_ms: int = 0
    marked: set[tuple[str, str]] = field(default_factory=set)

    def seen(self) -> tuple[object, ...]:
        return dict(self.values), sorted(self.open.values()), self.slot


def seen(found: Contents) -> tuple[object, ...]:
    return {**found.cells, **found.acknowledged}, sorted(tuple(attempt) for attempt in found.open), found.slot


NAMES = st.sampled_from(["a", "b", "a longer name, so that its entry is larger than the others" * 2, "d", "e", "f"])
NUMBERS = st.integers(-(2**63), LARGEST)
ACTIONS = st.one_of(
    st.tuples(st.just("note"), NAMES, st.lists(NUMBERS, min_size=5, max_size=5)),
    st.tuples(st.just("settle"), NAMES, st.lists(NUMBERS, min_size=5, max_size=5), st.integers(0, 100)),
    st.tuples(st.just("begin"), NAMES, st.lists(NUMBERS, max_size=MAX_ATTEMPT_VALUES)),
    st.tuples(st.just("progress"), st.integers(0, 100), NUMBERS),
    st.tuples(st.just("end"), st.integers(0, 100)),
    st.tuples(st.just("mark"), st.integers(1, LARGEST)),
    st.tuples(st.just("checkpoint")),
    st.tuples(st.just("release"), NAMES),
    st.tuples(st.just("rename"), st.sampled_from(["s1", "s2", "s3"])),
)


class Pair:
    """A journal and its model, which do the same."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.model = Model()
        self._mark = 0

    def do(self, action: tuple[Any, ...]) -> None:
        getattr(self, action[0])(*action[1:])

    def note(self, name: str, values: list[int], settles: int = NOWHERE) -> None:
        cell = self.journal.cell("counters", name, len(values))
        self.journal.note(cell, values, settles)
        if cell != NOWHERE:
            self.model.values["counters", name] = tuple(values)
            self.model.fresh.add(("counters", name))
            self.model.marked.discard(("counters", name))

    def settle(self, name: str, values: list[int], draw: int) -> None:
        attempt = self._attempt(draw)
        self.note(name, values, NOWHERE if attempt is None else attempt)
        if attempt is not None:
            del self.model.open[attempt]

    def begin(self, name: str, values: list[int]) -> None:
        attempt = self.journal.begin(self.journal.cell("counters", name, 5), values)
        if attempt != NOWHERE:
            self.model.open[attempt] = ("counters", name, tuple(values), 0)

    def _attempt(self, draw: int) -> int | None:
        attempts = sorted(self.model.open)
        return attempts[draw % len(attempts)] if attempts else None

    def progress(self, draw: int, value: int) -> None:
        if (attempt := self._attempt(draw)) is not None:
            self.journal.progress(attempt, value)
            self.model.open[attempt] = (*self.model.open[attempt][:3], value)

    def end(self, draw: int) -> None:
        if (attempt := self._attempt(draw)) is not None:
            self.journal.end(attempt)
            del self.model.open[attempt]

    def mark(self, at_ms: int) -> None:
        self._mark = self.journal.mark(at_ms)
        self.model.at_ms = at_ms
        self.model.marked = set(self.model.fresh)

    def checkpoint(self) -> None:
        self.journal.checkpoint(self._mark)
        self.model.fresh -= self.model.marked
        self.model.marked = set()

    def release(self, name: str) -> None:
        """As its owner would: no attempt is in flight for a cell that is released."""
        if any(attempt[1] == name for attempt in self.model.open.values()):
            return
        self.journal.release(self.journal.cell("counters", name, 5))
        self.model.values.pop(("counters", name), None)
        self.model.fresh.discard(("counters", name))
        self.model.marked.discard(("counters", name))

    def rename(self, slot: str) -> None:
        self.journal.rename(slot)
        self.model.slot = slot


@given(st.lists(ACTIONS, max_size=40))
@settings(deadline=None, max_examples=examples(150))
def test_a_reader_finds_what_was_last_noted(actions: list[tuple[Any, ...]]) -> None:
    with TemporaryDirectory() as folder, opened(Path(folder)) as journal:
        pair = Pair(journal)
        for action in actions:
            pair.do(action)
            found = contents(journal)
            assert seen(found) == pair.model.seen()
            assert set(found.cells) == pair.model.fresh
            assert (found.at_ms, found.damaged) == (pair.model.at_ms, 0)
            assert journal.waiting == len(pair.model.fresh)


@contextmanager
def snapshots(journal: Journal) -> Iterator[list[bytes]]:
    """What the file looks like before and after every line of the journal's code that changes it, in order."""
    taken = [image(journal)]
    code = journal_module.__file__

    def look(frame: FrameType, _event: str, _argument: object) -> Callable[..., Any] | None:
        if frame.f_code.co_filename != code:
            return None
        now = image(journal)
        if now != taken[-1]:
            taken.append(now)
        return look

    tracing = sys.gettrace()
    sys.settrace(look)
    try:
        yield taken
    finally:
        sys.settrace(tracing)
    if (last := image(journal)) != taken[-1]:
        taken.append(last)


def torn(before: bytes, after: bytes, cut: float, step: int) -> bytes:
    """The file when the process was killed in the midst of the copying that leads from one to the other."""
    changed = [at for at, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    at = changed[int(cut * (len(changed) - 1))] // step * step if changed else 0
    return after[:at] + before[at:]


@given(st.lists(ACTIONS, max_size=12), ACTIONS, st.floats(0, 1))
@settings(deadline=None, max_examples=examples(300))
def test_killed_at_any_byte_a_reader_finds_what_was_noted_before_or_after(
    actions: list[tuple[Any, ...]], last: tuple[Any, ...], cut: float
) -> None:
    with TemporaryDirectory() as folder, opened(Path(folder)) as journal:
        pair = Pair(journal)
        for action in actions:
            pair.do(action)
        before, fresh = pair.model.seen(), set(pair.model.fresh)
        with snapshots(journal) as taken:
            pair.do(last)
        # A machine stores an aligned word at once, and of an attempt's progress there is no second copy.
        step = 8 if last[0] == "progress" else 1
        for old, new in pairwise(taken):
            found = read(torn(old, new, cut, step))
            assert seen(found) in (before, pair.model.seen())
            assert found.damaged == 0
            assert set(found.cells) >= fresh & pair.model.fresh


def test_a_file_that_others_take_for_a_dead_ones_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, removed = os.open, []

    def removed_at_once(path: Path, *arguments: int) -> int:
        handle = real(path, *arguments)
        if not removed:
            removed.append(path)
            path.unlink()
        return handle

    monkeypatch.setattr(os, "open", removed_at_once)
    file = JournalFile(tmp_path, "s1", 4, 4096)
    assert removed
    assert list(tmp_path.iterdir()) == [file.path]
    file.close(remove=True)


def test_a_file_is_locked_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, locked = Path.rename, []

    def looked_at(path: Path, target: Path) -> Path:
        locked.append(claim(path) is None)
        return real(path, target)

    monkeypatch.setattr(Path, "rename", looked_at)
    with opened(tmp_path):
        assert locked == [True]
