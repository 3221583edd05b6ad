"""The part of the sync that stores what has been counted: this process's slot, and those of the dead, on the wire.

Theory of operation
-------------------
`slot.py` says what to send and what an answer means; here is how either looks in an exchange. Integers travel as
decimal strings, since JSON numbers become doubles inside the store.

What a dead process left in its journal (`adopt`) is pushed as that process would have pushed it, to its own slots: what
the store has already raises nothing, however often it is sent, or by however many. The rest is filed under the minute
in which it is found.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import orjson

from proxy.meters.aggregates import HOURS_KEPT_S, MINUTES_KEPT_S, Grain, Period, period_at
from proxy.meters.fields import SERIES
from proxy.meters.part import Ask, Heard, Moment
from proxy.meters.slot import Accepted, Behind, Folded, Push, PushReply, Raise, Slot, Source
from proxy.meters.vectors import Vector, decode, encode

SEQUENCE = b"#sequence"


class Left(Protocol):
    """What one dead process has left, by kind and name: a `meters.left_behind.Left`."""

    @property
    def slot(self) -> str:
        """The process's random id."""
        ...

    @property
    def cells(self) -> Mapping[tuple[str, str], Vector]:
        """The latest values of what the store may lack."""
        ...

    @property
    def acknowledged(self) -> Mapping[tuple[str, str], Vector]:
        """The latest values of what it has, unless it was wiped since."""
        ...


class _Legacy:
    """The slot of a dead process, and whom to tell when all is in it."""

    def __init__(self, left: Left, done: Callable[[], None]) -> None:
        self._cells = _series(left.cells)
        self.slot = Slot(self, left.slot, accepted=_series(left.acknowledged))
        self.done = done

    def changed(self) -> dict[str, Vector]:
        cells, self._cells = self._cells, {}
        return cells


class Counters:
    """The part `counters`. `process` is this process's random id."""

    name = "counters"

    def __init__(
        self,
        process: str,
        source: Source,
        *,
        minutes_kept_s: int = MINUTES_KEPT_S,
        hours_kept_s: int = HOURS_KEPT_S,
    ) -> None:
        self.process = process
        self._own = Slot(source, process)
        self._legacies: deque[_Legacy] = deque()
        self._keep_s = {Grain.MINUTE: minutes_kept_s, Grain.HOUR: hours_kept_s}
        self._push = Push(slot=process, expected=0)
        self._legacy: _Legacy | None = None

    @property
    def settled(self) -> bool:
        """Whether everything counted up to the last question, and everything adopted, is known to be in the store."""
        return self._own.settled and not self._legacies

    def adopt(self, left: Left, done: Callable[[], None]) -> None:
        """See to it that what a dead process counted is stored; `done` is called once, when it is."""
        if any(kind == SERIES for kind, _ in (*left.cells, *left.acknowledged)):
            self._legacies.append(_Legacy(left, done))
        else:
            done()

    def ask(self, moment: Moment) -> Ask:
        """The next push; with those of the dead in turns."""
        self._legacy = self._legacies[0] if self._legacies and self._legacy is None else None
        store_ms = moment.store_ms
        period = None if store_ms is None else period_at(store_ms / 1000.0, Grain.MINUTE)
        # Whoever's turn it is: `settled` speaks of all that was counted until now.
        self._own.collect(period)
        self._push = self._slot.next_push(period)
        return question(self._push, self._keep_s)

    def told(self, reply: Any, heard: Heard, moment: Moment) -> None:
        """What became of it."""
        self._slot.replied(self._push, answer(reply))
        if self._legacy is not None and self._slot.settled:
            self._legacies.popleft().done()

    def unheard(self, moment: Moment) -> None:
        """It may be in or not: the next push finds out."""

    @property
    def _slot(self) -> Slot:
        return self._own if self._legacy is None else self._legacy.slot


def question(push: Push, keep_s: Mapping[Grain, int]) -> Ask:
    """How a push is put to the store; `keep_s` says how long the aggregates are kept."""
    keys, raises = [f"slot:{push.slot}", "slots", f"folded:{push.slot}", f"folded:{push.after or push.slot}"], []
    for one in push.raises:
        periods = _periods(one)
        keys += [period.key for period in periods]
        cells = {name: encode(vector) for name, vector in one.cells.items()}
        raises.append({"keep_s": [keep_s[period.grain] for period in periods], "cells": cells})
    asked = {
        "slot": push.slot,
        "expected": str(push.expected),
        "sequence": str(push.sequence),
        "force": push.force,
        "new": push.after is not None,
        "raises": raises,
    }
    return Ask(tuple(keys), orjson.dumps(asked))


def answer(reply: Sequence[bytes | None]) -> PushReply:
    """The answer to a push."""
    match reply:
        case [b"accepted"]:
            return Accepted()
        case [b"behind", *rest]:
            return Behind(int(rest[0]) if rest and rest[0] is not None else None)
        case [_, *flat]:
            return Folded(vectors(flat))
    raise ValueError("an answer that no version of `counters.lua` gives")


def vectors(flat: Iterable[bytes | None]) -> dict[str, Vector]:
    """What a slot's or a period's hash holds, by series name."""
    pairs = iter(flat)
    return {
        name.decode(): decode(value)
        for name, value in zip(pairs, pairs, strict=True)
        if name is not None and value is not None and name != SEQUENCE
    }


def _series(cells: Mapping[tuple[str, str], Vector]) -> dict[str, Vector]:
    return {name: vector for (kind, name), vector in cells.items() if kind == SERIES}


def _periods(raised: Raise) -> tuple[Period, ...]:
    if raised.period is None:
        return ()
    return (raised.period, raised.period.hour) if raised.period.grain is Grain.MINUTE else (raised.period,)
