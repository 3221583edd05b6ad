"""The names of everything the meters count, in memory and in the store.

Theory of operation
-------------------
A counter is one integer that only grows. In the store it is one hash field, named

    <counter>|<tenant>|<model>|<target>

with each part percent-encoded, so that a `|` inside a name cannot be mistaken for a separator. All three labels come
from the policy, so their number is bounded by it. `LAYOUT` is part of every key: a release that changes the meaning of
a name changes `LAYOUT`, and the two never share a key during a rolling deploy.

A gauge is the in-flight count of one replica, named `<target>/<replica>`.
"""

from __future__ import annotations

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
    "reasoning_tokens",
    "estimated_tokens",
    "nano_usd",
    "unpriced_attempts",
    "busy_ms",
)
"""What is counted per tenant, model and target.

`requests` are first attempts (each request has exactly one), `attempts` all of them. `spilled` are attempts on a shared
target because dedicated had no room, unless that target was full too (then the next one is counted); `fallbacks`
followed a failed attempt. `failures` are attempts that the upstream did not answer as
asked, `abandoned` those that the client left or stalled. Token counts are summed over the attempts that used any;
`estimated_tokens` is the part of input plus output that no upstream confirmed. `unpriced_attempts` used tokens of a
shared target without a known price. `busy_ms` is the sum of the attempts' durations in milliseconds.
"""

_SAFE = "/:.@+~-_"


class Series(NamedTuple):
    """The labels of a counter."""

    tenant: str
    model: str
    target: str


def field(counter: str, series: Series) -> str:
    """The store's name for one counter of one series."""
    return "|".join((counter, *(quote(part, safe=_SAFE) for part in series)))


def parse_field(name: str) -> tuple[str, Series] | None:
    """The inverse of `field`; None for a name of some other shape, such as one that a newer release wrote."""
    counter, *labels = name.split("|")
    if len(labels) != len(Series._fields):
        return None
    return counter, Series(*(unquote(label) for label in labels))


def gauge(target: str, replica: int) -> str:
    """The name of one replica's in-flight gauge."""
    return f"{target}/{replica}"
