"""A race of two attempts for one client: the first that has content for it goes on, and the other is ended.

Theory of operation
-------------------
Each attempt is a `Forward` that takes an `Entrant` for its client. An entrant passes everything on, and with the first
thing that it passes on, which is what commits a forward, its attempt has won: in the same step the other's exchange is
aborted and its outcome settled, before a byte of the winner's is sent. So nothing of the loser ever reaches the client,
and nothing that happens to it later can reach the race.

A race begins with one attempt. When that has gone without content for long enough, the copy is asked for, once; there
may be none to be had. An attempt that fails leaves the race to the other one, but for a first one that fails so that no
target could mend it; the race is over when the winner has ended, or nobody is left. The client hears of nothing: its
leaving ends both, its readiness goes to whoever writes, and while both wait one of them keeps it comforted.

The endings are in the order in which the attempts began, but for the one that decides: that is the last.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from math import inf

import msgspec

from proxy.caller import Client, FixedHeaders, Listener
from proxy.forward import Ending, Forward
from proxy.routing.outcome import Failure
from proxy.routing.plan import Attempt, Cause, Plan, Refusal
from proxy.routing.wording import seconds
from proxy.upstream.base import RawHeaders

_ATTEMPTS = b"x-spillway-attempts"


def copies(plan: Plan) -> list[Attempt]:
    """The attempts of the plan that a copy of the first may be, the best first: at other targets, of the other lane."""
    first = plan.attempts[0].target
    others = [attempt for attempt in plan.attempts[1:] if attempt.target.name != first.name]
    return sorted(others, key=lambda one: one.target.lane is first.lane)


def as_copy(attempt: Attempt, first: Attempt, waited_s: float) -> Attempt:
    """`attempt` as the copy of `first`, which has no content after `waited_s`."""
    reason = f"hedged: no token from {first.target.name} in {seconds(waited_s)}"
    return msgspec.structs.replace(attempt, ordinal=1, cause=Cause.HEDGE, reason=reason)


class Entrant:
    """What an attempt in a race takes for its client."""

    __slots__ = ("_race", "attempt", "begun_at", "done", "forward", "listener")

    def __init__(self, race: Race, attempt: Attempt, done: asyncio.Future[None]) -> None:
        self._race = race
        self.attempt = attempt
        self.done = done
        self.begun_at = time.monotonic()
        self.forward: Forward | None = None
        self.listener: Listener | None = None

    @property
    def started(self) -> bool:
        return self._race.client.started

    @property
    def left(self) -> bool:
        return self._race.client.left

    @property
    def ending(self) -> Ending | None:
        """How the attempt ended; None while it runs."""
        return None if self.forward is None else self.forward.ending

    def start(self, status: int, headers: RawHeaders, fixed: FixedHeaders = ()) -> None:
        self._race.claim(self)
        self._race.client.start(status, headers, self._race.counted(fixed))

    def write(self, data: bytes) -> bool:
        self._race.claim(self)
        return self._race.client.write(data)

    def end(self, data: bytes = b"") -> None:
        self._race.claim(self)
        self._race.client.end(data)

    def ping(self) -> None:
        if self._race.speaks(self):
            self._race.client.ping()

    def refuse(self, refusal: Refusal) -> None:
        self._race.claim(self)
        self._race.client.refuse(refusal)


class Race:
    """See the module's text. It is the client's listener, and is watched by the deadlines in its forwards' stead."""

    __slots__ = ("_copy", "_due_s", "_entrants", "_heard", "_last", "_loop", "_winner", "client", "over")

    def __init__(
        self,
        client: Client,
        due_s: float | None,
        copy: Callable[[Race, float], None],
        heard: Callable[[Attempt, float], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """`copy` is called when the first attempt has waited for `due_s`, with the time that it did; None is never.

        `heard` is told how long the first attempt waited for its content, or until it was ended without.
        """
        self.client = client
        self._due_s = inf if due_s is None else due_s
        self._copy = copy
        self._heard = heard
        self._loop = loop
        self._entrants: list[Entrant] = []
        self._winner: Entrant | None = None
        self._last: Entrant | None = None
        self.over: asyncio.Future[None] = loop.create_future()

    def entrant(self, attempt: Attempt) -> Entrant:
        """The client of an attempt that is about to begin; `run` wants it back with its forward."""
        entrant = Entrant(self, attempt, self._loop.create_future())
        self._entrants.append(entrant)
        return entrant

    def run(self, entrant: Entrant, forward: Forward) -> None:
        """The attempt has begun, and may have ended already."""
        entrant.forward = forward
        entrant.done.add_done_callback(lambda _: self._ended(entrant))

    def close(self) -> list[Ending]:
        """How the attempts ended. The relay's coroutine is leaving, cancelled perhaps: what is open is settled."""
        entrants, self._entrants = self._entrants, []
        for entrant in entrants:
            if entrant.forward is not None:
                entrant.forward.abandon()
        entrants.sort(key=lambda one: one is self._last)
        endings = [ending for one in entrants if (ending := one.ending) is not None]
        # They know each other: left together they are garbage that only a full collection finds.
        self._winner = self._last = None
        for entrant in entrants:
            entrant.forward = None
        return endings

    # the client's side

    def on_client_left(self) -> None:
        for entrant in self._running():
            assert entrant.forward is not None
            entrant.forward.on_client_left()

    def on_client_ready(self) -> None:
        if self._winner is not None and self._winner.forward is not None:
            self._winner.forward.on_client_ready()

    # the sweeper's side

    def check(self, now: float) -> None:
        """Called a few times a second: what the forwards have to check, and whether the copy is due."""
        running = self._running()
        for entrant in running:
            assert entrant.forward is not None
            entrant.forward.check(now)
        if self._winner is not None or not self._running():
            return
        waited_s = now - self._entrants[0].begun_at
        if waited_s >= self._due_s:
            self._due_s = inf
            self._copy(self, waited_s)

    # the entrants' side

    def claim(self, entrant: Entrant) -> None:
        """`entrant` has something for the client: the others are ended before it goes out."""
        if self._winner is not None:
            return
        self._winner = self._last = entrant
        first = self._entrants[0]
        if entrant is first or first.ending is None:
            self._heard(first.attempt, time.monotonic() - first.begun_at)
        self._end_others(entrant)

    def speaks(self, entrant: Entrant) -> bool:
        """Whether it is for `entrant` to say that the client is still being served."""
        running = self._running()
        return bool(running) and running[0] is entrant

    def counted(self, fixed: FixedHeaders) -> FixedHeaders:
        """The headers of a reply, with as many attempts as there were."""
        if len(self._entrants) == 1:
            return fixed
        count = b"%d" % len(self._entrants)
        return tuple([(name, count if name == _ATTEMPTS else value) for name, value in fixed])

    def _running(self) -> list[Entrant]:
        return [entrant for entrant in self._entrants if entrant.forward is not None and entrant.ending is None]

    def _ended(self, entrant: Entrant) -> None:
        ending = entrant.ending
        if ending is not None and self._winner is None:
            failure = ending.outcome.failure
            if failure is not Failure.OUTRUN:
                self._last = entrant
            if failure is not None and not failure.retryable and entrant.attempt.cause is not Cause.HEDGE:
                # As ever: what no further target could mend is the answer. A copy is no reason to end the other.
                self._end_others(entrant)
        if (entrant is self._winner or not self._running()) and not self.over.done():
            self.over.set_result(None)

    def _end_others(self, entrant: Entrant) -> None:
        for other in self._running():
            if other is not entrant and other.forward is not None:
                other.forward.outrun(entrant.attempt.target.name)
