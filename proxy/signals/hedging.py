"""When a copy of a slow request is due, and whether there may be one: what hedged routes have seen of first tokens.

Theory of operation
-------------------
A copy that is sent once a request has waited for longer than most do cuts off the slow tail of the wait for little more
work: after the 95th percentile it is one request in twenty (Dean and Barroso, "The Tail at Scale", CACM 56:2, 2013).

That quantile is of the *predicted* time to the first token, which is another one for a long prompt on a busy replica
than for a short one on an idle replica. What was observed ÷ what was predicted is much the same for both, so the
quantile is taken of that, over the last `SAMPLES` first attempts at a target. Where nothing is predicted, as of a
provider, the prediction is one second for all: its own times are what is left. Until `LEAST_SAMPLES` have told, the
replica's own factor stands in, which is a 90th percentile; and where there is none, nothing is due.

An attempt that its copy outran waited for at least as long as it was given. It counts with that, which is past the
quantile as its whole wait would have been.

How many copies there are is bounded for each route: every streamed request puts the route's share of a token into a
bucket, and a copy takes a whole one. It begins with one and holds at most `MOST_TOKENS`, so that of n requests at most
`share n + 1` are copied.
"""

from __future__ import annotations

from collections import deque

from proxy.policy.hedge import Hedge, Quantile
from proxy.routing.plan import Attempt

SAMPLES = 256
LEAST_SAMPLES = 20
"""Fewer are unknown, as everywhere."""
LEAST_WAIT_S = 0.05
"""Nothing is slow before that."""
MOST_TOKENS = 10.0
UNPREDICTED_S = 1.0


class Hedging:
    """What one process has seen; targets and routes are known by their names, whatever the policy of the day."""

    __slots__ = ("_ratios", "_tokens")

    def __init__(self) -> None:
        self._ratios: dict[str, deque[float]] = {}
        self._tokens: dict[str, float] = {}

    def due_s(self, attempt: Attempt, after: Quantile) -> float | None:
        """How long `attempt` may go without its first token before a copy is due; None where nobody can tell."""
        ratios = self._ratios.get(attempt.target.name, ())
        if len(ratios) >= LEAST_SAMPLES:
            ratio = sorted(ratios)[min(int(len(ratios) * after.share), len(ratios) - 1)]
        elif attempt.estimate is not None:
            ratio = attempt.estimate.ttft_factor
        else:
            return None
        return max(ratio * _predicted_s(attempt), LEAST_WAIT_S)

    def observe(self, attempt: Attempt, waited_s: float) -> None:
        """The first token of a first attempt came after so long, or would have come later still."""
        ratios = self._ratios.get(attempt.target.name)
        if ratios is None:
            ratios = self._ratios[attempt.target.name] = deque(maxlen=SAMPLES)
        ratios.append(waited_s / _predicted_s(attempt))

    def deposit(self, route: str, hedge: Hedge) -> None:
        """A request has come in that may be copied."""
        self._tokens[route] = min(self._tokens.get(route, 1.0) + hedge.budget_share, MOST_TOKENS)

    def affords(self, route: str) -> bool:
        """Whether the route may have one more copy."""
        return self._tokens.get(route, 1.0) >= 1

    def withdraw(self, route: str) -> None:
        """One more copy is sent."""
        self._tokens[route] = self._tokens.get(route, 1.0) - 1


def _predicted_s(attempt: Attempt) -> float:
    return UNPREDICTED_S if attempt.estimate is None else attempt.estimate.ttft_s
