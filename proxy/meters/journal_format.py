"""The layout of a journal file, and how one is read back: the pure half of the journal.

Theory of operation
-------------------
All that a process has counted is a set of *cells*: vectors of integers of which only the latest counts. So the file is
no log that grows with the requests, but a table that is as long as there are cells:

    header      magic, layout, sizes, CRC; and how far the store has everything (`ACKNOWLEDGED`)
    attempts    a fixed table of those in flight
    arena       entries, one for each cell: a head (kind, name, width), and two copies of its values

Values are written over the older of the two copies, under a sequence number that the whole file shares; the copy with
the greater number and the right CRC is the cell. A process killed while it writes leaves one copy torn and the other
whole. An entry's CRC is the seed of its copies' CRCs and of the attempts that name it, and takes in the number under
which it was made, so nothing left over from an earlier use of its place is ever taken for its own.

An attempt ends with the note that counts it: the note names it, and so ends it even if the process is killed before it
can strike it off the table. So it is counted once, as what it was or as what it was thought to come to.

A disk may write sectors of 512 bytes in any order before the power goes. No copy and no attempt straddles one, so each
is there as it was at some time between the last flush and the cut.

A damaged head costs its own cell only: the next is found by its mark, which starts at a multiple of `UNIT` bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

LAYOUT = 1
MAGIC = b"spillway"
CELL = b"\xc3\x1e\xce\x11"
SLOT = "slot"
"""The kind of a cell whose name says in which slot of the store this process counts; the latest one holds."""

SECTOR = 512
UNIT = 64
HEADER_BYTES = 4096
ACKNOWLEDGED_AT = SECTOR
ATTEMPT_BYTES = 128
MAX_WIDTH = 61
MAX_ATTEMPT_VALUES = 12
MAX_TEXT = 4096
"""The most characters that a cell's kind and name may have, together."""
MAX_FILE_BYTES = 1 << 30
_ANY_TEXT = "surrogatepass"

_HEADER = struct.Struct("<8sIIQ")
_CRC = struct.Struct("<I")
_ACKNOWLEDGED = struct.Struct("<QQ")
_HEAD = struct.Struct("<4sIIHHHxxQ")
_HEAD_CHECKED = 8
"""A head's CRC covers what follows it: the size of the entry, the lengths of the texts, the width, the number."""
_ATTEMPT = struct.Struct("<IIqQQ")
_ATTEMPT_CHECKED = 16
PROGRESS_AT = 8
LIVE_AT = 16
"""Where in an attempt its progress stands, and its sequence number, which is 0 when there is none."""


class Unreadable(ValueError):
    """This is no journal of a layout that we know; the text says why."""


class Cell(NamedTuple):
    """What a cell is called, and how many integers it has."""

    kind: str
    name: str
    width: int


class Entry(NamedTuple):
    """Where a cell lies: its offset and size in bytes, the seed of its CRCs, the offsets of both copies."""

    at: int
    size: int
    seed: int
    copies: tuple[int, int]
    cell: Cell


class Open(NamedTuple):
    """An attempt that was in flight: the cell it was begun for, what it was begun with, and how far it had come."""

    kind: str
    name: str
    values: tuple[int, ...]
    progress: int


class Contents(NamedTuple):
    """What a journal holds. `cells` are those that the store may lack, `acknowledged` the others.

    `at_ms` is the last time its owner was told, 0 for never. `damaged` counts what was found and could not be read.
    """

    slot: str
    at_ms: int
    cells: dict[tuple[str, str], tuple[int, ...]]
    acknowledged: dict[tuple[str, str], tuple[int, ...]]
    open: tuple[Open, ...]
    damaged: int


def values_format(width: int) -> struct.Struct:
    """A sequence number, the attempt that these values settle or -1, and `width` signed integers of 64 bits."""
    return struct.Struct(f"<Qq{width}q")


def copy_format(width: int) -> struct.Struct:
    """A CRC and what `values_format` made."""
    return struct.Struct(f"<I4x{16 + 8 * width}s")


def attempt_values_format(width: int) -> struct.Struct:
    """A sequence number, how many values there are, and the values."""
    return struct.Struct(f"<QQ{width}q")


def attempt_format(width: int) -> struct.Struct:
    """A CRC, the place of the cell in units of `UNIT` bytes, the progress, and what `attempt_values_format` made."""
    return struct.Struct(f"<IIq{16 + 8 * width}s")


def arena_at(attempts: int) -> int:
    """Where the arena begins, behind the header and a table of so many attempts."""
    return _up(HEADER_BYTES + attempts * ATTEMPT_BYTES, SECTOR)


def header(attempts: int, arena_bytes: int) -> bytes:
    """The first bytes of a file with room for so many attempts, and so many bytes of entries."""
    written = _HEADER.pack(MAGIC, LAYOUT, attempts, arena_bytes)
    return written + _CRC.pack(crc32(written))


def acknowledgement(mark: int, at_ms: int) -> bytes:
    """The store has everything up to `mark`; `at_ms` is the time. Torn, it reads as nothing acknowledged."""
    written = _ACKNOWLEDGED.pack(mark, at_ms)
    return written + _CRC.pack(crc32(written))


def entry_of(cell: Cell, at: int, number: int, size: int = 0) -> tuple[Entry, bytes]:
    """Lay out a cell's entry at `at`, and its head, made under `number`. `size` makes it longer than it need be."""
    kind, name = (text.encode(errors=_ANY_TEXT) for text in cell[:2])
    copy_bytes = _up(24 + 8 * cell.width, UNIT)
    first = _unbroken(_up(at + _HEAD.size + len(kind) + len(name), UNIT), copy_bytes)
    second = _unbroken(first + copy_bytes, copy_bytes)
    size = max(size, second + copy_bytes - at)
    checked = _HEAD.pack(CELL, 0, size, len(kind), len(name), cell.width, number)[_HEAD_CHECKED:] + kind + name
    seed = crc32(checked)
    return Entry(at, size, seed, (first, second), cell), CELL + _CRC.pack(seed) + checked


def least_bytes(cell: Cell) -> int:
    """An entry of this cell is never smaller than this, wherever it lies."""
    return _HEAD.size + len(cell.kind) + len(cell.name) + 2 * _up(24 + 8 * cell.width, UNIT)


def read(data: bytes) -> Contents:
    """What a whole file holds. Raises Unreadable."""
    attempts, total = sizes(data)
    if len(data) != total:
        raise Unreadable(f"it has {len(data)} bytes instead of {total}")
    mark, at_ms = _read_acknowledgement(data)
    found = _Found()
    for entry in _entries(data, arena_at(attempts), found):
        found.places[entry.at // UNIT] = entry
        latest = _latest(data, entry)
        if latest is not None:
            found.add(entry.cell, latest, fresh=latest[0] > mark)
        elif all(data[at : at + UNIT].strip(b"\0") for at in entry.copies):
            found.damaged += 1
    running = tuple(_open_attempts(data, attempts, found))
    return Contents(found.slot, at_ms, found.cells, found.acknowledged, running, found.damaged)


def sizes(data: bytes) -> tuple[int, int]:
    """How many attempts, and how many bytes altogether, a file has that begins so. Raises Unreadable."""
    if len(data) < HEADER_BYTES or not data.startswith(MAGIC):
        raise Unreadable("it does not begin as a journal does")
    _, layout, attempts, arena_bytes = _HEADER.unpack_from(data)
    if layout != LAYOUT:
        raise Unreadable(f"its layout is {layout}, and this version reads {LAYOUT}")
    if _CRC.unpack_from(data, _HEADER.size)[0] != crc32(data[: _HEADER.size]):
        raise Unreadable("its header is damaged")
    total = arena_at(attempts) + arena_bytes
    if total > MAX_FILE_BYTES:
        raise Unreadable(f"it says that it is {total} bytes long, and a journal has {MAX_FILE_BYTES} at most")
    return attempts, total


class _Found:
    """What has been read so far."""

    def __init__(self) -> None:
        self.cells: dict[tuple[str, str], tuple[int, ...]] = {}
        self.acknowledged: dict[tuple[str, str], tuple[int, ...]] = {}
        self.places: dict[int, Entry] = {}
        self.settled: dict[int, int] = {}
        self.slot = ""
        self.damaged = 0
        self._slot_number = 0

    def add(self, cell: Cell, latest: tuple[int, ...], *, fresh: bool) -> None:
        number, attempt, *values = latest
        self.settled[attempt] = max(number, self.settled.get(attempt, 0))
        if cell.kind != SLOT:
            (self.cells if fresh else self.acknowledged)[cell.kind, cell.name] = tuple(values)
        elif number > self._slot_number:
            self._slot_number, self.slot = number, cell.name


def _read_acknowledgement(data: bytes) -> tuple[int, int]:
    written = data[ACKNOWLEDGED_AT : ACKNOWLEDGED_AT + _ACKNOWLEDGED.size]
    if _CRC.unpack_from(data, ACKNOWLEDGED_AT + _ACKNOWLEDGED.size)[0] != crc32(written):
        return 0, 0
    mark, at_ms = _ACKNOWLEDGED.unpack(written)
    return mark, at_ms


def _entries(data: bytes, at: int, found: _Found) -> Iterator[Entry]:
    while (at := data.find(CELL, at)) >= 0:
        if at % UNIT:
            at += 1
        elif (entry := _entry_at(data, at)) is None:
            found.damaged += 1
            at += UNIT
        else:
            yield entry
            at += entry.size


def _entry_at(data: bytes, at: int) -> Entry | None:
    if at + _HEAD.size > len(data):
        return None
    _, seed, size, kind_bytes, name_bytes, width, number = _HEAD.unpack_from(data, at)
    texts = at + _HEAD.size
    end = texts + kind_bytes + name_bytes
    if at + size > len(data) or crc32(data[at + _HEAD_CHECKED : end]) != seed:
        return None
    kind, name = data[texts : texts + kind_bytes], data[texts + kind_bytes : end]
    cell = Cell(kind.decode(errors=_ANY_TEXT), name.decode(errors=_ANY_TEXT), width)
    return entry_of(cell, at, number, size)[0]


def _latest(data: bytes, entry: Entry) -> tuple[int, ...] | None:
    """The later copy that is whole, as `values_format` has it; None when neither is."""
    form = values_format(entry.cell.width)
    whole = []
    for at in entry.copies:
        written = data[at + 8 : at + 8 + form.size]
        if crc32(written, entry.seed) == _CRC.unpack_from(data, at)[0]:
            whole.append(form.unpack(written))
    return max((copy for copy in whole if copy[0]), default=None)


def _open_attempts(data: bytes, attempts: int, found: _Found) -> Iterator[Open]:
    for at in range(HEADER_BYTES, HEADER_BYTES + attempts * ATTEMPT_BYTES, ATTEMPT_BYTES):
        crc, unit, progress, number, width = _ATTEMPT.unpack_from(data, at)
        if number <= found.settled.get(at, 0) or width > MAX_ATTEMPT_VALUES or unit not in found.places:
            continue
        entry, form = found.places[unit], attempt_values_format(width)
        written = data[at + _ATTEMPT_CHECKED : at + _ATTEMPT_CHECKED + form.size]
        if crc32(written, entry.seed) == crc:
            yield Open(entry.cell.kind, entry.cell.name, form.unpack(written)[2:], progress)


def _up(size: int, step: int) -> int:
    return -(-size // step) * step


def _unbroken(at: int, size: int) -> int:
    """The first place at or after `at` where `size` bytes do not straddle a sector."""
    return at if at % SECTOR + size <= SECTOR else _up(at, SECTOR)
