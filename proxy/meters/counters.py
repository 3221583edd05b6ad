"""The part of the sync that stores what the ledger has counted: a `Slot` on the wire.

Theory of operation
-------------------
`slot.py` says what to send and what an answer means; here is how either looks in an exchange. Integers travel as
decimal strings, since JSON numbers become doubles inside the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from proxy.meters.part import Ask, Heard, Moment
from proxy.meters.slot import Accepted, Behind, Folded, Push, PushReply, Slot, Source

SEQUENCE = "#sequence"


class Counters:
    """The part `counters`: this process's place in the store. `process` is its random id."""

    name = "counters"

    def __init__(self, process: str, source: Source) -> None:
        self.process = process
        self._slot = Slot(source, process)
        self._asked: Push | None = None

    @property
    def settled(self) -> bool:
        """Whether everything counted up to the last question is known to be in the store."""
        return self._slot.settled

    def ask(self, moment: Moment) -> Ask:
        """The next push."""
        push = self._asked = self._slot.next_push()
        return question(push)

    def told(self, reply: Any, heard: Heard, moment: Moment) -> None:
        """What became of it."""
        if self._asked is not None:
            self._slot.replied(self._asked, answer(reply))
            self._asked = None

    def unheard(self, moment: Moment) -> None:
        """It may be in or not: the next push finds out."""
        self._asked = None


def question(push: Push) -> Ask:
    """How a push is put to the store."""
    asked = {
        "slot": push.slot,
        "expected": str(push.expected),
        "sequence": str(push.sequence),
        "full": push.full,
        "fields": {name: str(value) for name, value in push.fields.items()},
    }
    return Ask((f"slot:{push.slot}", "slots", f"folded:{push.slot}"), orjson.dumps(asked))


def answer(reply: Sequence[bytes]) -> PushReply:
    """The answer to a push."""
    match reply[0]:
        case b"accepted":
            return Accepted()
        case b"behind":
            return Behind()
        case _:
            pairs = zip(reply[1::2], reply[2::2], strict=True)
            return Folded({name.decode(): int(value) for name, value in pairs if name != SEQUENCE.encode()})
