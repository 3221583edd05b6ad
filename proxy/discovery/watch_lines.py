"""The events of a watch, out of the bytes that come: one JSON object a line, cut anywhere.

What has no end yet is kept until it has one; what has none when the connection ends was never said.
"""

from __future__ import annotations

import msgspec

MAX_LINE_BYTES = 8 << 20
"""An object in the cluster's store has 1.5 MiB at most."""


class NotAWatch(Exception):
    """What came is no event; the text says why."""


class WatchEvent(msgspec.Struct, frozen=True):
    """`type` says what `object` is: the EndpointSlice as it is now, or, of a `BOOKMARK` and an `ERROR`, less."""

    type: str
    object: msgspec.Raw


_DECODER = msgspec.json.Decoder(WatchEvent)


class WatchLines:
    """Feed it bytes; it returns the events that they complete."""

    __slots__ = ("_partial",)

    def __init__(self) -> None:
        self._partial = bytearray()

    def feed(self, data: bytes) -> list[WatchEvent]:
        """Raises NotAWatch, after which nothing more can be read."""
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = bytes(self._partial) + lines[0]
            self._partial.clear()
        self._partial += rest
        if len(self._partial) > MAX_LINE_BYTES:
            raise NotAWatch(f"a line is longer than {MAX_LINE_BYTES >> 20} MiB")
        try:
            return [_DECODER.decode(line) for line in lines if line.strip()]
        except msgspec.MsgspecError as error:
            raise NotAWatch(f"it is no event: {error}") from None
