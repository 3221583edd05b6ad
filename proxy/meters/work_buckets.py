"""The buckets by which bins of work are counted: finer than any GPU, coarse enough to keep for a year.

Theory of operation
-------------------
A bin's demand is its engine time divided by its length: how many engines would be busy if they had nothing to do but
work. What is kept of an hour is how many of its bins lay in which bucket; buckets grow by a constant factor, 4.4 %,
from a thousandth of an engine to a thousand engines. The first one begins at nothing. `lua/demand.lua` counts alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import floor, log2

PER_OCTAVE = 16
LEAST = 2.0**-10
OCTAVES = 20
LAST = PER_OCTAVE * OCTAVES
"""The number of the last bucket, which also holds all beyond it."""


def bucket_of(work_us: int, bin_ms: int) -> int:
    """The bucket of a bin with so much engine time."""
    demand = work_us / (bin_ms * 1000)
    return 0 if demand < LEAST else min(floor(PER_OCTAVE * log2(demand / LEAST)) + 1, LAST)


def counts_of(bins: Iterable[int], bin_ms: int) -> list[int]:
    """How many of the bins with work lie in each bucket, up to the last that has any."""
    counts: list[int] = []
    for work_us in bins:
        if work_us:
            bucket = bucket_of(work_us, bin_ms)
            counts += [0] * (bucket + 1 - len(counts))
            counts[bucket] += 1
    return counts
