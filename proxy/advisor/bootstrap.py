"""How sure a saving is: the days that were metered, drawn again with replacement.

Theory of operation
-------------------
Hours of one day resemble each other too much to count as so many observations, so whole days are resampled (a block
bootstrap: Künsch 1989). Each round draws as many days as there were, and works out the bill for every number of
replicas on the same draw, so that differences between them are as certain as they really are. With fewer than three
days there is nothing to resample but hours. These say how the day varied in itself, and nothing of other days.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from proxy.advisor.demand import DAY_HOURS
from proxy.advisor.sizing import Sizing

ROUNDS = 10_000
LEAST_DAYS = 3
LEAST_HOURS = 6
"""With fewer of either there is nothing to draw from."""
LEVELS = (5.0, 50.0, 95.0)
"""The percentiles that are told."""


class Block(StrEnum):
    """What was resampled."""

    DAY = "day"
    HOUR = "hour"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certainty:
    """What can be said of each number of replicas, from `blocks` blocks.

    `bill[k]` are the 5th, 50th and 95th percentile of the bill of an hour with k replicas, in dollars, and `saving[k]`
    those of what they save against the least number that there can be. `positive[k]` is the probability that it is
    above 0, `adds[k]` that k cost less than k - 1, and `best[k]` that no number costs less. `trend[k]` is 1 where k
    cost less than k - 1 in both halves of the blocks, -1 where they cost more in both, and 0 where these do not agree.
    """

    block: Block
    blocks: int
    bill: NDArray[np.float64]
    saving: NDArray[np.float64]
    positive: NDArray[np.float64]
    adds: NDArray[np.float64]
    best: NDArray[np.float64]
    trend: NDArray[np.int64]


def resampled(sizing: Sizing, draws: np.random.Generator) -> Certainty:
    """The certainty of each bill of `sizing`."""
    block, place = _blocks(sizing)
    count = int(place.max()) + 1
    bills: NDArray[np.float64] = np.stack([np.bincount(place, weights=row, minlength=count) for row in sizing.bills])
    hours = np.bincount(place, weights=sizing.hours, minlength=count)
    times = draws.multinomial(count, np.full(count, 1 / count), size=ROUNDS)
    drawn = (times @ bills.T) / np.maximum(1e-12, times @ hours)[:, None]
    saving = drawn[:, [sizing.least]] - drawn
    adds = np.concatenate(([1.0], (drawn[:, 1:] < drawn[:, :-1]).mean(axis=0)))
    candidates = drawn[:, sizing.least :].argmin(axis=1) + sizing.least
    return Certainty(
        block=block,
        blocks=count,
        bill=np.percentile(drawn, LEVELS, axis=0).T,
        saving=np.percentile(saving, LEVELS, axis=0).T,
        positive=(saving > 0).mean(axis=0),
        adds=adds,
        best=np.bincount(candidates, minlength=len(bills)) / ROUNDS,
        trend=_trend(bills),
    )


def probability_less(one: Sizing, replicas: int, other: Sizing, others: int, draws: np.random.Generator) -> float:
    """How likely `replicas` of `one` cost less than `others` of `other`, on the same days."""
    _, place = _blocks(one)
    difference = np.bincount(place, weights=one.bills[replicas] - other.bills[others])
    count = len(difference)
    times = draws.multinomial(count, np.full(count, 1 / count), size=ROUNDS)
    return float((times @ difference < 0).mean())


def _blocks(sizing: Sizing) -> tuple[Block, NDArray[np.int64]]:
    """What is resampled, and the block of each hour."""
    _, day = np.unique(sizing.day, return_inverse=True)
    if day.max() + 1 >= LEAST_DAYS and sizing.hours.sum() > (LEAST_DAYS - 1) * DAY_HOURS:
        return Block.DAY, day
    hours = len(sizing.hours)
    if hours >= LEAST_HOURS:
        return Block.HOUR, np.arange(hours)
    return Block.NOTHING, np.zeros(hours, np.int64)


def _trend(bills: NDArray[np.float64]) -> NDArray[np.int64]:
    middle = (bills.shape[1] + 1) // 2
    halves = [half.sum(axis=1) for half in (bills[:, :middle], bills[:, middle:]) if half.shape[1]]
    signs = np.stack([np.sign(-np.diff(half)) for half in halves])
    agreed = np.where((signs == signs[0]).all(axis=0), signs[0], 0.0)
    return np.concatenate(([1], agreed.astype(np.int64)))
