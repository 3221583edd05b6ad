"""What the GPUs of a target cost over a span of time.

Theory of operation
-------------------
The rate of a target (`Gpus.rate`) changes only when the number of replicas does, or at the edge of a schedule, which is
a whole minute of local time. So a span of time falls into pieces of one rate each, and rate times length, summed, is
the exact integral.

Within an hour of UTC in which the zone's offset does not change, the edges are the minutes of the schedule and
midnight, brought back by the offset. In one at whose end it is another, every minute may be an edge, the last too.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo

from proxy.policy.gpus import Gpus
from proxy.policy.schedule import Schedule

MS_PER_MINUTE = 60_000
MS_PER_HOUR = 3_600_000


def rates(gpus: Gpus, replicas: int, begin_ms: int, end_ms: int) -> Iterator[tuple[int, int]]:
    """From `begin_ms` to `end_ms`: since when (Unix time in ms) the target costs how many nano-USD an hour.

    The first item stands at `begin_ms`; each rate differs from the one before.
    """
    last: int | None = None
    for at_ms in (begin_ms, *_edges(gpus, begin_ms, end_ms)):
        rate = gpus.rate(replicas, at_ms / 1000.0)
        if rate != last:
            yield at_ms, rate
            last = rate


def _edges(gpus: Gpus, begin_ms: int, end_ms: int) -> list[int]:
    """The times after `begin_ms` and before `end_ms` at which the price of the moment may change, in order."""
    if not gpus.schedule or begin_ms // MS_PER_MINUTE == (end_ms - 1) // MS_PER_MINUTE:
        return []
    found = {edge for item in gpus.schedule for edge in _edges_of(item.schedule, begin_ms, end_ms)}
    return sorted(edge for edge in found if begin_ms < edge < end_ms)


def _edges_of(schedule: Schedule, begin_ms: int, end_ms: int) -> Iterator[int]:
    for hour_ms in range(begin_ms - begin_ms % MS_PER_HOUR, end_ms, MS_PER_HOUR):
        before, after = _offset_minutes(schedule.zone, hour_ms), _offset_minutes(schedule.zone, hour_ms + MS_PER_HOUR)
        first = hour_ms // MS_PER_MINUTE + before  # of local time, in minutes
        for minute in range(61) if before != after else _turns(schedule, first):
            yield hour_ms + minute * MS_PER_MINUTE


def _turns(schedule: Schedule, first: int) -> Iterator[int]:
    """The minutes from local minute `first` on, within an hour, at which the span begins, ends, or the day does."""
    for minute_of_day in (schedule.from_minute, schedule.to_minute, 0):
        minutes = (minute_of_day - first) % (24 * 60)
        if minutes < 60:
            yield minutes


def _offset_minutes(zone: tzinfo, at_ms: int) -> int:
    offset = datetime.fromtimestamp(at_ms / 1000.0, UTC).astimezone(zone).utcoffset() or timedelta()
    return int(offset.total_seconds()) // 60
