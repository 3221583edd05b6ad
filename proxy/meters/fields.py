"""The names of everything the meters count, in memory and in the store.

Theory of operation
-------------------
A series is what one combination of labels adds up to: a vector of integers that only grow, in the order of `COUNTERS`.
In the store it is one hash field, named

    <tenant>|<key>|<model>|<route>|<target>|<lane>

with each label percent-encoded, so that a `|` inside a name cannot be mistaken for a separator. All labels come from
the policy, so their number is bounded by it. `LAYOUT` is part of every key: a release that changes the meaning of a
name changes `LAYOUT`, and the two never share a key during a rolling deploy. A counter that a later release adds is
appended, and changes nothing: what is missing at the end of a vector is zero.

A gauge is the in-flight count of one replica, named as `replica_key` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote, unquote

LAYOUT = 2

COUNTERS = (
    "requests",
    "attempts",
    "spilled",
    "fallbacks",
    "failures",
    "abandoned",
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "audio_tokens",
    "estimated_tokens",
    "estimated_attempts",
    "nano_usd",
    "estimated_nano_usd",
    "unpriced_attempts",
    "busy_ms",
    "work_us",
    "ttft_ms",
    "ttft_count",
)
"""What is counted per series.

`requests` are first attempts (each request has exactly one), `attempts` all of them. `spilled` are attempts on a shared
target because dedicated had no room, unless that target was full too (then the next one is counted); `fallbacks`
followed a failed attempt. `failures` are attempts that the upstream did not answer as asked, `abandoned` those that the
client left or stalled. Token counts are summed over the attempts that used any; `audio_tokens` are those of input and
output. `estimated_tokens` is the part of input plus output that no upstream confirmed, `estimated_attempts` and
`estimated_nano_usd` are the attempts and the money that it belongs to. `unpriced_attempts` used tokens of a shared
target without a known price. `busy_ms` is the sum of the attempts' durations in milliseconds, `work_us` the engine time
that they took (`routing.work`), `ttft_ms` the time to the first token of the `ttft_count` attempts that had one.
"""

SERIES = "series"
"""What a series is called where several kinds of vector stand side by side, as in the journal."""

_SAFE = "/:.@+~-_"


class Series(NamedTuple):
    """The labels of a vector. `key` is empty for a tenant's unnamed key; `lane` is a `Lane`'s value."""

    tenant: str
    key: str
    model: str
    route: str
    target: str
    lane: str


def series_name(series: Series) -> str:
    """The store's name for a series."""
    return side_by_side(series)


def parse_series(name: str) -> Series | None:
    """The inverse of `series_name`; None for a name of some other shape, such as one that a newer release wrote."""
    labels = apart(name)
    return Series(*labels) if len(labels) == len(Series._fields) else None


def side_by_side(labels: Sequence[str]) -> str:
    """Labels as one name."""
    return "|".join([quote(label, safe=_SAFE) for label in labels])


def apart(name: str) -> list[str]:
    """The inverse of `side_by_side`."""
    return [unquote(label) for label in name.split("|")]
