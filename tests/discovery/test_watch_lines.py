"""Events out of bytes that are cut anywhere."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.discovery import watch_lines
from proxy.discovery.watch_lines import NotAWatch, WatchLines
from tests.apiserver import endpoint, endpoint_slice

EVENTS = [
    {"type": "ADDED", "object": endpoint_slice("a", endpoint("1", "10.0.0.1"))},
    {"type": "BOOKMARK", "object": {"kind": "EndpointSlice", "metadata": {"resourceVersion": "7"}}},
    {"type": "DELETED", "object": {"metadata": {"name": "grün"}}},
]
WIRE = b"".join(json.dumps(event, ensure_ascii=False).encode() + b"\n" for event in EVENTS)


@given(st.lists(st.integers(0, len(WIRE)), max_size=20))
def test_events_are_the_same_however_they_are_cut(cuts: list[int]) -> None:
    lines = WatchLines()
    edges = [0, *sorted(cuts), len(WIRE)]
    read = [event for start, end in pairwise(edges) for event in lines.feed(WIRE[start:end])]
    assert [{"type": event.type, "object": json.loads(bytes(event.object))} for event in read] == EVENTS


def test_what_has_no_end_was_not_said() -> None:
    lines = WatchLines()
    assert lines.feed(WIRE[:-1])[-1].type == "BOOKMARK"
    assert lines.feed(b"") == []
    assert [event.type for event in lines.feed(b"\n")] == ["DELETED"]


def test_empty_lines_are_nothing() -> None:
    assert WatchLines().feed(b"\n\r\n  \n") == []


@pytest.mark.parametrize("line", [b"oops\n", b"[]\n", b'{"type": "ADDED"}\n', b"<html>\n"])
def test_anything_else_is_no_watch(line: bytes) -> None:
    with pytest.raises(NotAWatch, match="it is no event"):
        WatchLines().feed(line)


def test_a_line_without_end_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_lines, "MAX_LINE_BYTES", 100)
    lines = WatchLines()
    lines.feed(b"{" * 100)
    with pytest.raises(NotAWatch, match="a line is longer than"):
        lines.feed(b"{")
