"""What this process has counted and the store may lack, in a file that outlives a crash of the process.

Theory of operation
-------------------
The file is mapped into memory. What is written to a shared mapping belongs to the kernel at once, so it survives any
end of the process, SIGKILL included, and costs the request no system call. The layout is `journal_format`'s: a table
of the latest values of every cell, so its size is bounded by the number of series and budgets, not of requests, and
there is nothing to compact when the store stays away for long.

    lost when                            of what was noted, and not yet in the store
    the process is killed or crashes     nothing, but the one note that was being written: its attempt is in flight
    the machine or the kernel crashes,   what neither `flush` nor the kernel had written; the kernel does it by itself
    or the power goes                    for what is older than about 30 s (vm.dirty_expire_centisecs). An attempt
                                         that ended after that may be counted and be in flight, or neither
    the disk or the container goes       everything: the folder is to be on a volume that outlives what it should

The file is locked (flock(2)) by its owner, so that others can tell a dead owner from a living one, and appears in the
folder only when it is whole. It is allocated whole when it is opened: to touch a page of a mapping for which the disk
has no room would be SIGBUS. Where anything of this fails, the journal works in memory only and says so: requests go on.

The folder is to be on a local disk, or in memory: a network file system may block who touches a mapping for as long as
the network likes. Nobody else may write to the file or cut it short: that would be SIGBUS too.

Only `flush` may be called from another thread.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from zlib import crc32

from proxy.meters import journal_format
from proxy.meters.journal_file import JournalFile
from proxy.meters.journal_format import (
    ACKNOWLEDGED_AT,
    ATTEMPT_BYTES,
    CELL,
    HEADER_BYTES,
    LIVE_AT,
    MAX_ATTEMPT_VALUES,
    MAX_TEXT,
    MAX_WIDTH,
    PROGRESS_AT,
    SLOT,
    UNIT,
    Cell,
    Entry,
)

ATTEMPTS = 16_384
ARENA_BYTES = 16 << 20
"""Room for some 26,000 cells of 21 integers with names of 110 bytes."""
NOWHERE = -1
"""The number of a cell or an attempt that found no room: whatever is noted under it is dropped, and counted."""

_log = logging.getLogger(__name__)
_NO_ATTEMPT = bytes(8)
_WORD = struct.Struct("<q")
_ATTEMPT_VALUES = [journal_format.attempt_values_format(width).pack for width in range(MAX_ATTEMPT_VALUES + 1)]
_ATTEMPT = [journal_format.attempt_format(width).pack_into for width in range(MAX_ATTEMPT_VALUES + 1)]


class _Place:
    """Where the next values of a cell go, and how they are packed."""

    __slots__ = ("entry", "last", "next", "pack", "put", "seed", "unit")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.seed = entry.seed
        self.unit = entry.at // UNIT
        self.next, self.last = entry.copies
        self.pack: Callable[..., bytes] = journal_format.values_format(entry.cell.width).pack
        self.put: Callable[..., None] = journal_format.copy_format(entry.cell.width).pack_into


class Journal:
    """One process's journal. Made by `open`, which never fails; `on_disk` says whether it is more than memory."""

    def __init__(self, file: JournalFile | None, slot: str = "", *, attempts: int = 0, arena_bytes: int = 0) -> None:
        self._file = file
        self._view = file.view if file else memoryview(b"")
        self._end = journal_format.arena_at(attempts)
        self._max_end = self._end + arena_bytes
        self._free = [HEADER_BYTES + number * ATTEMPT_BYTES for number in reversed(range(attempts))]
        self._attempts = attempts
        self._places: list[_Place] = []
        self._numbers: dict[tuple[str, str], int] = {}
        self._unused_numbers: list[int] = []
        self._holes: list[tuple[int, int]] = []
        self._sequence = 0
        self._acknowledged = 0
        self._at_ms = 0
        self._full = False
        self._slot = NOWHERE
        self.dropped = 0
        """How many notes and attempts found no room, and are in memory only."""
        if file is not None:
            self.rename(slot)

    @classmethod
    def open(cls, folder: Path, slot: str, *, attempts: int = ATTEMPTS, arena_bytes: int = ARENA_BYTES) -> Journal:
        """Begin a journal for the slot `slot` of the store, in a file of its own in `folder`, which is made if need be.

        Never raises for what is wrong with the disk: it warns, and the journal drops what it is given.
        """
        try:
            file = JournalFile(folder, slot, attempts, arena_bytes)
        except OSError as error:
            reason = error.strerror or str(error)
            _log.warning("no journal in `%s`: %s; a crash will lose what the store does not have yet", folder, reason)
            return cls(None)
        return cls(file, slot, attempts=attempts, arena_bytes=arena_bytes)

    @property
    def on_disk(self) -> bool:
        """Whether what is noted outlives this process."""
        return self._file is not None

    @property
    def path(self) -> Path | None:
        """The file; None where there is none."""
        return self._file.path if self._file else None

    @property
    def size_bytes(self) -> int:
        """How much of the file is in use."""
        return self._end if self._file else 0

    @property
    def max_bytes(self) -> int:
        """How long the file is, and will ever be."""
        return self._max_end if self._file else 0

    @property
    def waiting(self) -> int:
        """How many cells the store may lack. Reads through all of them."""
        return sum(self._number(place) > self._acknowledged for place in self._cells())

    def rename(self, slot: str) -> None:
        """Say that this process counts in another slot of the store from now on."""
        if self._file is None:
            return
        before, self._slot = self._slot, self.cell(SLOT, slot, 1)
        self.note(self._slot, (0,))
        if before not in {NOWHERE, self._slot}:
            self.release(before)

    def cell(self, kind: str, name: str, width: int) -> int:
        """The number of the cell of this kind and name, of `width` integers; a new one if there is none.

        `NOWHERE` when there is no room for it. The same kind and name always with the same width.
        """
        number = self._numbers.get((kind, name))
        if number is not None:
            return number
        if not 0 < width <= MAX_WIDTH:
            raise ValueError(f"a cell has 1 to {MAX_WIDTH} integers, not {width}")
        place = self._new_place(Cell(kind, name, width))
        if place is None:
            self._say_full()
            return NOWHERE
        if self._unused_numbers:
            number = self._unused_numbers.pop()
            self._places[number] = place
        else:
            number = len(self._places)
            self._places.append(place)
        self._numbers[kind, name] = number
        return number

    def note(self, cell: int, values: Sequence[int], settles: int = NOWHERE) -> None:
        """These are the cell's values now: whatever was noted before is forgotten. Signed integers of 64 bits.

        They count the attempt `settles`, if given, which thereby ends: after a crash it is in the values or in flight,
        and never both or neither.
        """
        if cell < 0:
            self.dropped += 1
            self.end(settles)
            return
        place = self._places[cell]
        sequence = self._sequence + 1
        try:
            written = place.pack(sequence, settles, *values)
        except struct.error:  # an upstream's absurd usage, say, must not cost a request
            self.dropped += 1
            self.end(settles)
            return
        self._sequence = sequence
        at = place.next
        place.next = place.last
        place.last = at
        place.put(self._view, at, crc32(written, place.seed), written)
        if settles >= 0:
            self.end(settles)

    def release(self, cell: int) -> None:
        """This cell is not needed any more: its number and its room may be used for another."""
        if cell < 0:
            return
        entry = self._places[cell].entry
        self._view[entry.at : entry.at + len(CELL)] = bytes(len(CELL))
        self._holes.append((entry.at, entry.size))
        del self._numbers[entry.cell.kind, entry.cell.name]
        self._unused_numbers.append(cell)

    def begin(self, cell: int, values: Sequence[int] = ()) -> int:
        """An attempt is in flight, and will be counted in `cell`; at most 12 integers tell what it will cost.

        Returns its number, for `progress` and `end`; `NOWHERE` when there is no room.
        """
        if cell < 0 or not self._free:
            self.dropped += 1
            return NOWHERE
        place = self._places[cell]
        count = len(values)
        sequence = self._sequence + 1
        try:
            written = _ATTEMPT_VALUES[count](sequence, count, *values)
        except struct.error:
            self.dropped += 1
            return NOWHERE
        self._sequence = sequence
        at = self._free.pop()
        _ATTEMPT[count](self._view, at, crc32(written, place.seed), place.unit, 0, written)
        return at

    def progress(self, attempt: int, value: int) -> None:
        """How far the attempt has come, in whatever unit its values speak of."""
        if attempt >= 0:
            try:  # an aligned word is stored at once, so this needs neither a CRC nor a second copy
                self._view[attempt + PROGRESS_AT : attempt + LIVE_AT] = _WORD.pack(value)
            except struct.error:
                self.dropped += 1

    def end(self, attempt: int) -> None:
        """The attempt is over and cost nothing; one that did, `note` ends.

        To end it twice does no harm, until another has its number.
        """
        if attempt >= 0 and self._view[attempt + LIVE_AT : attempt + LIVE_AT + 8] != _NO_ATTEMPT:
            self._view[attempt + LIVE_AT : attempt + LIVE_AT + 8] = _NO_ATTEMPT
            self._free.append(attempt)

    def mark(self, at_ms: int = 0) -> int:
        """How far has been noted: take it when the values for the store are collected, for `checkpoint`.

        `at_ms` is the store's time as far as it is known, Unix time in milliseconds: of a crash it tells when.
        """
        self._at_ms = at_ms or self._at_ms
        self._acknowledge()
        return self._sequence

    def checkpoint(self, mark: int) -> None:
        """Everything noted up to `mark` is in the store."""
        self._acknowledged = max(mark, self._acknowledged)
        self._acknowledge()

    def flush(self) -> None:
        """Have the disk take what was noted, so that it survives a power cut too. Slow: for a thread of its own.

        Raises OSError.
        """
        file = self._file
        if file is not None:
            file.flush()

    def close(self) -> None:
        """Stop: what is noted from now on goes nowhere.

        The file goes away, unless the store may lack something of it, or attempts were left in flight.
        """
        if self._file is not None:
            finished = not self.waiting and len(self._free) == self._attempts
            self._leave(remove=finished)

    def _acknowledge(self) -> None:
        if self._file is None:
            return
        if self._file.removed:
            _log.warning("the journal `%s` was deleted; a crash will lose what the store does not have yet", self.path)
            self._leave(remove=False)
        written = journal_format.acknowledgement(self._acknowledged, self._at_ms)
        self._view[ACKNOWLEDGED_AT : ACKNOWLEDGED_AT + len(written)] = written

    def _leave(self, *, remove: bool) -> None:
        """Go on in memory that nobody reads, so that those in the midst of a request need not ask."""
        assert self._file is not None
        file, self._file = self._file, None
        self._view = memoryview(bytearray(self._max_end))
        file.close(remove=remove)

    def _say_full(self) -> None:
        if self._file is not None and not self._full:
            self._full = True
            _log.warning("no room for more cells in the journal `%s`: a crash will lose what they count", self.path)

    def _new_place(self, cell: Cell) -> _Place | None:
        if len(cell.kind) + len(cell.name) > MAX_TEXT:
            return None
        self._sequence += 1
        least = journal_format.least_bytes(cell)
        for number, (at, size) in enumerate(self._holes):
            if size < least:
                continue
            entry, head = journal_format.entry_of(cell, at, self._sequence, size)
            if entry.size == size:
                del self._holes[number]
                return self._written(entry, head)
        entry, head = journal_format.entry_of(cell, self._end, self._sequence)
        if self._end + entry.size > self._max_end:
            return None
        self._end += entry.size
        return self._written(entry, head)

    def _written(self, entry: Entry, head: bytes) -> _Place:
        self._view[entry.at : entry.at + entry.size] = bytes(entry.size)
        # The mark comes last: without it there is no entry.
        self._view[entry.at + len(CELL) : entry.at + len(head)] = head[len(CELL) :]
        self._view[entry.at : entry.at + len(CELL)] = CELL
        return _Place(entry)

    def _cells(self) -> Iterator[_Place]:
        return (self._places[number] for (kind, _), number in self._numbers.items() if kind != SLOT)

    def _number(self, place: _Place) -> int:
        return int.from_bytes(self._view[place.last + 8 : place.last + 16], "little")
