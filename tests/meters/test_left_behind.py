"""What the dead leave: found once, by one, and never in the way of a start."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from io import FileIO
from pathlib import Path

import pytest
from proxy.meters import journal_format
from proxy.meters.journal import Journal
from proxy.meters.left_behind import BROKEN, Left, recover

CELL = ("counters", "acme")


def dead(folder: Path, slot: str = "s1", value: int = 7) -> Path:
    """The journal of a process that stopped with one cell to tell of."""
    journal = Journal.open(folder, slot, attempts=4, arena_bytes=4096)
    path = journal.path
    assert path is not None
    journal.note(journal.cell(*CELL, 1), [value])
    journal.close()
    return path


def only(left: tuple[Left, ...]) -> Left:
    (one,) = left
    return one


def test_a_file_that_is_gone_once_it_is_locked_is_passed_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that starts at the same time has dealt with it between our opening and our locking it."""
    path, real = dead(tmp_path), fcntl.flock

    def dealt_with(file: FileIO, operation: int) -> None:
        path.unlink()
        real(file, operation)

    monkeypatch.setattr(fcntl, "flock", dealt_with)
    assert recover(tmp_path) == ()


def test_where_there_is_no_folder_nothing_was_left(tmp_path: Path) -> None:
    assert recover(tmp_path / "missing") == ()


def test_a_folder_that_is_none_is_no_trouble(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    assert recover(tmp_path / "file") == ()
    assert "no look at the journals" in caplog.text


def test_what_a_dead_process_left_is_found_and_forgotten(tmp_path: Path) -> None:
    path = dead(tmp_path)
    left = only(recover(tmp_path))
    assert (left.path, left.slot, left.cells, left.acknowledged) == (path, "s1", {CELL: (7,)}, {})
    assert (left.open, left.damaged) == ((), 0)
    left.forget()
    assert list(tmp_path.iterdir()) == []


def test_attempts_in_flight_and_what_the_store_had_are_told_too(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, "s1", attempts=4, arena_bytes=4096)
    cell = journal.cell(*CELL, 1)
    journal.note(cell, [1])
    journal.checkpoint(journal.mark(1_700_000_000_000))
    journal.progress(journal.begin(cell, (10, 20)), 3)
    journal.close()
    left = only(recover(tmp_path))
    assert (left.cells, left.acknowledged, left.at_ms) == ({}, {CELL: (1,)}, 1_700_000_000_000)
    assert left.open == ((*CELL, (10, 20), 3),)
    left.forget()


def test_without_a_word_from_the_store_the_file_says_when(tmp_path: Path) -> None:
    os.utime(dead(tmp_path), (1_600_000_000.5, 1_600_000_000.5))
    left = only(recover(tmp_path))
    assert left.at_ms == 1_600_000_000_500
    left.forget()


def test_the_journal_of_a_living_process_is_not_touched(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, "s1", attempts=4, arena_bytes=4096)
    journal.note(journal.cell(*CELL, 1), [1])
    assert recover(tmp_path) == ()
    assert journal.path is not None
    assert journal.path.exists()
    journal.close()


def test_of_two_that_start_at_once_one_finds_it(tmp_path: Path) -> None:
    dead(tmp_path)
    left = only(recover(tmp_path))
    assert recover(tmp_path) == ()
    left.put_back()
    again = only(recover(tmp_path))
    assert again.cells == {CELL: (7,)}
    again.forget()
    assert recover(tmp_path) == ()


def test_to_forget_or_put_back_twice_does_no_harm(tmp_path: Path) -> None:
    dead(tmp_path)
    left = only(recover(tmp_path))
    left.forget()
    left.forget()
    left.put_back()


def test_each_is_found_in_a_folder_of_many(tmp_path: Path) -> None:
    for number in range(3):
        dead(tmp_path, f"s{number}", number)
    (tmp_path / "somebody-elses").write_text("file")
    found = recover(tmp_path)
    assert {left.slot: left.cells[CELL] for left in found} == {"s0": (0,), "s1": (1,), "s2": (2,)}
    for left in found:
        left.forget()
    assert [path.name for path in tmp_path.iterdir()] == ["somebody-elses"]


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def lengthened(path: Path) -> None:
    os.truncate(path, path.stat().st_size + 1)


def foreign(path: Path) -> None:
    path.write_bytes(b"something else altogether" * 1000)


def newer(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:8] + (journal_format.LAYOUT + 1).to_bytes(4, "little") + data[12:])


def damaged_header(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:12] + b"\xff" + data[13:])


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (emptied, "does not begin as a journal does"),
        (foreign, "does not begin as a journal does"),
        (cut, "bytes instead of"),
        (lengthened, "bytes instead of"),
        (newer, "its layout is 2, and this version reads 1"),
        (damaged_header, "its header is damaged"),
    ],
)
def test_what_cannot_be_read_is_moved_aside_and_the_others_are_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None], why: str
) -> None:
    broken = dead(tmp_path, "a1")
    spoil(broken)
    spoiled = broken.read_bytes()
    dead(tmp_path, "b1")
    only(recover(tmp_path)).forget()
    assert why in caplog.text
    assert broken.with_name(broken.name + BROKEN).read_bytes() == spoiled
    caplog.clear()
    assert recover(tmp_path) == ()
    assert caplog.text == ""


def test_one_damaged_cell_costs_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal.open(tmp_path, "s1", attempts=4, arena_bytes=4096)
    assert journal.path is not None
    for name in ("first", "second", "third"):
        journal.note(journal.cell("counters", name, 1), [1])
    data = bytearray(journal.path.read_bytes())
    data[data.index(b"second")] ^= 1
    journal.path.write_bytes(data)
    journal.close()
    left = only(recover(tmp_path))
    assert (set(left.cells), left.damaged) == ({("counters", "first"), ("counters", "third")}, 1)
    assert "cells that cannot be read: 1" in caplog.text
    left.forget()


def test_what_is_no_file_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    target = dead(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    target = target.rename(tmp_path / "elsewhere" / "file")
    (tmp_path / "journal-link").symlink_to(target)
    (tmp_path / "journal-folder").mkdir()
    os.mkfifo(tmp_path / "journal-pipe")
    assert recover(tmp_path) == ()
    assert caplog.text.count("cannot be seen to") == 3
    assert target.exists()


def test_a_file_that_its_maker_never_finished_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".unfinished-0123").write_bytes(b"half")
    assert recover(tmp_path) == ()
    assert list(tmp_path.iterdir()) == []
