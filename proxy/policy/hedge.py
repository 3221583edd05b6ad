"""When a route sends a copy of a request that is slow to begin to another of its targets."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Quantile(StrEnum):
    """A share of the first tokens that come within a time: `p95` is 95 % of them."""

    P50 = "p50"
    P90 = "p90"
    P95 = "p95"
    P99 = "p99"

    @property
    def share(self) -> float:
        """`p95` -> 0.95."""
        return int(self.value[1:]) / 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Hedge:
    """A copy goes out once the first attempt has no token by the quantile `after` of its predicted TTFT.

    `budget_share` is how many of the route's requests may have one at most, as a share of them.
    """

    after: Quantile = Quantile.P95
    budget_share: float = 0.05
