"""Requests that wait for room, in memory: who is next, for how long, and what ends a wait.

Theory of operation
-------------------
A request joins a *line*: that of its route, its model and what its caller insists on, since what is room for one of a
line is room for the next. In a line the higher priority goes first, then who came first; offline traffic stands behind
all others. Only the first of a line asks whether there is room, so that a crowd costs no more than its lines: when
something has ended or begun to answer (`stir`), looked at with every sweep of the deadlines, and every `RETRY_S` in any
case, for room also comes with time. Who finds room leaves, takes it, and only then the next one asks. A request that
comes while others of its line wait, none of them behind it, joins without asking: it would take their place.

A wait ends in an answer, or with what the router says when the time is over; nobody is refused in words that are not
the router's, but by a proxy that shuts down. The number of those who wait is bounded: one more, and the last of all is
crowded out, which is the newcomer itself if nobody comes after it. A client that leaves takes its place with it, and
one that waits for a stream is told now and then that it is still being served.

Offline traffic with a deadline has two waits: for idle GPUs, as long as its deadline is far, and then for any room.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import time
from collections.abc import Callable
from enum import IntEnum, auto
from typing import NamedTuple

import msgspec

from proxy.caller import Client
from proxy.forward import KEEP_ALIVE_S
from proxy.meters.hold import Hold
from proxy.policy.model import Lane, Route, Traffic
from proxy.routing.facts import Facts
from proxy.routing.idle import SPARE
from proxy.routing.outcome import Failure
from proxy.routing.plan import Decision, Refusal
from proxy.routing.shortages import FOR_LACK_OF_ROOM

MOST = 1000
"""How many requests of one process may wait."""
RETRY_S = 0.25

Line = tuple[str, str, Lane | None, str | None, bool]
"""Route, model, the lane and the target that the caller insists on, and whether it waits for idle GPUs."""
Rank = tuple[bool, int]
"""Who has the lower one goes first."""
Ask = Callable[[float, bool], tuple[Decision, Hold | None]]
"""(now, whether only idle GPUs will do) -> what the router says, and what was set aside for it."""


class Patience(NamedTuple):
    """How one request waits: in which line, with which rank, and until when; before that for idle GPUs only."""

    line: Line
    rank: Rank
    until: float
    idle_until: float | None = None


class Waited(NamedTuple):
    """What came of a wait."""

    decision: Decision
    hold: Hold | None
    waited_s: float


class Why(IntEnum):
    """Why somebody who waits is called; of two reasons the greater one counts."""

    NEXT = auto()
    LATE = auto()
    CROWDED_OUT = auto()
    CLOSING = auto()
    LEFT = auto()


_LEFT = Refusal(
    status=499,
    code="client_closed_request",
    message="client closed the connection while its request waited for room",
    rule=Failure.CLIENT_LEFT.label,
    retryable=False,
)
"""For the record: nobody is there to read it."""

_CLOSING = Refusal(
    status=503,
    type="server_error",
    code="shutting_down",
    message="the proxy is shutting down",
    rule="shutdown",
    retry_after_s=1.0,
    retryable=True,
)


def lacks_room(decision: Decision) -> bool:
    """Whether it is a refusal that another moment may turn into an answer."""
    return isinstance(decision, Refusal) and decision.retryable is True and decision.rule in FOR_LACK_OF_ROOM


def patience_of(route: Route, facts: Facts, now: float, service_s: float | None = None) -> Patience | None:
    """How a request on `route` may wait from `now` on; None where it may not.

    `service_s` is how long serving it takes, of offline traffic where there are GPUs to wait for.
    """
    by_deadline = route.deadline_s is not None and service_s is not None and facts.traffic is Traffic.OFFLINE
    line = (route.name, facts.model, facts.lane_override, facts.target_override, by_deadline)
    rank = (facts.traffic is Traffic.OFFLINE, -facts.priority)
    if by_deadline:
        assert route.deadline_s is not None
        assert service_s is not None
        until = now + route.deadline_s
        return Patience(line, rank, until, until - SPARE * service_s)
    return Patience(line, rank, now + route.wait_s) if route.wait_s else None


class _Place:
    """One request that waits. It is its client's listener."""

    __slots__ = ("_call", "_loop", "_why", "client", "line", "number", "ping_at", "rank", "until")

    def __init__(
        self, patience: Patience, number: int, client: Client, ping_at: float | None, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.line, self.rank, self.until, idle_until = patience
        if idle_until is not None:
            self.until = idle_until
        self.number = number
        self.client = client
        self.ping_at = ping_at
        self._loop = loop
        self._call: asyncio.Future[None] | None = None
        self._why = Why.NEXT

    def __lt__(self, other: _Place) -> bool:
        return (self.rank, self.number) < (other.rank, other.number)

    async def called(self) -> Why:
        """Wait for the next call."""
        self._why = Why.NEXT
        self._call = self._loop.create_future()
        await self._call
        return self._why

    def call(self, why: Why) -> None:
        """Wake it; if it has been called and has not heard it yet, it hears the greater reason."""
        self._why = max(self._why, why)
        if self._call is not None and not self._call.done():
            self._call.set_result(None)

    def on_client_left(self) -> None:
        self.call(Why.LEFT)

    def on_client_ready(self) -> None:
        """Nothing is held back: all that a waiting client is sent are comments."""


class WaitingRoom:
    """Everybody who waits in this process. Watched by the deadlines."""

    def __init__(self, loop: asyncio.AbstractEventLoop, most: int = MOST) -> None:
        self._loop = loop
        self._most = most
        self._lines: dict[Line, list[_Place]] = {}
        self._places: set[_Place] = set()
        self._numbers = itertools.count()
        self._stirred = False
        self._asked_at = 0.0
        self._closes_at = math.inf

    def __len__(self) -> int:
        return len(self._places)

    def stir(self) -> None:
        """There may be room now: something has ended, or has begun to answer."""
        self._stirred = True

    def is_behind(self, patience: Patience) -> bool:
        """Whether somebody waits whom the request may not overtake."""
        first = self._first(patience.line)
        return first is not None and first.rank <= patience.rank

    async def wait(self, patience: Patience, client: Client, ask: Ask, *, stream: bool, refused: bool) -> Waited:
        """What becomes of a request in the end; `refused` says that there was no room for it a moment ago."""
        began_at = time.monotonic()
        idle_only = patience.idle_until is not None
        if not refused and not self.is_behind(patience):
            decision, hold = ask(began_at, idle_only)
            if not lacks_room(decision):
                return Waited(decision, hold, 0.0)
        place = self._join(patience, client, began_at + KEEP_ALIVE_S if stream else None)
        if place is None:
            return Waited(*ask(began_at, False), 0.0)
        client.listener = place
        decision, hold = _sent_away(Why.CLOSING, patience), None
        try:
            while True:
                why = Why.LEFT if client.left else await place.called()
                if why is Why.LEFT or why is Why.CLOSING:
                    decision = _sent_away(why, patience)
                    break
                final = why is Why.CROWDED_OUT or (why is Why.LATE and not idle_only)
                if why is Why.LATE:
                    # The deadline is near, or everything is over: whatever room there is will do.
                    idle_only, place.until = False, patience.until
                decision, hold = ask(time.monotonic(), idle_only and not final)
                if final or not lacks_room(decision):
                    break
        except asyncio.CancelledError:
            # Only a server that ends cancels. The request is told so, and leaves a record, like those that were called.
            decision, hold = _sent_away(Why.CLOSING, patience), None
        finally:
            client.listener = None
            self._leave(place, served=not isinstance(decision, Refusal))
        return Waited(decision, hold, time.monotonic() - began_at)

    def close(self, at: float = 0.0) -> None:
        """Send everybody away who might wait past `at`, and those who come later too: the proxy is shutting down.

        May be called again.
        """
        self._closes_at = at
        for place in tuple(self._places):
            if place.until > at:
                place.call(Why.CLOSING)

    def check(self, now: float) -> None:
        """The sweep: who is late, who has to be comforted, and whether the first of each line should ask again."""
        for place in tuple(self._places):
            if now >= place.until:
                place.call(Why.LATE)
            elif place.ping_at is not None and now >= place.ping_at:
                place.ping_at = now + KEEP_ALIVE_S
                place.client.ping()
        if self._places and (self._stirred or now >= self._asked_at + RETRY_S):
            self._stirred, self._asked_at = False, now
            for line in tuple(self._lines):
                self._ask(line)

    def _join(self, patience: Patience, client: Client, ping_at: float | None) -> _Place | None:
        """A place; None if the room is full of those who go first, or closing."""
        place = _Place(patience, next(self._numbers), client, ping_at, self._loop)
        if place.until > self._closes_at:
            return None
        if len(self._places) >= self._most:
            last = max(self._places)
            if last < place:
                return None
            self._places.discard(last)  # it is on its way out, and counts no more
            last.call(Why.CROWDED_OUT)
        self._places.add(place)
        heapq.heappush(self._lines.setdefault(place.line, []), place)
        return place

    def _leave(self, place: _Place, *, served: bool) -> None:
        self._places.discard(place)
        if self._first(place.line) is not None and served:
            # After the one who leaves has taken its room: it goes on in the same turn of the loop.
            self._loop.call_soon(self._ask, place.line)

    def _ask(self, line: Line) -> None:
        first = self._first(line)
        if first is not None:
            first.call(Why.NEXT)

    def _first(self, line: Line) -> _Place | None:
        """Who is next of those that are still here."""
        places = self._lines.get(line)
        if places is None:
            return None
        while places and places[0] not in self._places:
            heapq.heappop(places)
        if not places:
            del self._lines[line]
            return None
        return places[0]


def _sent_away(why: Why, patience: Patience) -> Decision:
    return msgspec.structs.replace(_LEFT if why is Why.LEFT else _CLOSING, route=patience.line[0])
