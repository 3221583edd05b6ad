"""The least that a replayed trace could have cost under a policy's own terms: its prices, objectives and engine.

Theory of operation
-------------------
Each request is priced at the cheapest shared target that its model names, whatever the rules would allow, and a replica
at the lowest price that the policy has for one: whoever pays less than the bound made of these has broken a law of
arithmetic, not a rule. Objectives are those of the route that each request took in a replay. With several dedicated
targets there are several engines, and no bound for one of them is one for all; then there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proxy.advisor.bound import BoundTerms, lower_bound
from proxy.advisor.engine_work import most_hits
from proxy.advisor.fluid import Floats
from proxy.advisor.replayed import Replayed
from proxy.advisor.trace import App, Trace
from proxy.policy.engine_profile import ASSUMED
from proxy.policy.gpus import Gpus
from proxy.policy.model import Lane, Snapshot, Target

TOKENS_PER_MTOK = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Least:
    """What nobody can undercut: `nano_usd` in all, with `replicas`; `all_shared_nano_usd` is the price without any."""

    nano_usd: float
    replicas: int
    all_shared_nano_usd: float


def least_of(run: Replayed, snapshot: Snapshot) -> Least | None:
    """The bound for the trace of `run`, with the objectives that it had; None where there is none to be had."""
    engines = [target for target in snapshot.targets.values() if target.lane is Lane.DEDICATED]
    if len(engines) != 1 or engines[0].gpus is None or not lowest_nano_usd_per_hour(engines[0].gpus):
        return None
    price = shared_nano_usd(run.trace, snapshot)
    terms = BoundTerms(
        profile=engines[0].profile or ASSUMED,
        replica_nano_usd_per_hour=lowest_nano_usd_per_hour(engines[0].gpus),
        ttft_s=run.ttft_objective_s.astype(np.float64),
        pace_s=run.pace_objective_s.astype(np.float64),
    )
    found = lower_bound(run.trace, price, terms, hit_tokens=most_hits(run.trace, terms.ttft_s))
    return Least(nano_usd=found.nano_usd, replicas=found.replicas, all_shared_nano_usd=found.all_shared_nano_usd)


def lowest_nano_usd_per_hour(gpus: Gpus) -> int:
    """The least that the policy ever asks for an hour of one replica."""
    tranches = [tranche.nano_usd_per_hour for tranche in (gpus.reserved, gpus.spot) if tranche is not None]
    timed = [one.nano_usd_per_hour for one in gpus.schedule]
    return gpus.count * min([gpus.nano_usd_per_hour, *tranches, *timed])


def shared_nano_usd(trace: Trace, snapshot: Snapshot) -> Floats:
    """What each request costs at the cheapest shared target of its model; infinite where there is none."""
    rates = np.array([_rates(app, snapshot) for app in trace.apps])[trace.app]
    price: Floats = trace.input_tokens * rates[:, 0] + trace.output_tokens * rates[:, 1]
    return price


def _rates(app: App, snapshot: Snapshot) -> tuple[float, float]:
    """Nano-USD for a token of input and of output, each the lowest."""
    model = app.model if app.model in snapshot.models else next(iter(snapshot.models))
    priced = [one.target.price for one in snapshot.models[model] if _is_shared(one.target)]
    known = [price for price in priced if price is not None]
    if len(known) < len(priced):
        return 0.0, 0.0  # what has no price is charged nothing
    return (
        min((price.input_nano_usd_per_mtok for price in known), default=np.inf) / TOKENS_PER_MTOK,
        min((price.output_nano_usd_per_mtok for price in known), default=np.inf) / TOKENS_PER_MTOK,
    )


def _is_shared(target: Target) -> bool:
    return target.lane is Lane.SHARED
