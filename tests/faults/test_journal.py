"""A process killed by force, a full disk, a disk that takes no more: what was noted is there, and nobody is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from proxy.meters.journal import Journal
from proxy.meters.left_behind import Left, recover

from tests.faults.journal_process import CELLS, IN_FLIGHT, WIDTH

ROOT = Path(__file__).resolve().parents[2]
KILLS = 12


def started(folder: Path, slot: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.journal_process", str(folder), slot], stdout=subprocess.PIPE, cwd=ROOT
    )


def killed_after(process: subprocess.Popen[bytes], lines: int) -> dict[int, int]:
    """Let it note for a while and kill it in the midst of that. The greatest value that it reported for each cell."""
    assert process.stdout is not None
    with process, process.stdout as out:
        read = [out.readline() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        read += out.readlines()
        assert process.wait() == -signal.SIGKILL
    whole = (line.split() for line in read if line.endswith(b"\n"))
    return {int(cell): int(value) for cell, value in whole}


def only(left: tuple[Left, ...]) -> Left:
    (one,) = left
    return one


@pytest.mark.parametrize("kill", range(KILLS))
def test_what_a_killed_process_had_noted_is_found(tmp_path: Path, kill: int) -> None:
    reported = killed_after(started(tmp_path, f"s{kill}"), 1 + 137 * kill)
    left = only(recover(tmp_path))
    found = {**left.cells, **left.acknowledged}
    for number, value in reported.items():
        values = found["counters", f"cell-{number}"]
        assert len(set(values)) == 1
        assert len(values) == WIDTH
        assert values[0] - value in {0, 1}, "one note may be done and not reported yet"
    begun = sum(values[0] for values in found.values()) + len(left.open)
    assert sorted(attempt.values for attempt in left.open) == [(begun - n,) for n in reversed(range(len(left.open)))]
    assert IN_FLIGHT <= len(left.open) <= IN_FLIGHT + 1
    assert (left.slot, left.damaged, len(found)) == (f"s{kill}", 0, min(CELLS, begun - len(left.open)))
    left.forget()


def test_a_living_process_keeps_its_journal_and_its_siblings_theirs(tmp_path: Path) -> None:
    first, second = started(tmp_path, "s1"), started(tmp_path, "s2")
    assert second.stdout is not None
    assert second.stdout.readline()
    killed_after(first, 10)
    left = only(recover(tmp_path))
    assert left.slot == "s1"
    left.forget()
    killed_after(second, 10)
    left = only(recover(tmp_path))
    assert left.slot == "s2"
    left.forget()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("only root can mount a disk of 1 MB")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no disk of 1 MB can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def noted(journal: Journal, value: int) -> None:
    journal.note(journal.cell("counters", "acme", 1), [value])


def test_a_disk_without_room_is_noticed_before_it_is_a_bus_error(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal.open(small_disk, "s1", attempts=16, arena_bytes=4 << 20)
    noted(journal, 1)
    assert (journal.on_disk, journal.dropped) == (False, 1)
    assert "No space left on device" in caplog.text
    assert list(small_disk.iterdir()) == []


def test_a_disk_that_fills_up_later_does_not_stop_a_journal(small_disk: Path) -> None:
    journal = Journal.open(small_disk, "s1", attempts=16, arena_bytes=512 << 10)
    with pytest.raises(OSError, match="No space left"), (small_disk / "other").open("wb", buffering=0) as other:
        while other.write(bytes(1 << 16)):
            pass
    names = [f"tenant-{number}" for number in range(500)]
    for name in names:
        journal.note(journal.cell("counters", name, 21), [1] * 21)
    assert (journal.on_disk, journal.dropped) == (True, 0)
    journal.close()
    left = only(recover(small_disk))
    assert len(left.cells) == len(names)
    left.forget()


def test_a_disk_that_may_only_be_read_is_no_trouble(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal.open(small_disk, "s1", attempts=16, arena_bytes=4096)
    noted(journal, 7)
    journal.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    left = only(recover(small_disk))
    assert left.cells == {("counters", "acme"): (7,)}
    left.forget()
    journal = Journal.open(small_disk, "s2", attempts=16, arena_bytes=4096)
    noted(journal, 8)
    assert not journal.on_disk
    assert caplog.text.count("Read-only file system") == 2
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    left = only(recover(small_disk))
    assert left.cells == {("counters", "acme"): (7,)}
    left.forget()
