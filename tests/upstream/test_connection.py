"""One connection: what its sink hears of every kind of reply, and what becomes of the connection afterwards."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.upstream.connection import MAX_HEADER_BYTES, Connection
from proxy.upstream.errors import ConnectionBroken, ProtocolViolated
from tests.upstream.transcript import Transcript

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n3\r\n!!!\r\n0\r\n\r\n"
WHOLE = ["head", "data", "end"]


class Wire:
    """The transport: written bytes, and whether reading is paused or the connection closed."""

    def __init__(self) -> None:
        self.written = b""
        self.paused = self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Line:
    """A connection with its wire, its owner's notes, and a sink waiting for a reply."""

    def __init__(self, *, stale: bool = False) -> None:
        self.idle = self.lost = self.resent = 0
        self.wire = Wire()
        self.connection = Connection(self)
        self.connection.connection_made(cast(asyncio.Transport, self.wire))
        self.sink = self.ask(stale=stale)

    def ask(self, *, stale: bool = False) -> Transcript:
        self.sink = Transcript()
        self.connection.send(b"ask", self.sink, self.resend if stale else None)
        return self.sink

    def hear(self, *reads: bytes) -> list[str]:
        for read in reads:
            self.connection.data_received(read)
        return self.sink.steps

    def lose(self, error: Exception | None = None) -> list[str]:
        self.connection.connection_lost(error)
        return self.sink.steps

    def resend(self) -> None:
        self.resent += 1

    def on_idle(self, connection: Connection) -> None:
        self.idle += 1

    def on_closed(self, connection: Connection) -> None:
        self.lost += 1


def test_a_reply_in_one_read_is_one_delivery_and_the_connection_is_kept() -> None:
    line = Line()
    assert line.hear(CHUNKED) == WHOLE
    assert (line.sink.status, line.sink.body) == (200, b"ok!!!")
    assert (line.idle, line.wire.closed, line.connection.reused) == (1, False, True)
    assert line.wire.written == b"ask"


@given(st.sampled_from([OK, CHUNKED]), st.lists(st.integers(1, 80), max_size=6))
def test_a_reply_means_the_same_however_it_is_cut(wire: bytes, cuts: list[int]) -> None:
    line = Line()
    places = [0, *sorted({min(cut, len(wire)) for cut in cuts}), len(wire)]
    steps = line.hear(*[wire[start:end] for start, end in itertools.pairwise(places) if start < end])
    assert (steps[0], steps[-1], set(steps[1:-1])) == ("head", "end", {"data"})
    assert line.sink.body == (b"ok" if wire is OK else b"ok!!!")
    assert line.idle == 1


def test_header_names_are_lower_case_and_values_as_they_came() -> None:
    line = Line()
    line.hear(b"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nX-A: B\r\nx-a: c\r\nContent-Length: 0\r\n\r\n")
    assert line.sink.head is not None
    assert line.sink.head.headers == [
        (b"retry-after", b"7"),
        (b"x-a", b"B"),
        (b"x-a", b"c"),
        (b"content-length", b"0"),
    ]
    assert line.sink.steps == ["head", "end"]


def test_informational_replies_are_not_the_reply() -> None:
    line = Line()
    hints = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    assert line.hear(b"HTTP/1.1 100 Continue\r\n\r\n" + hints, hints + OK) == WHOLE
    assert line.sink.head is not None
    assert line.sink.head.headers == [(b"content-length", b"2")]
    assert line.idle == 1


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
@pytest.mark.parametrize("length", [b"", b"content-length: 5\r\n"])
def test_replies_without_a_body_end_with_their_head(status: bytes, length: bytes) -> None:
    line = Line()
    assert line.hear(b"HTTP/1.1 " + status + b"\r\n" + length + b"\r\n") == ["head", "end"]
    assert line.idle == 1


def test_a_reply_without_length_ends_where_the_connection_does() -> None:
    line = Line()
    assert line.hear(b"HTTP/1.1 200 OK\r\n\r\n", b"a", b"b") == ["head", "data", "data"]
    assert line.lose() == ["head", "data", "data", "end"]
    assert line.sink.body == b"ab"
    assert (line.idle, line.lost) == (0, 1)


def test_a_reply_without_length_that_ends_in_a_reset_is_broken() -> None:
    line = Line()
    line.hear(b"HTTP/1.1 200 OK\r\n\r\na")
    assert line.lose(ConnectionResetError()) == ["head", "data", "failure"]
    assert isinstance(line.sink.error, ConnectionBroken)


@pytest.mark.parametrize("cut", range(1, len(CHUNKED)))
@pytest.mark.parametrize("error", [None, ConnectionResetError()])
def test_a_reply_cut_short_is_broken(cut: int, error: Exception | None) -> None:
    line = Line()
    line.hear(CHUNKED[:cut])
    steps = line.lose(error)
    assert steps.count("failure") == 1
    assert steps[-1] == "failure"
    assert isinstance(line.sink.error, ConnectionBroken)


def test_trailers_end_a_chunked_reply() -> None:
    line = Line()
    trailed = CHUNKED.removesuffix(b"\r\n") + b"x-checksum: 1\r\n\r\n"
    assert line.hear(trailed) == WHOLE
    assert (line.sink.body, line.idle) == (b"ok!!!", 1)


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ],
)
def test_a_connection_that_the_upstream_will_close_is_not_kept(reply: bytes) -> None:
    line = Line()
    assert line.hear(reply) == WHOLE
    assert (line.idle, line.wire.closed) == (0, True)


GARBAGE = {
    "not http": b"SSH-2.0-OpenSSH\r\n\r\n",
    "http/0.9": b"<html>",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
    "length and chunks": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\nok\r\n",
    "negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nok",
    "bad chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nok\r\n",
    "switching protocols": b"HTTP/1.1 101 Switching\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
    "a header bomb": b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * MAX_HEADER_BYTES,
}


@pytest.mark.parametrize("name", GARBAGE)
def test_what_is_no_reply_is_a_violation_and_closes(name: str) -> None:
    line = Line()
    steps = line.hear(GARBAGE[name])
    assert steps[-1] == "failure"
    assert steps.count("failure") == 1
    assert isinstance(line.sink.error, ProtocolViolated)
    assert "y" * 10 not in line.sink.error.detail
    assert (line.idle, line.wire.closed) == (0, True)
    assert line.lose() == steps


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nx: ", b"HTTP/1.1 200 ", b"HTTP/1.1 200 OK\r\n"])
def test_a_head_that_never_ends_is_given_up(start: bytes) -> None:
    line = Line()
    line.hear(start)
    for _ in range(MAX_HEADER_BYTES // 1000 + 1):
        if not line.wire.closed:
            line.hear(b"x" * 1000)
    assert line.sink.steps == ["failure"]
    assert line.wire.closed


def test_large_but_lawful_headers_pass() -> None:
    line = Line()
    head = b"HTTP/1.1 200 OK\r\n" + b"x-a: " + b"y" * (MAX_HEADER_BYTES - 100) + b"\r\n"
    reads = [head[start : start + 1000] for start in range(0, len(head), 1000)]
    assert line.hear(*reads, b"content-length: 2\r\n\r\nok") == WHOLE


SECOND = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"


@pytest.mark.parametrize("first", [OK, CHUNKED])
@pytest.mark.parametrize("rest", [SECOND, b"H", b"x", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_a_second_reply_is_never_mixed_into_the_first(first: bytes, rest: bytes) -> None:
    line = Line()
    assert line.hear(first + rest) == WHOLE
    assert b"evil" not in line.sink.body
    assert (line.idle, line.wire.closed) == (0, True)


def test_bytes_that_nobody_asked_for_close_the_connection() -> None:
    line = Line()
    line.hear(OK)
    line.hear(SECOND)
    assert line.sink.steps == WHOLE
    assert line.connection.closing


def test_one_connection_serves_one_exchange_after_another() -> None:
    line = Line()
    for _ in range(3):
        sink = line.ask()
        assert line.hear(CHUNKED) == WHOLE
        assert line.connection.serves(sink) is False
    assert line.idle == 3


# dying


@pytest.mark.parametrize("error", [None, ConnectionResetError()])
def test_a_reused_connection_that_dies_before_a_byte_is_resent_unseen(error: Exception | None) -> None:
    line = Line(stale=True)
    assert line.lose(error) == []
    assert (line.resent, line.lost) == (1, 1)


def test_once_a_byte_has_arrived_nothing_is_resent() -> None:
    line = Line(stale=True)
    line.hear(b"H")
    assert line.lose() == ["failure"]
    assert line.resent == 0


def test_a_new_connection_that_dies_is_broken_not_stale() -> None:
    line = Line()
    assert line.lose() == ["failure"]
    assert line.resent == 0


def test_an_idle_connection_dies_in_silence() -> None:
    line = Line(stale=True)
    line.hear(OK)
    assert line.lose(ConnectionResetError()) == WHOLE
    assert (line.resent, line.lost, line.connection.closing) == (0, 1, True)


# pausing and aborting


def test_pausing_and_resuming_reach_the_socket() -> None:
    line = Line()
    line.connection.pause()
    assert line.wire.paused
    line.connection.resume()
    assert not line.wire.paused


def test_a_connection_is_never_left_paused_for_the_next_exchange() -> None:
    line = Line()
    line.sink.on["data"] = line.connection.pause
    assert line.hear(OK) == WHOLE
    assert line.idle == 1
    assert not line.wire.paused


@pytest.mark.parametrize("act", ["pause", "resume", "abort"])
def test_a_closed_connection_takes_any_order_calmly(act: str) -> None:
    line = Line()
    line.lose()
    getattr(line.connection, act)()
    line.connection.abort()
    assert line.sink.steps == ["failure"]


@pytest.mark.parametrize("step", ["head", "data"])
@pytest.mark.parametrize("reply", [OK, CHUNKED, CHUNKED[:-10], OK + SECOND, OK[:-1] + b"k" + b"x"])
def test_after_an_abort_the_sink_hears_nothing(step: str, reply: bytes) -> None:
    line = Line()
    line.sink.on[step] = line.connection.abort
    assert line.hear(reply) == ["head", "data"][: ["head", "data"].index(step) + 1]
    assert line.lose(ConnectionResetError())[-1] == step
    assert (line.idle, line.wire.closed) == (0, True)


def test_an_abort_before_the_reply_is_silent_and_never_resent() -> None:
    line = Line(stale=True)
    line.connection.abort()
    assert line.lose(ConnectionResetError()) == []
    assert (line.resent, line.lost) == (0, 1)


def test_an_abort_says_when_the_connection_is_gone() -> None:
    """Once, and however often it is asked for."""
    line, gone = Line(), []
    line.connection.abort(lambda: gone.append("gone"))
    line.connection.abort()
    assert gone == []
    line.lose(ConnectionResetError())
    line.connection.abort(lambda: gone.append("again"))
    assert gone == ["gone"]


@given(
    st.lists(
        st.sampled_from([OK, CHUNKED, SECOND, b"x", b"\r\n", b"HTTP/1.1 ", b"0\r\n\r\n"]) | st.binary(), max_size=9
    )
)
def test_whatever_arrives_a_sink_hears_a_lawful_story(reads: list[bytes]) -> None:
    """One head, then data, then one ending; nothing after it. `Sink`'s contract."""
    line = Line()
    line.hear(*reads)
    steps: list[Any] = line.lose()
    assert steps[-1] in ("end", "failure")
    assert steps.count("end") + steps.count("failure") == 1
    assert steps.count("head") <= 1
    assert "head" not in steps[1:]
    assert steps[0] in ("head", "failure")
