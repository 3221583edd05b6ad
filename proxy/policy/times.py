"""Times of the week as a policy writes them: `mon-fri`, `09:00-18:00`, `Europe/Berlin`.

Like `units`: each function takes a YAML value and returns the canonical one or raises `Mistake`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from proxy.policy.problem import Mistake
from proxy.policy.schedule import Schedule
from proxy.policy.variables import revealed, shown

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS = re.compile(r"([0-2]?[0-9]):([0-5][0-9])\s?-\s?([0-2]?[0-9]):([0-5][0-9])")
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+){0,2}")


def days(value: object) -> tuple[int, ...]:
    """`tue` -> (1,), `mon-fri` -> (0, 1, 2, 3, 4), `sat-mon` -> (5, 6, 0)."""
    word = revealed(value)
    first, dash, last = word.partition("-") if isinstance(word, str) else ("", "", "")
    if first not in DAYS or (dash and last not in DAYS):
        raise Mistake(f"not a day or a span of days: {shown(value)}", "write `mon`, `sat` or `mon-fri`")
    begin = DAYS.index(first)
    length = (DAYS.index(last) - begin) % 7 if dash else 0
    return tuple((begin + step) % 7 for step in range(length + 1))


def hours(value: object) -> tuple[int, int]:
    """`09:00-18:00` -> (540, 1080), minutes of the day; `22:00-06:00` runs over midnight."""
    match = _HOURS.fullmatch(str(revealed(value)))
    if match is None:
        raise Mistake(f"not a span of hours: {shown(value)}", 'write `"09:00-18:00"`, in quotes')
    begin, end = int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])
    if begin >= 24 * 60 or end > 24 * 60 or begin == end:
        raise Mistake(f"not a span of hours: {shown(value)}", "from 00:00 to 24:00, and not empty")
    return begin, end


def schedule(spans: Iterable[Iterable[int]], minutes: tuple[int, int], where: tzinfo) -> Schedule:
    """The spans of days (every day, when there is none), between these minutes, in that zone."""
    on = frozenset(day for span in spans for day in span) or frozenset(range(7))
    return Schedule(zone=where, days=on, from_minute=minutes[0], to_minute=minutes[1])


def zone(value: object) -> tzinfo:
    """The name of a time zone in the IANA database."""
    name = str(revealed(value))
    try:
        if _ZONE.fullmatch(name):
            return ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError, ValueError):
        pass
    raise Mistake(f"not a time zone: {shown(value)}", "write its IANA name, such as `Europe/Berlin` or `UTC`")
