"""Lines go out from a thread of their own: what happens when nobody takes them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from proxy.telemetry import line_writer
from proxy.telemetry.line_writer import LineWriter


class Clogged:
    """A pipe that nobody reads: a write waits until somebody does."""

    def __init__(self) -> None:
        self.waiting, self.read = threading.Event(), threading.Event()
        self.written: list[bytes] = []

    def write(self, lines: list[bytes]) -> int:
        self.waiting.set()
        self.read.wait(10)
        self.written += lines
        return 0


@pytest.fixture
def clogged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clogged]:
    monkeypatch.setattr(line_writer, "FLUSH_S", 0.001)
    pipe = Clogged()
    yield pipe
    pipe.read.set()


def closed(writer: LineWriter) -> LineWriter:
    writer.stop()
    writer.join()
    return writer


def test_a_full_pipe_holds_up_nobody_and_what_is_lost_is_counted(
    clogged: Clogged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_writer, "MAX_PENDING_LINES", 100)
    writer = LineWriter("test", clogged.write)
    writer.add(b"0")
    assert clogged.waiting.wait(5)
    for number in range(1, 151):
        writer.add(b"%d" % number)
    assert writer.dropped == 50
    clogged.read.set()
    closed(writer)
    assert clogged.written == [b"0", *(b"%d" % number for number in range(51, 151))]


def test_stopping_writes_what_is_left() -> None:
    written: list[bytes] = []

    def write(lines: list[bytes]) -> int:
        written.extend(lines)
        return 0

    writer = LineWriter("test", write)
    for number in range(1000):
        writer.add(b"%d" % number)
    assert closed(writer).dropped == 0
    assert written == [b"%d" % number for number in range(1000)]


def test_joining_gives_up_on_a_pipe_that_nobody_reads(clogged: Clogged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_writer, "CLOSE_S", 0.01)
    writer = LineWriter("test", clogged.write)
    writer.add(b"0")
    assert clogged.waiting.wait(5)
    closed(writer)
    assert clogged.written == []


@pytest.mark.parametrize("error", [BrokenPipeError(), ValueError("write to closed file")])
def test_a_pipe_that_broke_costs_its_lines_and_nothing_else(error: Exception) -> None:
    def write(lines: list[bytes]) -> int:
        raise error

    writer = LineWriter("test", write)
    writer.add(b"0")
    assert closed(writer).dropped == 1


def test_what_could_not_be_written_of_a_batch_is_counted() -> None:
    writer = LineWriter("test", lambda lines: len(lines) // 2)
    for number in range(10):
        writer.add(b"%d" % number)
    assert closed(writer).dropped == 5
