"""What an engine has to do for others than this proxy, told from what it says it has and what we know we sent.

Theory of operation
-------------------
Foreign requests are those that the engine counts and we do not. The two counts are never of the same moment: a request
of ours may be counted by us and not yet, or not any more, by the engine. So of our own count the most of the time
around the scrape is taken: since the scrape before, and longer where an engine publishes late (`lag_s`). A request that
has just ended is then taken for one of ours for a second longer, and never for somebody else's. What is left is noise
where it is no more than a few in a hundred of ours, or than what comes and goes of ours between two scrapes.

One scrape proves nothing: the median of the last three is the foreign load, of two the smaller. Foreign traffic shows
up with the second scrape after it came, and is gone with the second after it went.

How old a figure is, says not when it was read but when it last moved: an engine whose page stands still for
`FROZEN_AFTER_S` while it claims to work is not believed (SGLang stops publishing when it becomes idle, a hung engine
stops altogether), nor are its scrapes kept. What is unknown is dropped; it is never taken for idle.
"""

from __future__ import annotations

from collections import deque
from math import floor

import msgspec

from proxy.routing.readings import Load
from proxy.signals.engine_metrics import EngineReading

BELIEVED_S = 5.0
FROZEN_AFTER_S = 5.0
NOISE_SHARE = 0.05
CHURN_WEIGHT = 0.125
SCRAPES = 3
DEFAULT_PROMPT_TOKENS = 1000.0
DEFAULT_CONTEXT_TOKENS = 1100.0
"""What a request is taken to be before any of ours was seen: the mean of the public chat traces."""


class Foreign(msgspec.Struct, frozen=True, gc=False):
    """Requests of others: `waiting` for their first token, and `decoding`."""

    waiting: int = 0
    decoding: int = 0

    def __bool__(self) -> bool:
        return bool(self.waiting or self.decoding)


NOTHING = Foreign()


class ForeignLoad:
    """The foreign requests of one replica."""

    __slots__ = ("_as_of", "_churn", "_last", "_moved_at", "_own", "_seen")

    def __init__(self) -> None:
        self._own: deque[tuple[float, int, int]] = deque()
        self._seen: deque[Foreign] = deque(maxlen=SCRAPES)
        self._last: EngineReading | None = None
        self._as_of = self._moved_at = 0.0
        self._churn = 0.0

    def observe(self, reading: EngineReading, own_running: int, own_waiting: int, now: float) -> None:
        """What the engine says, and what we have there at that time, of all proxies together as far as is known:
        `own_waiting` for their first token, `own_running` past it.
        """
        last = self._last
        if last is None or now - self._as_of > BELIEVED_S:
            self._forget()
            last = None
        if last is None or reading.moved_since(last):
            self._moved_at = now
        own = own_running + own_waiting
        if self._own:
            self._churn += (abs(own - self._own[-1][1]) - self._churn) * CHURN_WEIGHT
        self._own.append((now, own, own_waiting))
        if reading.requests and now - self._moved_at > FROZEN_AFTER_S:
            self._seen.clear()
        else:
            self._seen.append(self._difference(reading))
        # Whatever we have at this scrape is of the window before the next one.
        while self._own[0][0] < now - reading.lag_s:
            self._own.popleft()
        self._last, self._as_of = reading, now

    def at(self, now: float) -> Foreign | None:
        """The foreign requests; None where that is not known: no scrape for `BELIEVED_S`, or fewer than two."""
        if len(self._seen) < 2 or not self._is_believed(now):
            return None
        totals = sorted(self._seen, key=lambda one: one.waiting + one.decoding)
        return totals[(len(totals) - 1) // 2]

    def _is_believed(self, now: float) -> bool:
        last = self._last
        if last is None or now - self._as_of > BELIEVED_S:
            return False
        return not last.requests or now - self._moved_at <= FROZEN_AFTER_S

    def _difference(self, reading: EngineReading) -> Foreign:
        own = max(total for _, total, _ in self._own)
        own_waiting = max(waiting for _, _, waiting in self._own)
        foreign = reading.requests - own
        if foreign <= floor(max(NOISE_SHARE * own, self._churn)):
            return NOTHING
        # Ours that wait for a first token may wait in the queue or be in the batch already: the queue is ours first.
        waiting = min(foreign, max(0, reading.waiting - own_waiting))
        return Foreign(waiting, foreign - waiting)

    def _forget(self) -> None:
        self._own.clear()
        self._seen.clear()
        self._last = None


def with_foreign(
    load: Load,
    foreign: Foreign | None,
    *,
    prompt_tokens: float = DEFAULT_PROMPT_TOKENS,
    context_tokens: float = DEFAULT_CONTEXT_TOKENS,
) -> Load:
    """`load` and what others have there, each of whose requests is taken to be like ours.

    `prompt_tokens` is our mean prompt that no cache holds, `context_tokens` our mean context while decoding.
    """
    if not foreign:
        return load
    return msgspec.structs.replace(
        load,
        waiting=load.waiting + foreign.waiting,
        queued_tokens=load.queued_tokens + round(foreign.waiting * prompt_tokens),
        decoding=load.decoding + foreign.decoding,
        context_tokens=load.context_tokens + round(foreign.decoding * context_tokens),
    )
