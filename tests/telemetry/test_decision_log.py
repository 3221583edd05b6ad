"""The decision log: whole lines from many processes, rotated by them, whatever becomes of the file or the disk."""

from __future__ import annotations

import gzip
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from proxy.settings import Settings
from proxy.telemetry import decision_log
from proxy.telemetry.decision_log import DecisionLog, Rotation, compress, opened

DAY_S = 86_400.0
NOON_S = 1_795_348_800.0 - 1_795_348_800.0 % DAY_S + DAY_S / 2
"""Noon of some day, UTC."""


class Clock:
    def __init__(self) -> None:
        self.now = NOON_S

    def __call__(self) -> float:
        return self.now


def texts(path: Path) -> list[str]:
    """The present file last, those that were put away before it in order; what lies unpacked, or compressed."""
    rotated = sorted(one for one in path.parent.iterdir() if one.name.startswith(f"{path.name}."))
    packed = [gzip.decompress(one.read_bytes()) if one.suffix == ".gz" else one.read_bytes() for one in rotated]
    return [text.decode() for text in [*packed, path.read_bytes()]]


def gzipped() -> None:
    """Wait for the threads that compress."""
    for thread in threading.enumerate():
        if thread.name == "decision-log-gzip":
            thread.join(10)


def test_lines_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    log = DecisionLog(path, Rotation())
    assert log.write([b"one", b"two"]) == 0
    assert log.write([b"three"]) == 0
    assert path.read_text() == "before\none\ntwo\nthree\n"


def test_a_new_file_is_not_for_everybody(tmp_path: Path) -> None:
    DecisionLog(tmp_path / "log", Rotation())
    assert (tmp_path / "log").stat().st_mode & 0o007 == 0


def test_at_its_size_a_file_is_put_away_and_the_oldest_beyond_those_to_keep_are_deleted(tmp_path: Path) -> None:
    path, clock = tmp_path / "log", Clock()
    others = [tmp_path / name for name in ("log.bak", "log.1", "log2", "log.20261122T120000000Z.old")]
    for other in others:
        other.write_text("mine")
    log = DecisionLog(path, Rotation(max_bytes=10, keep=2), clock)
    for word in (b"aaaa", b"bbbb", b"cccc", b"dddd", b"eeee", b"ffff", b"gggg"):
        assert log.write([word]) == 0
    assert path.read_text() == "gggg\n"
    rotated = sorted(one for one in tmp_path.iterdir() if one not in (path, *others))
    assert [one.read_text() for one in rotated] == ["cccc\ndddd\n", "eeee\nffff\n"]
    assert [other.read_text() for other in others] == ["mine"] * 4
    assert all(one.name.startswith("log.20261122T120000") for one in rotated)


def test_a_batch_is_spread_over_files_and_a_long_line_stays_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = DecisionLog(path, Rotation(max_bytes=10, keep=9), Clock())
    assert log.write([b"aaaa", b"bbbb", b"c" * 30, b"dddd"]) == 0
    assert texts(path) == ["aaaa\nbbbb\n", "c" * 30 + "\n", "dddd\n"]


def test_by_age_a_file_ends_with_its_day(tmp_path: Path) -> None:
    path, clock = tmp_path / "log", Clock()
    log = DecisionLog(path, Rotation(max_age_s=DAY_S), clock)
    for at_s, word in ((0.0, b"noon"), (DAY_S / 2 - 1, b"evening"), (DAY_S / 2, b"midnight"), (DAY_S * 3, b"later")):
        clock.now = NOON_S + at_s
        log.write([word])
        os.utime(path, (clock.now, clock.now))
    assert texts(path) == ["noon\nevening\n", "midnight\n", "later\n"]
    clock.now -= DAY_S  # a clock that was put back rotates nothing
    log.write([b"again"])
    assert texts(path)[-1] == "later\nagain\n"


@pytest.mark.parametrize("how", ["renamed", "deleted", "truncated"])
def test_what_others_do_to_the_file_loses_no_line_after_it(tmp_path: Path, how: str) -> None:
    path = tmp_path / "log"
    log = DecisionLog(path, Rotation())
    log.write([b"one"])
    if how == "renamed":
        path.rename(tmp_path / "away")
    elif how == "deleted":
        path.unlink()
    else:
        os.truncate(path, 0)
    log.write([b"two"])
    assert path.read_text() == "two\n"
    assert how != "renamed" or (tmp_path / "away").read_text() == "one\n"


def test_a_line_that_somebody_left_unfinished_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("whole\nhal")
    DecisionLog(path, Rotation()).write([b"next"])
    assert path.read_text() == "whole\nhal\nnext\n"


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "log"
    link.symlink_to(tmp_path / "disk" / "real")
    log = DecisionLog(link, Rotation(max_bytes=5))
    log.write([b"aaaa", b"bbbb"])
    assert link.is_symlink()
    assert link.read_text() == "bbbb\n"
    assert len(list((tmp_path / "disk").iterdir())) == 2


# what cannot be written


def test_what_is_no_file_or_has_no_folder_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "nowhere" / "log"):
        with pytest.raises(OSError, match=r"not a file|No such file"):
            DecisionLog(path, Rotation())


def test_a_folder_that_goes_and_comes_costs_the_lines_between_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "logs" / "log"
    path.parent.mkdir()
    log = DecisionLog(path, Rotation())
    (path.parent).rename(tmp_path / "away")
    with caplog.at_level(logging.WARNING):
        assert [log.write([b"one", b"two"]), log.write([b"three"])] == [2, 1]
    assert [one.message for one in caplog.records] == [
        f"the decision log `{path}` cannot be written, and its lines are dropped: no such file or directory"
    ]
    path.parent.mkdir()
    assert log.write([b"four"]) == 0
    assert path.read_text() == "four\n"


def test_a_file_that_cannot_be_put_away_grows_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log"
    log = DecisionLog(path, Rotation(max_bytes=5))

    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as refused, caplog.at_level(logging.WARNING):
        refused.setattr(Path, "rename", refuse)
        assert [log.write([b"aaaa"]), log.write([b"bbbb"]), log.write([b"cccc"])] == [0, 0, 0]
    assert path.read_text() == "aaaa\nbbbb\ncccc\n"
    assert [one.message for one in caplog.records] == [
        f"the decision log `{path}` cannot be put away, and grows on: permission denied"
    ]
    log.write([b"dddd"])
    assert texts(path) == ["aaaa\nbbbb\ncccc\n", "dddd\n"]


FULL = """
import json, resource, sys
from pathlib import Path
from proxy.telemetry.decision_log import DecisionLog, Rotation
path, room = Path(sys.argv[1]), int(sys.argv[2])
log = DecisionLog(path, Rotation())
resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
lost = [log.write([b"a" * 30] * 3), log.write([b"b" * 30] * 3), log.write([b"c"])]
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
lost.append(log.write([b"d"]))
print(json.dumps(lost))
"""


def test_a_full_disk_costs_lines_and_tears_none(tmp_path: Path) -> None:
    """The file may not grow beyond 140 bytes for a while: four lines of 31 fit, and two bytes that are a line too."""
    path = tmp_path / "log"
    ran = subprocess.run(
        [sys.executable, "-c", FULL, str(path), "140"], capture_output=True, text=True, check=True, timeout=30
    )
    assert json.loads(ran.stdout) == [0, 2, 0, 0]
    assert path.read_text() == ("a" * 30 + "\n") * 3 + "b" * 30 + "\nc\nd\n"


# several processes

WRITER = """
import sys
from pathlib import Path
from proxy.telemetry.decision_log import DecisionLog, Rotation
path, name, count, compress = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4] == "gzip"
log = DecisionLog(path, Rotation(max_bytes=20_000, keep=1000, compress=compress))
print("ready", flush=True)
sys.stdin.readline()
number = 0
while number < count:
    batch = range(number, min(number + 1 + number % 17, count))
    lines = [b'{"by": "%s", "number": %d, "filling": "%s"}' % (name.encode(), n, b"x" * (n % 200)) for n in batch]
    assert log.write(lines) == 0
    number += len(lines)
    print(number, flush=True)
"""


def start(path: Path, name: str, count: int, how: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), name, str(count), how]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def go(*writers: subprocess.Popen[str]) -> None:
    """Let them write, all at once."""
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()


@pytest.mark.parametrize("how", ["", "gzip"])
def test_processes_that_share_a_file_tear_no_line_and_lose_none_at_rotation(tmp_path: Path, how: str) -> None:
    path = tmp_path / "log"
    writers = [start(path, str(number), 2000, how) for number in range(4)]
    go(*writers)
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    for left in tmp_path.glob("log.*Z") if how else ():
        compress(left)  # as the next process does with what was not finished when the last one ended
    found = [json.loads(line) for text in texts(path) for line in text.splitlines()]
    assert len(texts(path)) > 20
    by = {name: [line["number"] for line in found if line["by"] == name] for name in "0123"}
    assert by == {name: list(range(2000)) for name in "0123"}


def test_a_process_that_is_killed_while_it_writes_costs_no_other_a_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    victim, witness = start(path, "victim", 10**9), start(path, "witness", 3000)
    go(victim, witness)
    assert victim.stdout is not None
    while int(victim.stdout.readline()) < 1000:
        pass
    victim.send_signal(signal.SIGKILL)
    rest = victim.stdout.read()
    victim.communicate()
    witness.communicate(timeout=60)
    assert witness.returncode == 0
    lines = [line for text in texts(path) for line in text.splitlines()]
    whole = Counter(line.endswith("}") and line.startswith("{") for line in lines)
    assert whole[False] <= 1
    found = [json.loads(line) for line in lines if line.endswith("}")]
    assert [line["number"] for line in found if line["by"] == "witness"] == list(range(3000))
    told = int(rest.splitlines()[-1]) if rest.splitlines() else 1000
    assert len([line for line in found if line["by"] == "victim"]) >= told


# compressed


def test_what_was_put_away_is_compressed_also_what_a_process_left_half_done(tmp_path: Path) -> None:
    path, clock = tmp_path / "log", Clock()
    left, part = tmp_path / "log.20200101T000000000Z", tmp_path / ".log.20200101T000000000Z.gz"
    left.write_text("left\n")
    part.write_bytes(b"half an archive")
    log = DecisionLog(path, Rotation(max_bytes=5, compress=True), clock)
    log.write([b"aaaa", b"bbbb"])
    gzipped()
    assert [one.suffix for one in sorted(tmp_path.iterdir())] == ["", ".gz", ".gz"]
    assert texts(path) == ["left\n", "aaaa\n", "bbbb\n"]


def test_a_file_that_is_there_twice_while_it_is_compressed_counts_once(tmp_path: Path) -> None:
    path, clock = tmp_path / "log", Clock()
    for name in ("log.20200101T000000000Z.gz", "log.20200102T000000000Z", "log.20200102T000000000Z.gz"):
        (tmp_path / name).write_bytes(gzip.compress(b"old\n") if name.endswith("gz") else b"old\n")
    DecisionLog(path, Rotation(max_bytes=5, keep=3), clock).write([b"aaaa", b"bbbb"])
    assert len([one for one in tmp_path.iterdir() if one.name.startswith("log.2020")]) == 3
    DecisionLog(path, Rotation(max_bytes=5, keep=2), clock).write([b"cccc"])
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith("log.2020")] == []


def test_what_another_process_compresses_is_left_to_it(tmp_path: Path) -> None:
    path = tmp_path / "log.20200101T000000000Z"
    path.write_text("text\n")
    with (tmp_path / f".{path.name}.gz").open("ab") as held:
        decision_log.fcntl.flock(held, decision_log.fcntl.LOCK_EX)
        compress(path)
        assert path.read_text() == "text\n"
    compress(path)
    assert not path.exists()
    compress(path)
    assert [one.name for one in tmp_path.iterdir()] == [f"{path.name}.gz"]


def test_the_settings_say_whether_there_is_one(tmp_path: Path) -> None:
    assert opened(Settings(policy=tmp_path)) is None
    settings = Settings(policy=tmp_path, decision_log=tmp_path / "log", decision_log_max_bytes=5, decision_log_keep=1)
    log = opened(settings)
    assert log is not None
    log.write([b"aaaa", b"bbbb", b"cccc"])
    assert texts(tmp_path / "log") == ["bbbb\n", "cccc\n"]
