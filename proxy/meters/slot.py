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

The slot after the n-th fold is `<process>~<n>`. Whoever begins with the first and pushes all that the process ever
counted is led from tombstone to tombstone to the last slot, and pushes what is missing there, or to a place where the
store has forgotten all of it, and pushes everything. So does a process whose later slot is gone, and so does whoever
finds what a dead process had counted in its journal.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Protocol

import msgspec

from proxy.meters.aggregates import Grain, Period
from proxy.meters.vectors import Vector, add, excess

MAX_CELLS = 200
"""The most vectors in one push, so that a burst neither holds up the event loop nor the store."""
MAX_MINUTES = 180
MAX_HOURS = 168
"""What of a long outage is told apart; the oldest hours are then counted with the next."""
_UNKNOWN = -1
"""No slot is ever there: a push that expects it finds out what has become of the slot."""


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
    """Raises of slot `slot`, one after the other, if it stands at `expected`; `force` does so wherever it stands.

    `after` is the folded slot that it follows, while it is new: if that is forgotten, so is what it held.
    """

    slot: str
    expected: int
    raises: tuple[Raise, ...] = ()
    force: bool = False
    after: str | None = None

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
        self._sequence = 0 if accepted is None else _UNKNOWN
        self._force = False
        # Whether the slot was found where it should be since the last `collect`.
        self._confirmed = False
        self.id = process

    @property
    def settled(self) -> bool:
        """Whether everything counted up to the last `collect` is known to be in the store."""
        return self._confirmed and not self._waiting and not self._lost and not self._to_be_made

    def collect(self, period: Period | None) -> None:
        """Take over what was counted up to now, in the minute `period`; None while the store's time is not known."""
        self._period = period
        self._confirmed = False
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

    def next_push(self, period: Period | None) -> Push:
        """What to send now, after a `collect`.

        Without raises it is but a question whether the slot is still there.
        """
        self.collect(period)
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
        if self._to_be_made and not raises:
            raises.append(Raise(None, {}))
        return Push(
            slot=self.id,
            expected=self._sequence,
            raises=tuple(raises),
            force=self._force and bool(raises),
            after=self._id(self._folds - 1) if self._to_be_made else None,
        )

    def replied(self, push: Push, reply: PushReply) -> None:
        """Take the store's answer to the last `next_push`."""
        match reply:
            case Accepted():
                self._confirmed = True
                self._sequence = push.sequence
                self._force = self._force and not push.raises
                self._forget(push)
            case Behind(sequence):
                self._fall_back(sequence)
            case Folded(cells):
                self._begin_again(cells)

    @property
    def _to_be_made(self) -> bool:
        """A slot after a fold is made at once, though it be empty: if it is gone, so may be what was folded."""
        return self._sequence == 0 and self._folds > 0

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
            if self._lost:
                for name in raised.cells:
                    del self._lost[name]
            elif self._waiting:
                cells = self._waiting[0].cells
                self._accepted |= {name: cells.pop(name) for name in raised.cells}
                if not cells:
                    del self._waiting[0]

    def _fall_back(self, sequence: int | None) -> None:
        if sequence is None and self._folds:
            self._return_to_first()
            return
        if sequence is None:
            self._lost = dict(self._accepted)
        elif sequence != self._sequence + 1:
            self._wait_again(self._accepted)
        self._force = sequence != self._sequence + 1
        self._sequence = max(self._sequence, sequence or 0)

    def _begin_again(self, folded: Mapping[str, Vector]) -> None:
        for name, vector in folded.items():
            self._folded[name] = add(self._folded.get(name, ()), vector)
        self._go_to(self._folds + 1, 0)
        self._wait_again({name: vector for name, vector in self._accepted.items() if any(self._beyond(name, vector))})

    def _return_to_first(self) -> None:
        """A later slot is gone, and perhaps what was folded, too: the first one's tombstone tells."""
        self._folded = {}
        self._go_to(0, _UNKNOWN)

    def _go_to(self, folds: int, sequence: int) -> None:
        self._folds, self._sequence = folds, sequence
        self._lost, self._force = {}, False
        self.id = self._id(folds)

    def _id(self, folds: int) -> str:
        return f"{self._process}~{folds}" if folds else self._process

    def _wait_again(self, cells: Mapping[str, Vector]) -> None:
        if cells:
            self._waiting.insert(0, _Group(self._period, dict(cells)))
