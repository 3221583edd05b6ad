"""What a race has shown: clients' answers held against the upstream's truth, in nano-USD."""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from tests.faults.crowd import prompt
from tests.faults.field import INPUT_USD, NANO, OUTPUT_USD, Asked

NEARLY_ALL = 0.99
"""Once so much of the limit is bound to be spent, a refusal is not early any more."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came of it. `unseen` is the price of what was sent and reached no client: of streams that were cut."""

    ends: Mapping[str, int]
    admitted: int
    early: int
    limit: int
    spent: int
    unseen: int
    ttft_p50_s: float
    ttft_p99_s: float
    last_begun_at: float

    @property
    def overspent(self) -> int:
        return max(0, self.spent - self.limit)

    def __str__(self) -> str:
        return (
            f"spent ${self.spent / NANO:.4f} of ${self.limit / NANO:.2f}, over by ${self.overspent / NANO:.4f}, unseen"
            f" ${self.unseen / NANO:.4f}; {self.admitted} admitted, {self.early} refused early"
            f" ({self.early / max(1, self.admitted):.2%}); {dict(self.ends)};"
            f" ttft p50 {self.ttft_p50_s * 1000:.0f} ms, p99 {self.ttft_p99_s * 1000:.0f} ms"
        )


def verdict(asked: Sequence[Asked], truth: Mapping[str, Sequence[int]], limit: int) -> Verdict:
    """Judge one race. A refusal was early if all that had begun by then, and it too, was within budget in the end."""
    served = [one for one in asked if one.status == 200]
    begun = sorted((one.begun_at, truth[one.name][2] if one.name in truth else 0) for one in served)
    times, committed = [at for at, _ in begun], [0, *accumulate(cost for _, cost in begun)]
    early = 0
    for one in asked:
        if one.status == 429 and one.end.startswith("budget"):
            bound = committed[bisect(times, one.ended_at)]
            early += bound + _price(one) <= limit and bound <= NEARLY_ALL * limit
    waits = sorted(one.first_at - one.begun_at for one in served if one.first_at) or [0.0]
    got = {one.name: one.got for one in asked}
    return Verdict(
        ends=Counter(one.end for one in asked),
        admitted=len(served),
        early=early,
        limit=limit,
        spent=sum(row[2] for row in truth.values()),
        unseen=sum((row[1] - got.get(name, 0)) * OUTPUT_USD * 1000 for name, row in truth.items()),
        ttft_p50_s=waits[len(waits) // 2],
        ttft_p99_s=waits[len(waits) * 99 // 100],
        last_begun_at=begun[-1][0] if begun else 0.0,
    )


def _price(one: Asked) -> int:
    tokens_in = len(prompt(one.planned, one.manner)) // 4
    return (one.planned * OUTPUT_USD + tokens_in * INPUT_USD) * 1000
