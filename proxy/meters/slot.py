"""How one process's counters reach the store exactly once: the pure half of the push protocol.

Theory of operation
-------------------
A process owns one *slot* in the store, under a random id, and writes only there and only upward. Each push names the
sequence number that the slot should be at, and the next one:

    reply       means                                              then
    accepted    the slot was where we thought; fields are in       forget them, move on
    behind      the slot is elsewhere: wiped, restored from an     push everything, whatever the sequence number:
                older file, or an earlier reply was lost           max-merge makes that harmless
    folded      we were silent so long that the slot was added     what was folded counts already: take a new id and
                to the common base; here is what it held           publish only what exceeds it

No reply at all (a timeout, a cancelled call) needs no case of its own: the next push is accepted, or finds itself
behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Protocol

import msgspec

MAX_FIELDS = 2_000
"""The most fields in one ordinary push, so that a burst neither holds up the event loop nor the store."""


class Source(Protocol):
    """Where the integers come from: a `Ledger`."""

    def changed(self) -> dict[str, int]:
        """What has grown since the last call."""
        ...

    def totals(self) -> dict[str, int]:
        """Everything that is not zero."""
        ...


class Push(msgspec.Struct, frozen=True, kw_only=True):
    """Fields to be raised in slot `slot`, if it stands at `expected`; `full` does so wherever it stands."""

    slot: str
    expected: int
    sequence: int
    fields: dict[str, int]
    full: bool


class Accepted(msgspec.Struct, frozen=True):
    """The push is in."""


class Behind(msgspec.Struct, frozen=True):
    """The slot is not where the push expected it; nothing was written."""


class Folded(msgspec.Struct, frozen=True):
    """The slot was folded into the base; `fields` are what it held."""

    fields: dict[str, int]


PushReply = Accepted | Behind | Folded


class Slot:
    """One process's place in the store. `process` is its random id; after a fold it goes on under `<process>~<n>`."""

    def __init__(self, counters: Source, process: str) -> None:
        self._counters = counters
        self._process = process
        self._folds = 0
        self._pending: dict[str, int] = {}
        self._folded: dict[str, int] = {}
        self._sequence = 0
        self._full = True
        self.id = process

    @property
    def settled(self) -> bool:
        """Whether everything counted up to the last `next_push` is known to be in the store."""
        return not self._pending and not self._full

    def next_push(self) -> Push:
        """What to send now; empty fields are a heartbeat."""
        self._pending.update(self._counters.changed())
        if self._full:
            self._pending = {n: v for n, v in self._counters.totals().items() if v > self._folded.get(n, 0)}
        chosen = self._pending if self._full else islice(self._pending, MAX_FIELDS)
        return Push(
            slot=self.id,
            expected=self._sequence,
            sequence=self._sequence + 1,
            fields={name: self._pending[name] - self._folded.get(name, 0) for name in chosen},
            full=self._full,
        )

    def replied(self, push: Push, reply: PushReply) -> None:
        """Take the store's answer to the last `next_push`."""
        match reply:
            case Accepted():
                self._sequence = push.sequence
                self._full = False
                for name in push.fields:
                    del self._pending[name]
            case Behind():
                self._full = True
            case Folded(fields):
                self._begin_again(fields)

    def _begin_again(self, folded: Mapping[str, int]) -> None:
        for name, value in folded.items():
            self._folded[name] = self._folded.get(name, 0) + value
        self._folds += 1
        self.id = f"{self._process}~{self._folds}"
        self._sequence = 0
        self._full = True
