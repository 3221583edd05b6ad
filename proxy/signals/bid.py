"""What a second of engine time is worth at the moment: the bid price below which a request is better paid for.

Theory of operation
-------------------
A request that an engine serves saves its shared price and uses up engine time; its density is what it saves in a second
of that. When more work is wanted than engines can do, the time should go to the densest, and the density of the last
request that still gets some is the bid price of all of it (Talluri and van Ryzin, 1998).

The work that is wanted, wherever it is served in the end, is kept by density in logarithmic bins that fade with a time
constant of `FADE_S`, so their sum over `FADE_S` is the work wanted in a second. Filled from the top until they exceed
`SLACK` times what the engines can do, they end at the bid. The slack is there because capacity is perishable: an engine
that idles a moment because its work was turned away has lost more than one that is full a moment too early has.

A bid gains only where densities differ, by prices that a policy keeps apart or that differ for input and output; with
one flat price it loses. And what it turns away teaches nothing of an engine. So there is none while the densities of
the 5th and the 95th percentile of the work are within `DISPERSION`, or before every replica was observed often enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, expm1, inf, log

from proxy.policy.engine_profile import ASSUMED
from proxy.policy.model import Target
from proxy.routing.readings import Load

FADE_S = 30.0
SLACK = 1.25
DISPERSION = 1.5
MIN_SAMPLES = 500
"""Informative ones of each replica: before, a profile that is off would be taken for a lack of capacity."""
PRICE_S = 0.25
"""How long a price is good for: making one out is a walk over the bins."""

BINS = 96
GROWTH = 1.1
LEAST_NANO_USD_PER_S = 1e5
"""0.36 dollars in an hour of engine time; the densest bin begins at 3,080. What lies beyond counts as its ends."""

_PER_LOG = 1 / log(GROWTH)
_LOG_LEAST = log(LEAST_NANO_USD_PER_S)
_LONGEST_FADE = 50.0
"""Bins are scaled down when the newest weigh e to the so much of what the first ones did."""


class BidPrice:
    """Of the engines of one target. Work is in seconds of engine time, as the target's profile has it.

    `nano_usd_per_s` is the bid, 0 while all is taken. It is good until `good_until`; whoever asks later has it made out
    anew first.
    """

    __slots__ = ("_began_at", "_bins", "_scaled_at", "good_until", "nano_usd_per_s")

    def __init__(self) -> None:
        self._bins = [0.0] * BINS
        self._began_at: float | None = None
        self._scaled_at = 0.0
        self.good_until = -inf
        self.nano_usd_per_s = 0.0

    def want(self, density_nano_usd_per_s: float, work_s: float, now: float) -> None:
        """A request asks for so much work, and would save so much by each second of it."""
        if self._began_at is None:
            self._began_at = self._scaled_at = now
        age = (now - self._scaled_at) / FADE_S
        if age > _LONGEST_FADE:
            faded = exp(-age)
            self._bins = [work * faded for work in self._bins]
            self._scaled_at, age = now, 0.0
        place = 0
        if density_nano_usd_per_s > LEAST_NANO_USD_PER_S:
            place = min(int((log(density_nano_usd_per_s) - _LOG_LEAST) * _PER_LOG), BINS - 1)
        self._bins[place] += work_s * exp(age)

    def make_out(self, now: float, capacity: float, samples: int) -> None:
        """Work out the bid. `capacity` is what the engines can do, in seconds of work a second; `samples` are the
        informative ones of the replica that has the fewest.
        """
        self.good_until = now + PRICE_S
        self.nano_usd_per_s = self._bid(now, capacity) if samples >= MIN_SAMPLES else 0.0

    def _bid(self, now: float, capacity: float) -> float:
        if self._began_at is None or now - self._began_at < FADE_S:
            return 0.0
        total = sum(self._bins)
        # Bins that have not been filled for long hold the work of less than `FADE_S`.
        over_s = FADE_S * -expm1((self._began_at - now) / FADE_S)
        room = SLACK * capacity * over_s * exp((now - self._scaled_at) / FADE_S)
        if total <= room or self._at(0.05 * total) < DISPERSION * self._at(0.95 * total):
            return 0.0
        return self._at(room)

    def _at(self, work: float) -> float:
        """The density above which there is so much of the work."""
        for place in range(BINS - 1, -1, -1):
            here = self._bins[place]
            if here >= work and here > 0.0:
                return LEAST_NANO_USD_PER_S * exp((place + 1 - work / here) / _PER_LOG)
            work -= here
        return LEAST_NANO_USD_PER_S


def capacity(target: Target, loads: Sequence[Load], itl_aim_s: float) -> float:
    """What a target's replicas can do at an objective for the gap, in seconds of work, as its profile has it, a second.

    A step that takes L in all, of which the profile gives a to no request, does L - a of work: 1 - a / L in a second.
    On a replica that takes f times as long as its profile says, it does L / f - a. Of its two factors the smaller one
    counts: neither is learned before there is load, and to think too much of an engine only makes the bid low.
    """
    profile = target.profile or ASSUMED
    idle = profile.step_s / itl_aim_s
    return sum([max(1 / min(load.ttft_factor, load.itl_factor) - idle, 0.0) for load in loads])
