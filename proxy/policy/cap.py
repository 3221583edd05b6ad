"""What a budget allows in which window, how it binds, and what becomes of requests when it is used up."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Per(StrEnum):
    """The window of a budget, in UTC by the store's clock; a week begins on Monday. `total` never ends."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    TOTAL = "total"


class Enforce(StrEnum):
    """How a budget binds. `hard` is never overspent: money is set aside before it is spent, and a stream is cut when
    there is no more. `soft` refuses what begins after the limit was reached. `shadow` only records what soft would do.
    """

    HARD = "hard"
    SOFT = "soft"
    SHADOW = "shadow"


class Exhausted(StrEnum):
    """What becomes of requests once a budget is used up: served by targets it does not cover, refused, or served as
    another model.
    """

    DEDICATED_ONLY = "dedicated_only"
    REJECT = "reject"
    DOWNGRADE = "downgrade"


@dataclass(frozen=True, slots=True)
class Cap:
    """So much money in each window."""

    nano_usd: int
    per: Per
