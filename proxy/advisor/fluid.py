"""The fluid that a trace is to someone who knows the future: work that may be poured anywhere into its window.

Theory of operation
-------------------
Time is cut into bins. A request that is kept on dedicated GPUs needs its prefill work somewhere between its arrival
and the TTFT objective, and its decode work between its arrival and the end of the slowest answer within the pace
objective. One replica does `capacity_s` seconds of work in a bin, and work flows freely among bins and replicas; a
request may also be kept in part. Whatever a real engine does is such a flow too, so that the cheapest flow costs no
more than any policy.

Charge a rate for each second of work in each bin. Then each request is on its own: it costs the lower of its shared
price and its work in the cheapest bins of its windows, and by Lagrange

    sum of min(price, prefill * min rate in window + decode * min rate in window)  -  replicas * capacity * sum of rates

is below the cheapest flow, for *any* rates >= 0, and equal to it for the best ones.

The minimum over a window comes from a pyramid of minima over 1, 2, 4, 8 ... bins: two overlapping blocks of the largest
size that fits cover any window. `Cover` names these two, as indices into the flattened pyramid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cover:
    """The two blocks that cover each request's window; the same one twice where one is enough."""

    left: Indices
    right: Indices


@dataclass(frozen=True, slots=True, kw_only=True)
class Fluid:
    """A trace as work in windows of bins.

    `price` is what each request costs in the shared lane, infinite where it may not go there; `prefill_s` and
    `decode_s` are its work. The pyramid has `levels` rows of `bins` blocks. `capacity_s` is the work of one replica in
    one bin.
    """

    price: Floats
    prefill_s: Floats
    decode_s: Floats
    prefill: Cover
    decode: Cover
    bins: int
    levels: int
    capacity_s: float

    def __len__(self) -> int:
        return len(self.price)

    @property
    def typical_rate(self) -> float:
        """The shared price of a second of work, over all requests that have both: the scale of all rates."""
        priced = np.isfinite(self.price)
        price, work = self.price[priced].sum(), (self.prefill_s + self.decode_s)[priced].sum()
        return float(price / work) if price > 0 and work > 0 else 1.0

    def cheapest(self, rates: Floats) -> tuple[Floats, Floats]:
        """The lowest rate in each request's prefill window, and in its decode window."""
        lowest = _pyramid(rates, self.levels).ravel()
        return (
            np.minimum(lowest[self.prefill.left], lowest[self.prefill.right]),
            np.minimum(lowest[self.decode.left], lowest[self.decode.right]),
        )

    def bound(self, rates: Floats, replicas: int) -> float:
        """What the shared lane is paid at least beside so many replicas, by `rates` (>= 0) per second of work."""
        prefill_rate, decode_rate = self.cheapest(rates)
        paid = np.minimum(self.price, self.prefill_s * prefill_rate + self.decode_s * decode_rate)
        return float(paid.sum() - replicas * self.worth(rates))

    def worth(self, rates: Floats) -> float:
        """What a replica is worth at these rates over the whole trace: as much at most does one more save."""
        return self.capacity_s * float(rates.sum())


def pour(
    *,
    price: Floats,
    prefill_s: Floats,
    decode_s: Floats,
    arrival_s: Floats,
    prefill_by_s: Floats,
    decode_by_s: Floats,
    bin_s: float,
    capacity: float,
) -> Fluid:
    """The fluid of requests whose work may begin at `arrival_s` and has to be done by the times given, all finite.

    `capacity` is the work that a replica does in a second. Windows are widened to whole bins, never narrowed: what is
    feasible stays so.
    """
    begin = np.floor(arrival_s / bin_s).astype(np.int64)
    ends = [np.maximum(np.ceil(by_s / bin_s).astype(np.int64) - 1, begin) for by_s in (prefill_by_s, decode_by_s)]
    bins = max((int(end.max()) for end in ends if len(end)), default=0) + 1
    prefill, decode = (_cover(begin, end, bins) for end in ends)
    widest = max((int((end - begin).max()) for end in ends if len(end)), default=0) + 1
    return Fluid(
        price=price,
        prefill_s=prefill_s,
        decode_s=decode_s,
        prefill=prefill,
        decode=decode,
        bins=bins,
        levels=widest.bit_length(),
        capacity_s=capacity * bin_s,
    )


def _cover(begin: Indices, end: Indices, bins: int) -> Cover:
    """`begin` and `end` are the first and the last bin of each window."""
    exponent = np.frexp(end - begin + 1.0)[1] - 1  # of the largest power of two that fits
    row = exponent.astype(np.int64) * bins
    return Cover(left=row + begin, right=row + end + 1 - np.left_shift(1, exponent))


def _pyramid(rates: Floats, levels: int) -> Floats:
    """Row j holds the minima over 2^j bins from each bin on; infinite where those would reach past the end."""
    rows = np.full((levels, len(rates)), np.inf)
    rows[0] = rates
    for level in range(1, levels):
        half = 1 << (level - 1)
        count = len(rates) - 2 * half + 1
        np.minimum(rows[level - 1, :count], rows[level - 1, half : half + count], out=rows[level, :count])
    return rows
