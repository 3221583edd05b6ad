"""How many GPUs to have: the bill with k replicas, for every k, from the demand that was metered.

Theory of operation
-------------------
With k replicas of capacity C, what arrives beyond k C spills at v dollars a work-second:

    Cost(k) = k g + 3600 v E[(D - k C)+]                            dollars an hour

The k-th replica is used u_k = E[min((D - (k - 1) C)+, C)] / C of the time, so it pays exactly while u_k >= rho*: the
critical ratio of the newsvendor, one replica at a time. u_k falls with k, so the first that does not pay is the end.

Replicas that come and go save more. A *schedule* has as many as pay in each class of hours (the hour of the day, on
weekdays and weekends apart), and pays for the time in which each one boots. Hourly clairvoyance, an autoscaler that
knew each hour beforehand and booted in no time, bounds what any schedule can save.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from proxy.advisor.breakeven import SECONDS_AN_HOUR, Offer
from proxy.advisor.demand import DAY_HOURS, Demand

EPOCH_WEEKDAY = 3
"""The first of January 1970 was a Thursday; weekdays are counted from Monday, 0."""
WEEKEND = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How many replicas at which hour of the day; one row, or one for weekdays and one for weekends (UTC)."""

    replicas: NDArray[np.int64]
    usd_per_hour: float
    boot_usd_per_hour: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """What `offer` comes to for a demand, for each number of replicas from 0 to `most`.

    `spilled[k, h]` is the work of hour h that k replicas leave over, in work-seconds; `hours[h]` how much of the hour
    was watched, in hours; `day[h]` the day it is of. `usd_per_work_s` is v. `least` is the number of replicas below
    which captive work would not be served in time.
    """

    offer: Offer
    usd_per_work_s: float
    spilled: NDArray[np.float64]
    hours: NDArray[np.float64]
    day: NDArray[np.int64]
    hour_of_day: NDArray[np.int64]
    weekend: NDArray[np.bool_] | None
    least: int = 0

    @property
    def most(self) -> int:
        """The largest number of replicas that was looked at."""
        return len(self.spilled) - 1

    @property
    def bills(self) -> NDArray[np.float64]:
        """The bill of each hour, in dollars, for each number of replicas."""
        replicas = np.arange(len(self.spilled))[:, None]
        bills: NDArray[np.float64] = replicas * self.offer.usd_per_hour * self.hours
        return bills + self.usd_per_work_s * self.spilled

    @property
    def usd_per_hour(self) -> NDArray[np.float64]:
        """The mean bill of an hour for each number of replicas."""
        mean: NDArray[np.float64] = self.bills.sum(axis=1) / self.hours.sum()
        return mean

    @property
    def spill_share(self) -> NDArray[np.float64]:
        """The share of the work that spills, for each number of replicas."""
        share: NDArray[np.float64] = self.spilled.sum(axis=1) / max(1e-12, self.spilled[0].sum())
        return share

    @property
    def use(self) -> NDArray[np.float64]:
        """u_k of the first, the second, ... replica: the share of its capacity that is used."""
        served = -np.diff(self.spilled.sum(axis=1))
        room = self.offer.capacity * self.hours.sum() * SECONDS_AN_HOUR
        return served / room if room else np.zeros_like(served)

    @property
    def use_by_hour(self) -> NDArray[np.float64]:
        """The same for each hour that was watched."""
        room = np.maximum(1e-12, self.offer.capacity * self.hours * SECONDS_AN_HOUR)
        use: NDArray[np.float64] = -np.diff(self.spilled, axis=0) / room
        return use

    @property
    def best(self) -> int:
        """The number of replicas with the smallest bill, of those that serve what is captive."""
        return self.least + int(self.usd_per_hour[self.least :].argmin())

    @property
    def clairvoyant_usd_per_hour(self) -> float:
        """The mean bill if each hour had the number that was best for it."""
        return float(self.bills[self.least :].min(axis=0).sum() / self.hours.sum())


def size(demand: Demand, offer: Offer, usd_per_work_s: float, *, most: int, least: int = 0) -> Sizing:
    """The bills of up to `most` replicas of `offer`; demand is turned into work on its engine."""
    there = demand.on(offer.profile)
    watched = there.seconds / SECONDS_AN_HOUR
    work = there.work_s(offer.profile).sum(axis=1)
    spilled = np.stack([work, *(there.excess(k * offer.capacity) for k in range(1, most + 1))])
    begin = np.arange(len(watched)) + (0 if demand.began_at_s is None else int(demand.began_at_s // SECONDS_AN_HOUR))
    weekday = (begin // DAY_HOURS + EPOCH_WEEKDAY) % 7
    return Sizing(
        offer=offer,
        usd_per_work_s=usd_per_work_s,
        spilled=np.minimum.accumulate(spilled, axis=0),
        hours=watched,
        day=demand.days,
        hour_of_day=begin % DAY_HOURS,
        weekend=None if demand.began_at_s is None else weekday >= WEEKEND,
        least=min(least, most),
    )


def scheduled(sizing: Sizing) -> Schedule:
    """The best number for each class of hours in hindsight, and what it costs with the time that replicas boot."""
    kind = np.zeros_like(sizing.hour_of_day) if sizing.weekend is None else sizing.weekend.astype(np.int64)
    rows = int(kind.max()) + 1
    bills = np.zeros((len(sizing.spilled), rows, DAY_HOURS))
    for replicas, row in enumerate(sizing.bills):
        np.add.at(bills[replicas], (kind, sizing.hour_of_day), row)
    planned = sizing.least + bills[sizing.least :].argmin(axis=0)
    running = planned[kind, sizing.hour_of_day]
    started = np.clip(np.diff(running, prepend=running[0]), 0, None).sum()
    boot_usd = float(started) * sizing.offer.boot_s / SECONDS_AN_HOUR * sizing.offer.usd_per_hour
    serving = float(sizing.bills[running, np.arange(len(running))].sum())
    hours = float(sizing.hours.sum())
    return Schedule(replicas=planned, usd_per_hour=(serving + boot_usd) / hours, boot_usd_per_hour=boot_usd / hours)
