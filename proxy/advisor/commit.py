"""Whether to commit to a replica for a term: the ski rental problem, with the past as the only guide.

Theory of operation
-------------------
A commitment costs its discounted price for every hour of its term, used or not. Without one, each hour costs whatever
is less: the replica on demand, or the tokens that it would have served. Nobody knows how long the demand will last, so
the rule is that of the ski rental: commit once what was paid without it has come to the fee of the term. That costs at
most twice what somebody who knew the future would have paid, and no rule without a forecast does better (Karlin et al.
1988; for reserved instances, Wang, Li and Liang, arXiv 1305.5608).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np

from proxy.advisor.breakeven import HOURS_A_MONTH, SECONDS_AN_HOUR
from proxy.advisor.sizing import Sizing


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """A commitment: so much less than on demand, for so many months."""

    discount: float = 0.3
    months: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Commitment:
    """What committing to the `replica`-th replica comes to.

    `fee_usd` is the whole term's. `flexible_usd_per_hour` is what is paid without it, hour by hour whatever is less,
    and `paid_usd` that over the time that was watched. `worth` says that it would be worth its fee if everything went
    on as it was; `due` that the rule says so now. `due_after_hours` is how long demand like this has to be watched.
    """

    replica: int
    fee_usd: float
    committed_usd_per_hour: float
    flexible_usd_per_hour: float
    paid_usd: float
    worth: bool
    due: bool
    due_after_hours: float


def commitment(sizing: Sizing, replica: int, terms: Terms) -> Commitment:
    """Of the `replica`-th replica, counted from 1."""
    on_demand = sizing.offer.usd_per_hour
    hourly = (1 - terms.discount) * on_demand
    fee = hourly * terms.months * HOURS_A_MONTH
    use = sizing.use_by_hour[replica - 1]
    tokens = sizing.usd_per_work_s * use * sizing.offer.capacity * SECONDS_AN_HOUR
    # What captive work needs is rented for every hour, if it is not committed to.
    rent = np.full_like(tokens, on_demand) if replica <= sizing.least else np.minimum(tokens, on_demand)
    paid = float((rent * sizing.hours).sum())
    flexible = paid / float(sizing.hours.sum())
    return Commitment(
        replica=replica,
        fee_usd=fee,
        committed_usd_per_hour=hourly,
        flexible_usd_per_hour=flexible,
        paid_usd=paid,
        worth=flexible > hourly,
        due=paid >= fee,
        due_after_hours=fee / flexible if flexible > 0 else inf,
    )
