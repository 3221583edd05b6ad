"""How one process's counts reach the store exactly once: the pure half of the push protocol.

Theory of operation
-------------------
A process owns one *slot* in the store, and writes only there and only upward. What it has not pushed yet it keeps as
vectors by the minute in which they were collected: what each series had come to then, not by how much it grew. The
store raises the slot to them one after the other, and files under that minute by how much it did. So whatever is sent
twice raises nothing the second time, and the totals and the aggregates never disagree.

Each push that raises anything names the sequence number that the slot should be at, and the next one:

    reply       means                                              then
    accepted    the slot was where we thought; it is in            forget it, move on
    behind      the slot is where our last push would have         it was in after all, and its reply was lost: go on
                brought it                                         from there
                the slot is elsewhere: the store came back as      raise it to everything that was ever accepted; what
                it was some time ago                               that raises was lost, and is filed under the present
                there is no slot: the store was wiped              the same, but filed under nothing: all of a life at
                                                                   once is no minute's
    folded      we were silent so long that the slot was added     what was folded counts already: go on in another
                to the common base; here is what it held           slot, with what exceeds it

No reply at all (a timeout, a cancelled call) needs no case of its own: the next push is accepted, or finds itself
behind. While the store is away for long, minutes beyond `MAX_MINUTES` are kept as hours; what is sent stays the same
in sum. The store's clock may jump, which moves where things are filed, and nothing else.

The slot after the n-th fold is `<process>~<n>`. So whoever finds what a dead process had counted, in its journal, and
begins with its first slot, is led to the last, and pushes what is missing there.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Protocol

import msgspec

from proxy.meters.aggregates import Grain, Period
from proxy.meters.vectors import Vector, add, excess

MAX_CELLS = 500
"""The most vectors in one push, so that a burst neither holds up the event loop nor the store."""
MAX_MINUTES = 180
MAX_HOURS = 720


class Source(Protocol):
    """Where the counts come from: a `Ledger`."""

    def changed(self) -> dict[str, Vector]:
        """What has grown since the last call: by series name, what it has come to."""
        ...


class Raise(msgspec.Struct, frozen=True):
    """Series to be raised to `cells`; by how much that is, is filed under `period`, and nowhere if that is None."""

    period: Period | None
    cells: Mapping[str, Vector]


class Push(msgspec.Struct, frozen=True, kw_only=True):
    """Raises of slot `slot`, one after the other, if it stands at `expected`; `force` does so wherever it stands."""

    slot: str
    expected: int
    raises: tuple[Raise, ...] = ()
    force: bool = False

    @property
    def sequence(self) -> int:
        """Where the slot stands afterwards. A push that raises nothing leaves it where it is."""
        return self.expected + 1 if self.raises else self.expected


class Accepted(msgspec.Struct, frozen=True):
    """The push is in."""


class Behind(msgspec.Struct, frozen=True):
    """The slot is not where the push expected it but at `sequence`, None if it is not there; nothing was written."""

    sequence: int | None


class Folded(msgspec.Struct, frozen=True):
    """The slot was folded into the base; `cells` are what it held."""

    cells: Mapping[str, Vector]


PushReply = Accepted | Behind | Folded


class _Group:
    """What series had come to by the end of a period; None is one that has no name yet, or none."""

    __slots__ = ("cells", "period")

    def __init__(self, period: Period | None, cells: dict[str, Vector]) -> None:
        self.period, self.cells = period, cells


class Slot:
    """One process's place in the store. `process` is its random id.

    `accepted` is for the slot of a dead process: what the store is known to have had of it.
    """

    def __init__(self, source: Source, process: str, accepted: Mapping[str, Vector] | None = None) -> None:
        self._source = source
        self._process = process
        self._folds = 0
        self._folded: dict[str, Vector] = {}
        self._accepted = dict(accepted or {})
        # To be raised again before anything else, and filed nowhere.
        self._lost: dict[str, Vector] = {}
        self._waiting: list[_Group] = []
        self._period: Period | None = None
        # No slot is ever there: what has become of a dead process's is to be found out first.
        self._sequence = 0 if accepted is None else -1
        self._force = False
        self.id = process

    @property
    def settled(self) -> bool:
        """Whether everything counted up to the last `next_push` is known to be in the store."""
        return not self._waiting and not self._lost

    def next_push(self, period: Period | None) -> Push:
        """What to send now, in the minute `period`; None while the store's time is not known.

        Without raises it is but a question whether the slot is still there.
        """
        self._collect(period)
        raises, room = [], MAX_CELLS
        groups = [_Group(None, self._lost)] if self._lost else []
        if period is not None:
            groups += self._waiting
        for group in groups:
            cells = dict(islice(group.cells.items(), room))
            raises.append(Raise(group.period, {name: self._beyond(name, vector) for name, vector in cells.items()}))
            room -= len(cells)
            if not room:
                break
        return Push(slot=self.id, expected=self._sequence, raises=tuple(raises), force=self._force and bool(raises))

    def replied(self, push: Push, reply: PushReply) -> None:
        """Take the store's answer to the last `next_push`."""
        match reply:
            case Accepted():
                self._sequence = push.sequence
                self._force = self._force and not push.raises
                self._forget(push)
            case Behind(sequence):
                self._fall_back(sequence)
            case Folded(cells):
                self._begin_again(cells)

    def _collect(self, period: Period | None) -> None:
        self._period = period
        for group in self._waiting:
            # Counted before the store's time was known: in the first minute that is.
            group.period = group.period or period
        changed = self._source.changed()
        if not changed:
            return
        last = self._waiting[-1] if self._waiting else None
        if last is not None and last.period == period:
            last.cells.update(changed)
        else:
            self._waiting.append(_Group(period, changed))
            self._coarsen()

    def _coarsen(self) -> None:
        """Of a long outage keep the last hours by the minute, the days before by the hour."""
        minutes = [n for n, group in enumerate(self._waiting) if group.period and group.period.grain is Grain.MINUTE]
        if len(minutes) > MAX_MINUTES:
            group = self._waiting[minutes[0]]
            assert group.period is not None
            group.period = group.period.hour
            before = self._waiting[minutes[0] - 1] if minutes[0] else None
            if before is not None and before.period == group.period:
                before.cells.update(group.cells)
                del self._waiting[minutes[0]]
        if len(self._waiting) > MAX_MINUTES + MAX_HOURS:
            oldest = self._waiting.pop(0)
            self._waiting[0].cells = oldest.cells | self._waiting[0].cells

    def _beyond(self, name: str, vector: Vector) -> Vector:
        folded = self._folded.get(name)
        return vector if folded is None else excess(vector, folded)

    def _forget(self, push: Push) -> None:
        for raised in push.raises:
            lost = bool(self._lost)
            cells = self._lost if lost else self._waiting[0].cells
            for name in raised.cells:
                vector = cells.pop(name)
                if not lost:
                    self._accepted[name] = vector
            if not lost and not cells:
                del self._waiting[0]

    def _fall_back(self, sequence: int | None) -> None:
        if sequence is None:
            self._lost = dict(self._accepted)
        elif sequence != self._sequence + 1:
            self._wait_again(self._accepted)
        self._force = sequence != self._sequence + 1
        self._sequence = max(self._sequence, sequence or 0)

    def _begin_again(self, folded: Mapping[str, Vector]) -> None:
        for name, vector in folded.items():
            self._folded[name] = add(self._folded.get(name, ()), vector)
        lacking = {name: vector for name, vector in self._accepted.items() if any(self._beyond(name, vector))}
        self._accepted, self._lost = {}, {}
        self._wait_again(lacking)
        self._folds += 1
        self.id = f"{self._process}~{self._folds}"
        self._sequence = 0
        self._force = False

    def _wait_again(self, cells: Mapping[str, Vector]) -> None:
        if cells:
            self._waiting.insert(0, _Group(self._period, dict(cells)))
