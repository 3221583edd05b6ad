"""The rates that make the bound tight, by ascent: for a day of traffic, in seconds.

Theory of operation
-------------------
The bound (`fluid`) is concave in its rates but has a kink wherever two bins are equally cheap, which near the optimum
is everywhere: plain supergradients zigzag. Instead every minimum of two, in the pyramid and in the choice between
lanes, is softened to the mean of exponentials

    soft(x, y) = -width log((exp(-x / width) + exp(-y / width)) / 2)

whose gradient flows back through the pyramid like water down a cascade, and L-BFGS climbs that with a width that
shrinks from stage to stage. The softening only steers: what is reported is the bound itself at the rates found. The
weights of the softened choice of lanes come out as the shares of the requests that are kept on dedicated GPUs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proxy.advisor.fluid import Cover, Floats, Fluid
from proxy.advisor.projected_lbfgs import dot, minimum

WIDTHS = (0.1, 0.03, 0.01, 0.003, 0.001)
"""Of the softening, stage by stage, in what rates are typically: first by the prices, then by the rates found."""
STEPS = 60
_STEEPEST = 0.1
"""What rates are typically falls by no more from stage to stage: they may come up again."""
_LEAST_WORK_S = 1e-9
"""A request without work is free: this keeps the price of its second finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ascent:
    """The best `rates` found, and the share of each request that they would keep on dedicated GPUs."""

    rates: Floats
    kept: Floats


def ascend(fluid: Fluid, replicas: int, start: Floats | None = None) -> Ascent:
    """Rates that make `fluid.bound` about as high as it gets for so many replicas, from `start` where given."""
    unit = fluid.typical_rate
    rates = np.full(fluid.bins, unit / 2) if start is None else start
    best, best_bound = np.zeros(fluid.bins), 0.0
    for width in WIDTHS:
        softened = _Softened(fluid, replicas, unit, width)
        rates = minimum(softened, rates / unit, STEPS) * unit
        if (bound := fluid.bound(rates, replicas)) > best_bound:
            best, best_bound = rates, bound
        unit = min(unit, max(_level(rates), unit * _STEEPEST))
    return Ascent(rates=best, kept=softened.kept(best / softened.unit))


def _level(rates: Floats) -> float:
    """How high rates are where there are any: where prices differ, far below the price of most work."""
    return dot(rates, rates) / float(rates.sum()) if rates.any() else 0.0


class _Softened:
    """The bound with soft minima, negated, and its gradient. Rates are in `unit`, and so is `width`."""

    def __init__(self, fluid: Fluid, replicas: int, unit: float, width: float) -> None:
        self.unit = unit
        self._fluid = fluid
        self._width = width
        self._work = np.maximum(fluid.prefill_s + fluid.decode_s, _LEAST_WORK_S)
        self._density = fluid.price / unit / self._work
        self._capacity_s = replicas * fluid.capacity_s
        self._scale = 1 / max(
            self._work.sum(), _LEAST_WORK_S
        )  # so that the optimiser's tolerances mean the same for any trace

    def __call__(self, rates: Floats) -> tuple[float, Floats]:
        fluid = self._fluid
        rows, weights = self._pyramid(rates)
        lowest = rows.ravel()
        prefill_rate, prefill_left = self._in_window(lowest, fluid.prefill)
        decode_rate, decode_left = self._in_window(lowest, fluid.decode)
        cost = (fluid.prefill_s * prefill_rate + fluid.decode_s * decode_rate) / self._work
        paid, kept = _soft_min(cost, self._density, self._width)
        flow = np.zeros(lowest.size)
        for cover, work, left in (
            (fluid.prefill, fluid.prefill_s * kept, prefill_left),
            (fluid.decode, fluid.decode_s * kept, decode_left),
        ):
            flow += np.bincount(cover.left, weights=work * left, minlength=lowest.size)
            flow += np.bincount(cover.right, weights=work * (1 - left), minlength=lowest.size)
        value = dot(self._work, paid) - self._capacity_s * float(rates.sum())
        gradient = _cascade(flow.reshape(rows.shape), weights) - self._capacity_s
        return -value * self._scale, -gradient * self._scale

    def kept(self, rates: Floats) -> Floats:
        """The share of each request that is kept at these rates."""
        prefill_rate, decode_rate = self._fluid.cheapest(rates)
        cost = (self._fluid.prefill_s * prefill_rate + self._fluid.decode_s * decode_rate) / self._work
        return _soft_min(cost, self._density, self._width)[1]

    def _in_window(self, lowest: Floats, cover: Cover) -> tuple[Floats, Floats]:
        return _soft_min(lowest[cover.left], lowest[cover.right], self._width)

    def _pyramid(self, rates: Floats) -> tuple[Floats, list[Floats]]:
        """The pyramid of soft minima, and in each of its upper rows the weight of the left half."""
        rows = np.full((self._fluid.levels, len(rates)), np.inf)
        rows[0] = rates
        weights: list[Floats] = []
        for level in range(1, len(rows)):
            half = 1 << (level - 1)
            count = len(rates) - 2 * half + 1
            below = rows[level - 1]
            rows[level, :count], left = _soft_min(below[:count], below[half : half + count], self._width)
            weights.append(left)
        return rows, weights


def _soft_min(x: Floats, y: Floats, width: float) -> tuple[Floats, Floats]:
    """The soft minimum of two, and its derivative by `x`, which is also the weight of `x` in it."""
    difference = y - x
    ratio = np.exp(-np.abs(difference) / width)
    lower = 1 / (1 + ratio)
    value = np.minimum(x, y) - width * (np.log1p(ratio) - np.log(2))
    return value, np.where(difference >= 0, lower, 1 - lower)


def _cascade(flow: Floats, weights: list[Floats]) -> Floats:
    """The work in each bin, from that in each block: row by row it falls to the halves, by their weights."""
    for level in range(len(flow) - 1, 0, -1):
        half = 1 << (level - 1)
        left = weights[level - 1]
        count = len(left)
        falls = flow[level, :count]
        flow[level - 1, :count] += falls * left
        flow[level - 1, half : half + count] += falls * (1 - left)
    work: Floats = flow[0]
    return work
