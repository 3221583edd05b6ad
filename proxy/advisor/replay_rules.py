"""Which rules of others a policy is held against, each with the settings that its users would try.

Theory of operation
-------------------
A rule that goes by a number is as good as the number, so each is replayed with several, and told of with the one that
suited this very trace best: nobody who has to choose beforehand does better by that rule.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from proxy.advisor.baselines import DEDICATED, Baseline, aimd, in_flight, queue, weight
from proxy.advisor.figures import Figures
from proxy.advisor.replay_report import best
from proxy.policy.model import Snapshot
from proxy.routing.predict import DEFAULT_TTFT_S, aims

IN_FLIGHT = (8, 16, 32, 64, 128)
WAITING = (2, 4, 6, 10)
SHARES = (0.3, 0.5, 0.7, 0.9)
DECREASE = 0.9


def rules_of(snapshot: Snapshot) -> dict[str, Baseline]:
    """Every rule with every setting, by name."""
    rules = (
        DEDICATED,
        *map(in_flight, IN_FLIGHT),
        *map(queue, WAITING),
        *map(weight, SHARES),
        aimd(DECREASE, tightest_ttft_s(snapshot)),
    )
    return {rule.name: rule for rule in rules}


def tightest_ttft_s(snapshot: Snapshot) -> float:
    """The tightest objective for the first token that any route has, or a usual one."""
    stated = [aims(route.require, route.want).ttft_s for route in snapshot.routes]
    return min((ttft_s for ttft_s in stated if np.isfinite(ttft_s)), default=DEFAULT_TTFT_S)


def best_of_each(runs: Sequence[Figures]) -> tuple[Figures, ...]:
    """The best run of each rule, whatever its setting and its replicas."""
    kinds: dict[str, list[Figures]] = {}
    for run in runs:
        kinds.setdefault(kind_of(run.policy), []).append(run)
    return tuple(best(tuple(some)) for some in kinds.values())


def kind_of(name: str) -> str:
    """`in flight` of `in flight 32`."""
    return name.rstrip("0123456789.% ")
