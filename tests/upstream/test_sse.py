"""Server-sent events: what comes out does not depend on how the bytes came in."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.upstream.sse import MAX_EVENT_BYTES, Event, EventTooLong, Splitter, encode, events

MARK = b"\xef\xbb\xbf"
PIECES = [
    b"\n",
    b"\r",
    b"\r\n",
    b"data",
    b"event",
    b":",
    b": ",
    b"data: x",
    b"\x00",
    b"id: 1",
    b"\xf0\x9f",
    b"\x98\x80",
]
WIRES = st.lists(st.sampled_from([*PIECES, MARK]), max_size=40).map(b"".join) | st.binary(max_size=60)


def split(chunks: list[bytes]) -> list[bytes]:
    """The blocks of a stream that came in these reads."""
    splitter = Splitter()
    return [*(splitter.feed(chunk) for chunk in chunks), splitter.finish()]


def chunks_of(wire: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({min(cut, len(wire)) for cut in cuts} | {0, len(wire)})
    return [wire[start:end] for start, end in pairwise(places)]


def dispatched(wire: bytes) -> list[Event]:
    """The standard's own algorithm (WHATWG HTML, 9.2.6), a byte at a time: the oracle."""
    text = wire.removeprefix(MARK).decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
    found: list[Event] = []
    name, data = "", ""
    for line in text.split("\n")[:-1]:
        if not line:
            if data:
                found.append(Event(name, data.removesuffix("\n")))
            name, data = "", ""
        elif not line.startswith(":"):
            field, colon, value = line.partition(":")
            value = value[1:] if colon and value.startswith(" ") else value
            data += value + "\n" if field == "data" else ""
            name = value if field == "event" else name
    return found


@given(WIRES, st.lists(st.integers(0, 200), max_size=12))
def test_the_events_are_the_standards_whatever_the_chunking(wire: bytes, cuts: list[int]) -> None:
    blocks = split(chunks_of(wire, cuts))
    assert [event for block in blocks for event in events(block)] == dispatched(wire)


@given(WIRES, st.lists(st.integers(0, 200), max_size=12))
def test_bytes_are_never_changed_lost_or_reordered(wire: bytes, cuts: list[int]) -> None:
    """What is held back at the end of the stream is at most an event without its blank line."""
    passed = b"".join(split(chunks_of(wire, cuts)))
    stream = wire.removeprefix(MARK)
    assert stream.startswith(passed)
    assert dispatched(stream[len(passed) :]) == []


@given(WIRES)
def test_every_block_ends_at_a_blank_line(wire: bytes) -> None:
    for block in split([bytes([byte]) for byte in wire]):
        assert not block or block.endswith((b"\n\n", b"\r\n\r\n", b"\r\r", b"\r\r\n", b"\n\r", b"\n\r\n", b"\r\n\r"))


def test_an_event_is_passed_on_the_moment_it_is_whole() -> None:
    splitter = Splitter()
    assert splitter.feed(b"data: a\n") == b""
    assert splitter.incomplete
    assert splitter.feed(b"\ndata: b\n\ndata: c") == b"data: a\n\ndata: b\n\n"
    assert splitter.feed(b"\r\n\r\n") == b"data: c\r\n\r\n"
    assert not splitter.incomplete


def test_a_lone_cr_at_the_end_of_a_read_waits_for_its_other_half() -> None:
    splitter = Splitter()
    assert splitter.feed(b"data: a\r\n\r") == b""
    assert splitter.feed(b"\n") == b"data: a\r\n\r\n"
    assert splitter.feed(b"data: b\r\r") == b""
    assert splitter.finish() == b"data: b\r\r"


def test_the_usual_read_is_not_copied() -> None:
    read = b"data: a\n\ndata: b\n\n"
    splitter = Splitter()
    splitter.feed(b"data: first\n\n")
    assert splitter.feed(read) is read


def test_blank_lines_alone_are_nothing_unfinished() -> None:
    splitter = Splitter()
    splitter.feed(b"data: a\n\n\n")
    assert not splitter.incomplete


@pytest.mark.parametrize("cut", range(5))
def test_a_byte_order_mark_goes_no_further(cut: int) -> None:
    wire = MARK + b"data: a\n\n"
    assert b"".join(split([wire[:cut], wire[cut:]])) == b"data: a\n\n"


def test_a_mark_elsewhere_is_text() -> None:
    assert [*events(b"data: " + MARK + b"\n\n")] == [Event("", "\ufeff")]


@pytest.mark.parametrize("read", [1000, 65_536])
def test_an_event_without_end_is_refused(read: int) -> None:
    splitter = Splitter()
    with pytest.raises(EventTooLong):
        for _ in range(MAX_EVENT_BYTES // read + 2):
            splitter.feed(b"x" * read)


def test_a_large_event_that_ends_is_not_refused() -> None:
    splitter = Splitter()
    line = b"data: " + b"x" * (MAX_EVENT_BYTES - 100)
    assert splitter.feed(line) == b""
    assert splitter.feed(b"\n\n") == line + b"\n\n"


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (b": ping\n\n", []),
        (b"event: a\n\n", []),
        (b"data\n\n", [Event("", "")]),
        (b"data:\n\n", [Event("", "")]),
        (b"data: a\ndata:b\n\n", [Event("", "a\nb")]),
        (b"data:  a\n\n", [Event("", " a")]),
        (b"event: one\nevent: two\ndata: a\n\n", [Event("two", "a")]),
        (b"event: gone\n\ndata: a\n\n", [Event("", "a")]),
        (b"data: a\n: comment\nid: 7\nretry: 10\nother: x\n\n", [Event("", "a")]),
        (b"DATA: a\n data: b\n\n", []),
        (b"data: a\x00b\x0bc\xc2\x85d\n\n", [Event("", "a\x00b\x0bc\x85d")]),
        (b"data: \xff\n\n", [Event("", "\ufffd")]),
    ],
)
def test_the_fields_of_an_event(block: bytes, expected: list[Event]) -> None:
    assert [*events(block)] == expected


@given(
    st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"])), st.sampled_from(["", "message_stop"])
)
def test_what_is_encoded_is_read_back(data: str, name: str) -> None:
    assert [*events(encode(data.encode(), name))] == [Event(name, data)]
