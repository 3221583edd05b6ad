"""The budgets that a request falls under, and whether they still have money for it.

Theory of operation
-------------------
A budget covers a request by its caller, tags, route and model, and an attempt of it by its target too: most count the
dollars of shared targets, so what they leave uncovered, dedicated GPUs above all, stays open when they are used up.
What they have left comes in as `Funds`. A covered target that the request cannot begin on within every one of its
budgets is left out, like one that is full; the lawful set only gets smaller.

Here a request needs what its input and a first step of its output cost. What really has to be set aside is known when
it is (`meters/escrow.py`), which may still refuse: then it is decided again, with that budget empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

import msgspec

from proxy.policy.engine_profile import ASSUMED
from proxy.policy.model import Budget, Enforce, Exhausted, Lane, Modality, Target
from proxy.routing import cost, wording
from proxy.routing.facts import Facts
from proxy.routing.outcome import Usage
from proxy.routing.plan import Exclusion
from proxy.routing.readings import Fund, Funds, LeasedFunds
from proxy.routing.rules import expected_output_tokens, reckoned_tier
from proxy.routing.work import attributed_nano_usd

STEP_TOKENS = 64
"""Output tokens that are set aside at a time, for each choice."""

_FULL = Fund(free_nano_usd=1 << 62)


class BudgetIndex:
    """The budgets of a policy, found by whom they are for: there may be one for each of ten thousand tenants."""

    __slots__ = ("_by_key", "_by_tenant", "_general", "asks_for_tags")

    def __init__(self, budgets: Iterable[Budget]) -> None:
        self._general: tuple[Budget, ...] = ()
        self._by_tenant: dict[str, tuple[Budget, ...]] = {}
        self._by_key: dict[str, tuple[Budget, ...]] = {}
        self.asks_for_tags = False
        for budget in budgets:
            self.asks_for_tags = self.asks_for_tags or bool(budget.tags)
            if budget.tenants is not None:
                _file(self._by_tenant, budget.tenants, budget)
            elif budget.keys is not None:
                _file(self._by_key, budget.keys, budget)
            else:
                self._general += (budget,)

    def __bool__(self) -> bool:
        return bool(self._general or self._by_tenant or self._by_key)

    def covering(self, facts: Facts, route: str) -> tuple[Budget, ...]:
        """The budgets that a request on `route` falls under, whatever its target."""
        found = self._general
        found += self._by_tenant.get(facts.tenant.name, ())
        found += self._by_key.get(facts.key.name, ())
        return tuple([budget for budget in found if _covers_request(budget, facts, route)])


class Standing(msgspec.Struct, frozen=True, gc=False):
    """What the budgets say of a request: which of its targets they leave out, and what that would be in shadow.

    `spent` are the budgets that leave targets out, in the order of the policy; `least` is what the cheapest of these
    targets would have needed, in nano-USD.
    """

    left_out: Mapping[str, Exclusion]
    shadow: tuple[Exclusion, ...]
    spent: tuple[Budget, ...]
    least_nano_usd: int = 0


NOTHING_SPENT = Standing({}, (), ())


def judge(budgets: tuple[Budget, ...], targets: Iterable[Target], facts: Facts, funds: Funds) -> Standing:
    """Ask every budget about beginning the request on each of the targets.

    What it does: compares what the budget has free with what the request needs at least.
    Reads: `Fund.free_nano_usd`, `Target.price`, the request's size.
    When unknown: a target without a price is left out by a hard budget, which cannot count it, and by no other.
    """
    left_out: dict[str, Exclusion] = {}
    shadow: tuple[Exclusion, ...] = ()
    spent: dict[str, Budget] = {}
    needs: list[int] = []
    free_nano_usd = funds.free_nano_usd if isinstance(funds, LeasedFunds) else partial(_free_nano_usd, funds)
    for target in targets:
        paying = [budget for budget in budgets if budget.pays_for(target)]
        need = _need_nano_usd(target, facts) if paying else None
        for budget in paying:
            if need is not None and free_nano_usd(budget.name) >= max(need, 1):
                continue
            exclusion = _unaffordable(budget, target, need, funds)
            if exclusion is None:
                continue
            if budget.enforce is Enforce.SHADOW:
                shadow += (exclusion,)
            elif target.name not in left_out:
                left_out[target.name] = exclusion
                spent[budget.name] = budget
                needs += () if need is None else (need,)
    if not left_out and not shadow:
        return NOTHING_SPENT
    return Standing(left_out, shadow, tuple(spent.values()), min(needs, default=0))


def rejecting(standing: Standing) -> Budget | None:
    """The budget that refuses the request altogether, if one does."""
    return next((budget for budget in standing.spent if budget.exhausted is Exhausted.REJECT), None)


def downgrade(standing: Standing) -> str | None:
    """The public model that a spent budget has the request served as, if one does."""
    return next((one.downgrade for one in standing.spent if one.exhausted is Exhausted.DOWNGRADE), None)


def used_nano_usd(target: Target, usage: Usage) -> int | None:
    """What usage counts for in a budget: shared tokens at their price, or GPU time by work; None when nobody knows."""
    if target.lane is Lane.DEDICATED:
        profile = target.profile or ASSUMED
        return None if target.gpus is None else attributed_nano_usd(target.gpus, usage, profile)
    return None if target.price is None else cost.cost_nano_usd(target.price, usage)


def countable(target: Target) -> bool:
    """Whether anybody knows what usage of the target counts for."""
    return (target.gpus if target.lane is Lane.DEDICATED else target.price) is not None


def dearest(target: Target, facts: Facts, input_tokens: int) -> tuple[int, int] | None:
    """The most that a million tokens of input, and of output, can count for; None where they have no price."""
    if target.lane is Lane.DEDICATED or target.price is None:
        return None
    tier, audio = reckoned_tier(target, facts), Modality.AUDIO in facts.modalities
    return cost.dearest(target.price, tier, input_tokens, audio=audio)


def most_nano_usd(target: Target, facts: Facts, input_tokens: int, output_tokens: int) -> int:
    """The most that so many tokens of the request can count for; 0 when nobody knows."""
    if target.lane is Lane.DEDICATED or target.price is None:
        return used_nano_usd(target, Usage(input_tokens=input_tokens, output_tokens=output_tokens)) or 0
    tier, audio = reckoned_tier(target, facts), Modality.AUDIO in facts.modalities
    return cost.most_nano_usd(target.price, tier, input_tokens, output_tokens, audio=audio)


def name_of(exclusion: Exclusion) -> str | None:
    """The budget that an exclusion speaks of, if it is one by a budget."""
    kind, _, name = exclusion.rule.partition(":")
    return name if kind == "budget" else None


def _file(index: dict[str, tuple[Budget, ...]], names: Iterable[str], budget: Budget) -> None:
    for name in names:
        index[name] = (*index.get(name, ()), budget)


def _covers_request(budget: Budget, facts: Facts, route: str) -> bool:
    return (
        (budget.keys is None or facts.key.name in budget.keys)
        and (budget.models is None or facts.model in budget.models)
        and (budget.routes is None or route in budget.routes)
        and (not budget.tags or budget.tags <= facts.tags | facts.tenant.tags)
    )


def _need_nano_usd(target: Target, facts: Facts) -> int | None:
    output_tokens = min(expected_output_tokens(facts), STEP_TOKENS) * facts.choices
    price = target.price
    if price is not None and target.lane is Lane.SHARED and not price.above and not price.tiers:
        # Plain tokens at the only rates there are: `cost` comes to the same, and takes five times as long.
        return cost.plain_nano_usd(price, facts.input_tokens, output_tokens)
    usage = Usage(
        input_tokens=facts.input_tokens,
        output_tokens=output_tokens,
        service_tier=reckoned_tier(target, facts),
    )
    return used_nano_usd(target, usage)


def _free_nano_usd(funds: Funds, budget: str) -> int:
    return funds.get(budget, _FULL).free_nano_usd


def _unaffordable(budget: Budget, target: Target, need: int | None, funds: Funds) -> Exclusion | None:
    if need is None and budget.enforce is Enforce.HARD:
        return Exclusion(target.name, f"budget:{budget.name}", "price unknown", "a price", True)
    fund = funds.get(budget.name, _FULL)
    if fund.free_nano_usd > 0 and fund.free_nano_usd >= (need or 0):
        return None
    return Exclusion(target.name, f"budget:{budget.name}", _observed(fund), _limit(fund), True)


def _observed(fund: Fund) -> str:
    spent = f"{wording.usd(fund.spent_nano_usd)} spent"
    if fund.held_nano_usd > 0:
        spent += f" and {wording.usd(fund.held_nano_usd)} set aside"
    return spent if fund.known else f"{spent} when last known, and the store cannot be asked"


def _limit(fund: Fund) -> str:
    return wording.usd_per(fund.limit_nano_usd, fund.per)
