"""Server-sent events, sans-io: cut a byte stream at event boundaries, and read the events of a block.

Theory of operation
-------------------
An upstream's reads may end anywhere. `Splitter.feed()` gives back only whole events, the same whatever the chunking, so
that a stream that breaks can always be ended with an error event: a client never sees half of one. Bytes are not
changed. The usual read of a stream is one or more whole events ending in a blank line, and is passed on without a copy.

WHATWG HTML, 9.2.5: a line ends in CRLF, LF or CR; an event ends at a blank line; a line that starts with a colon is a
comment; one space after a field's colon is dropped; the `data` lines of one event are joined by LF. A byte order mark
may come first; it goes no further, since the client may have had a comment from us before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

MAX_EVENT_BYTES = 1 << 20
"""An event longer than this is not a token of anything; the upstream is broken or hostile."""

_MARK = b"\xef\xbb\xbf"
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")
_LINE_END = re.compile(r"\r\n|\n|\r")


class EventTooLong(ValueError):
    """An event grew past `MAX_EVENT_BYTES` without a blank line."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """One dispatched event: `name` is the `event:` field or "" when absent, `data` the joined `data:` lines."""

    name: str
    data: str


class Splitter:
    """Cuts a byte stream into blocks of whole events."""

    __slots__ = ("_pending", "_started")

    def __init__(self) -> None:
        self._pending = bytearray()
        self._started = False

    @property
    def incomplete(self) -> bool:
        """Whether bytes of an unfinished event are held back; blank lines alone are no event."""
        return bool(self._pending.strip())

    def feed(self, data: bytes) -> bytes:
        """The whole events that `data` completes, as they came; may be empty. Raises `EventTooLong`."""
        if not self._started:
            data = self._unmarked(data)
        pending = self._pending
        if not pending and data.endswith(b"\n\n"):
            return data
        searched = max(0, len(pending) - 3)
        pending += data
        end = _last_boundary(pending, searched)
        if not end:
            if len(pending) > MAX_EVENT_BYTES:
                raise EventTooLong(f"more than {MAX_EVENT_BYTES} bytes without a blank line")
            return b""
        return self._take(end)

    def finish(self) -> bytes:
        """At the end of the stream: a last event that ends in a lone CR, which `feed()` had to hold back."""
        pending = self._pending
        ends = [match.end() for match in _BLANK_LINE.finditer(pending)]
        return self._take(ends[-1]) if ends else b""

    def _unmarked(self, data: bytes) -> bytes:
        """The stream's first bytes without a byte order mark; nothing yet while they may be the start of one."""
        data = bytes(self._pending) + data
        self._pending.clear()
        if len(data) < len(_MARK) and _MARK.startswith(data):
            self._pending += data
            return b""
        self._started = True
        return data.removeprefix(_MARK)

    def _take(self, end: int) -> bytes:
        block = bytes(self._pending[:end])
        del self._pending[:end]
        return block


def _last_boundary(buffer: bytearray, start: int) -> int:
    """The index after the last blank line in `buffer`, or 0."""
    if buffer.find(b"\r", start) < 0:
        return buffer.rfind(b"\n\n", start) + 2 if buffer.find(b"\n\n", start) >= 0 else 0
    # A line end cut in two (CR now, LF in the next read) would read as two ends: wait for the other half.
    limit = len(buffer) - buffer.endswith(b"\r")
    end = 0
    for match in _BLANK_LINE.finditer(buffer, start, limit):
        end = match.end()
    return end


def events(block: bytes) -> Iterator[Event]:
    """The events of a block of whole events. Invalid UTF-8 is replaced; events without data are not dispatched."""
    name = ""
    data: list[str] = []
    for line in _LINE_END.split(block.decode("utf-8", "replace")):
        if not line:
            if data:
                yield Event(name, "\n".join(data))
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value


def encode(data: bytes, name: str = "") -> bytes:
    """One event on the wire; `data` may span lines, ended by LF."""
    data = data.replace(b"\n", b"\ndata: ")
    if name:
        return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"
    return b"data: " + data + b"\n\n"
