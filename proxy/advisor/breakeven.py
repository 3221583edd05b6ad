"""When a GPU pays for itself: how busy it has to be, and how much traffic keeps it so.

Theory of operation
-------------------
An engine whose steps take L, the objective of the gap between tokens, spends a of each step on nobody's behalf, so it
does C = 1 - a / L work-seconds a second. If the tokens of a work-second would cost v elsewhere, and the replica costs g
an hour, it pays from the utilisation

    rho* = g / (3600 v C)

on: the share of its capacity that has to be used, day and night. Beyond 1 it can never pay. At the mean price p and
work w of a request, that is g / (3600 p) requests a second. Source: the economics of DESIGN section 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from proxy.policy.engine_profile import EngineProfile

HOURS_A_MONTH = 730.0
SECONDS_AN_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A replica that one can have: its engine, what it costs an hour, and the gap between tokens that it must keep.

    `boot_s` is how long it is paid before it serves.
    """

    name: str
    profile: EngineProfile
    usd_per_hour: float
    itl_s: float
    boot_s: float = 300.0

    @property
    def capacity(self) -> float:
        """C: work-seconds a second; 0 where not even an empty step keeps the objective."""
        return max(0.0, 1 - self.profile.step_s / self.itl_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """The mean request of a demand: its tokens, its engine time in seconds, and its shared price in dollars."""

    input_tokens: float
    output_tokens: float
    work_s: float
    usd: float

    @property
    def usd_per_work_s(self) -> float:
        """v: what a second of an engine's time would cost elsewhere."""
        return self.usd / self.work_s if self.work_s else 0.0

    @property
    def tokens(self) -> float:
        """Input and output together."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakEven:
    """`utilisation` is rho*; the volumes are those of one replica that is just worth its price.

    `full_requests_per_s` is what it serves when full, `usd_per_mtok` what a million tokens cost on it then, and
    `shared_usd_per_mtok` what they cost elsewhere.
    """

    utilisation: float
    requests_per_s: float
    tokens_per_month: float
    full_requests_per_s: float
    usd_per_mtok: float
    shared_usd_per_mtok: float

    @property
    def ever(self) -> bool:
        """Whether a replica that is always full would pay."""
        return self.utilisation < 1


def break_even(offer: Offer, mean: Mean) -> BreakEven:
    """Where `offer` pays for requests like `mean`."""
    full = offer.capacity / mean.work_s if mean.work_s else 0.0
    worth = SECONDS_AN_HOUR * mean.usd_per_work_s * offer.capacity
    utilisation = offer.usd_per_hour / worth if worth > 0 else inf
    requests = offer.usd_per_hour / (SECONDS_AN_HOUR * mean.usd) if mean.usd > 0 else inf
    at_full = SECONDS_AN_HOUR * full * mean.tokens
    return BreakEven(
        utilisation=utilisation,
        requests_per_s=requests,
        tokens_per_month=requests * mean.tokens * SECONDS_AN_HOUR * HOURS_A_MONTH,
        full_requests_per_s=full,
        usd_per_mtok=offer.usd_per_hour / at_full * 1e6 if at_full else inf,
        shared_usd_per_mtok=mean.usd / mean.tokens * 1e6 if mean.tokens else 0.0,
    )
