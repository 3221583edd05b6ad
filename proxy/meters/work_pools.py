"""Whose work a request is: the GPUs that would serve it, the length of their bins, and what the tokens cost elsewhere.

Theory of operation
-------------------
Requests that the same GPUs may serve are one *pool*: named by the first dedicated target that the policy's gates let
them reach, since models share engines (an adapter and its base, say); where they may reach none, by the public model
that was asked for, because that is what a first GPU would be bought for.

Work is metered in bins as long as the slack of the first token's objective carries a burst: one and a half times the
tightest one of the routes that can match the pool's models, three seconds where none has one. Bins divide the hour, so
that all proxies cut it alike. All of this follows from the policy, and is worked out once for each kind of request.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable
from typing import NamedTuple

from proxy.policy.engine_profile import ASSUMED, EngineProfile
from proxy.policy.model import Price, Route, Snapshot
from proxy.routing.cost import cost_nano_usd
from proxy.routing.facts import Facts
from proxy.routing.outcome import Usage
from proxy.routing.plan import Refusal
from proxy.routing.table import Lawful

MS_PER_HOUR = 3_600_000
DEFAULT_BIN_MS = 3000
BIN_OF_OBJECTIVE = 1.5
"""How long a bin is, relative to the objective of the first token: bursts of that length are carried by its slack."""
BINS_MS = tuple(ms for ms in range(500, 60_001, 50) if MS_PER_HOUR % ms == 0)
"""The lengths that bins may have."""


class Pool(NamedTuple):
    """The GPUs of `target`, by name; or, where the policy has none for them, all who ask for `model`."""

    target: str = ""
    model: str = ""


class Kind(NamedTuple):
    """What all requests of one kind have in common.

    `prices` are those of the shared targets that they may reach, and `captive` says that there is no such target.
    """

    pool: Pool
    bin_ms: int
    profile: EngineProfile
    prices: tuple[Price, ...]
    captive: bool

    def shared_nano_usd(self, usage: Usage) -> int | None:
        """What the tokens cost on the cheapest shared target that the request may reach; None where nobody knows."""
        prices = self.prices
        if len(prices) == 1:
            return cost_nano_usd(prices[0], usage)
        return min((cost_nano_usd(price, usage) for price in prices), default=None)


class Pools:
    """The kinds of request that `snapshot` knows. `lawful` is what its router answers to `lawful_set`."""

    def __init__(self, snapshot: Snapshot, lawful: Callable[[Facts], Lawful | Refusal]) -> None:
        self._snapshot, self._lawful = snapshot, lawful
        self._kinds: dict[Hashable, Kind] = {}

    def of(self, facts: Facts, route: str) -> Kind | None:
        """The kind of a request that was decided on by `route`; None if the policy does not know it any more."""
        key = (facts.model, route, facts.endpoint, facts.lane_override, facts.target_override)
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._of(facts)
            if kind is not None:  # or callers could fill the memory with names of targets that there are not
                self._kinds[key] = kind
        return kind

    def _of(self, facts: Facts) -> Kind | None:
        lawful = self._lawful(facts)
        if isinstance(lawful, Refusal):
            return None
        first = next((entry.target for entry in lawful.entries if entry.dedicated), None)
        shared = [entry.target for entry in lawful.entries if not entry.dedicated]
        pool = Pool(model=facts.model) if first is None else Pool(target=first.name)
        models = {facts.model} if first is None else _models_of(self._snapshot, first.name)
        return Kind(
            pool=pool,
            bin_ms=bin_ms(route for route in self._snapshot.routes if _may_match(route, models)),
            profile=(None if first is None else first.profile) or ASSUMED,
            prices=_undominated([target.price for target in shared if target.price is not None]),
            captive=not shared,
        )


def bin_ms(routes: Iterable[Route]) -> int:
    """The length of the bins for requests that any of `routes` may match."""
    objectives = [one for route in routes for rules in (route.require, route.want) for one in rules.objectives]
    tightest_s = min((one.limit_s for one in objectives if one.field.startswith("ttft")), default=None)
    if tightest_s is None:
        return DEFAULT_BIN_MS
    return BINS_MS[max(0, bisect_right(BINS_MS, round(tightest_s * 1000 * BIN_OF_OBJECTIVE)) - 1)]


def _models_of(snapshot: Snapshot, target: str) -> set[str]:
    return {
        model for model, candidates in snapshot.models.items() if any(one.target.name == target for one in candidates)
    }


def _may_match(route: Route, models: set[str]) -> bool:
    return route.match.models is None or not route.match.models.isdisjoint(models)


def _undominated(prices: list[Price]) -> tuple[Price, ...]:
    """Without those whose plain tokens cost no less than another's; usually one is left, and nothing to compare."""
    kept: list[Price] = []
    for price in sorted(prices, key=_plain):
        if not any(one.output_nano_usd_per_mtok <= price.output_nano_usd_per_mtok for one in kept):
            kept.append(price)
    return tuple(kept)


def _plain(price: Price) -> tuple[int, int]:
    return price.input_nano_usd_per_mtok, price.output_nano_usd_per_mtok
