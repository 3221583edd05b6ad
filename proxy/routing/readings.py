"""Frozen observations of the targets, each with the time it was taken.

Theory of operation
-------------------
`signals/` owns the moving state; what `decide()` sees of it is a tuple of these values, one per replica. Unknown is
None and stays None: a rule states in its docstring what it answers when a reading is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec


class Breaker(StrEnum):
    """Closed serves, open does not, half-open lets one probe through (DESIGN words: open means *not serving*)."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Reading(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One replica of one target, `as_of` seconds on the monotonic clock.

    `in_flight` counts this process's requests plus what the other workers last reported. `full_until` is the time up to
    which the engine's own 429/503/529, given at `full_at`, is believed. `open_until` is when an open breaker will let a
    probe through. Quantiles are over a sliding window and None below a minimum sample.
    """

    target: str
    replica: int
    as_of: float
    in_flight: int = 0
    breaker: Breaker = Breaker.CLOSED
    open_until: float = 0.0
    full_until: float = 0.0
    full_at: float = 0.0
    ttft_p99_s: float | None = None
    itl_p99_s: float | None = None
    uptime: float | None = None


Readings = Mapping[str, tuple[Reading, ...]]
"""By target name, one reading per replica in the order of `Target.urls`."""
