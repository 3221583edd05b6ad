"""What one process has seen of one dedicated target since the cluster last accrued it.

Theory of operation
-------------------
A target is looked at with every sync: how many replicas there are, how many of them are busy, what they cost. What is
seen holds for the time since the look before. Looks that saw the same are one; the others are kept until the store has
accrued the time that they are about, so that an outage of the store is accounted for as it was, scale changes
included, and not as it ended.

A watch is bounded: past `MOST_LOOKS`, neighbours that differ only in how many replicas are busy become one. That number
is a sample anyway; the number of replicas is lost only when it alone has changed so often.

Times here are this process's monotonic seconds, since the store's clock may be set while the store is away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from proxy.meters.gpu_price import rates
from proxy.policy.gpus import Gpus

MOST_LOOKS = 512


class Piece(NamedTuple):
    """From `from_ms` on, by the store's clock: what there is, and what it costs an hour; of that, the busy replicas."""

    from_ms: int
    replicas: int
    busy_replicas: int
    gpus: int
    nano_usd_per_hour: int
    busy_nano_usd_per_hour: int


class Look(NamedTuple):
    """What held up to `until`."""

    until: float
    gpus: Gpus | None
    replicas: int
    busy_replicas: int


class Watch:
    """One target, watched since `since` without a break."""

    def __init__(self, now: float) -> None:
        self.since = now
        self._looks: list[Look] = []

    def look(self, now: float, gpus: Gpus | None, replicas: int, busy_replicas: int) -> None:
        """Note what is seen at `now`."""
        looks, seen = self._looks, Look(now, gpus, replicas, busy_replicas)
        if looks and looks[-1][1:] == seen[1:]:
            looks.pop()
        looks.append(seen)
        if len(looks) > MOST_LOOKS:
            self._looks = list(_merged(looks, alike=True))
            if len(self._looks) > MOST_LOOKS * 3 // 4:
                self._looks = list(_merged(self._looks, alike=False))

    def accrued(self, until: float) -> None:
        """The store has accrued up to `until`: what was before need not be remembered."""
        self.since = until
        latest = self._looks[-1:]
        self._looks = [look for look in self._looks if look.until > until] or latest

    def pieces(self, begin: float, end: float, end_ms: int) -> Iterator[Piece]:
        """What was, from `begin` to `end`, which is `end_ms` by the store's clock. Something has been looked at."""
        at = begin
        last: Piece | None = None
        for look in self._looks:
            until = end if look is self._looks[-1] else look.until
            if until > at:
                for piece in _pieces(look, _store_ms(at, end, end_ms), _store_ms(until, end, end_ms)):
                    if last is None or piece[1:] != last[1:]:
                        yield piece
                        last = piece
                at = until


def _pieces(look: Look, begin_ms: int, end_ms: int) -> Iterator[Piece]:
    gpus, replicas, busy = look.gpus, look.replicas, look.busy_replicas
    if gpus is None:
        yield Piece(begin_ms, replicas, busy, 0, 0, 0)
        return
    unused = gpus.unused_rate(replicas)
    for from_ms, rate in rates(gpus, replicas, begin_ms, end_ms):
        busy_rate = (rate - unused) * busy // replicas if replicas else 0
        yield Piece(from_ms, replicas, busy, replicas * gpus.count, rate, busy_rate)


def _store_ms(at: float, end: float, end_ms: int) -> int:
    return end_ms - round((end - at) * 1000.0)


def _merged(looks: Iterable[Look], *, alike: bool) -> Iterator[Look]:
    """Every second of two neighbours, where both saw the same replicas or it need not be `alike`."""
    first: Look | None = None
    for look in looks:
        if first is None:
            first = look
        elif alike and (first.gpus, first.replicas) != (look.gpus, look.replicas):
            yield first
            first = look
        else:
            yield look
            first = None
    if first is not None:
        yield first
