"""What takes part in one exchange with the store: counters, gauges, GPU time, escrow, buckets.

Theory of operation
-------------------
A sync is one call of one script (`lua/exchange.lua`). Each part puts a question, finds its answer in the reply, and
knows nothing of the others; its half in the store is `lua/<name>.lua`, a chunk that returns
`function(keys, argument, context)`. The script runs alone on the server, so all questions of an exchange are answered
at one instant.

A question may go unanswered, and then nobody knows whether the store has acted on it. So whatever a part asks must be
harmless to ask again, or harmless to have lost.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol


class Moment(NamedTuple):
    """When, and as whom, a question is put.

    `now` is on this process's monotonic clock; `store_ms` is the store's own clock, Unix time in milliseconds, as far
    as it can be told from the last reply: None before the first. `last` says that this process is leaving.
    """

    slot: str
    now: float
    store_ms: int | None
    last: bool = False


class Ask(NamedTuple):
    """A part's question: the names of its keys (the store adds its prefix) and one argument, usually JSON."""

    keys: tuple[str, ...]
    argument: bytes


class Heard(NamedTuple):
    """What the reply said for all: the store's time, how many processes it has lately heard from, this one included,
    and whether it is *learning*: it has lost its memory, or may have, and lets nothing new out until it has been told.
    It has `forgot` while nobody has put back yet what was counted before.
    """

    store_ms: int
    members: int
    learning: bool
    forgot: bool = False


class Part(Protocol):
    """One concern of the sync. Nothing in here waits."""

    name: str

    def ask(self, moment: Moment) -> Ask | None:
        """The question to put now; None for none."""
        ...

    def told(self, reply: Any, heard: Heard, moment: Moment) -> None:
        """The answer to the question of `moment`."""
        ...

    def unheard(self, moment: Moment) -> None:
        """No answer came to the question of `moment`; it may have been acted upon or not."""
        ...


class Durable(Part, Protocol):
    """A part that notes in the journal what it tells the store."""

    @property
    def settled(self) -> bool:
        """Whether all that was noted when it was last asked is known to be in the store."""
        ...
