"""The budgets that a request falls under: what each has left, and what becomes of the request when it is used up.

Theory of operation
-------------------
Which budgets they are, which targets they pay for and whether they can is asked of the router's own functions. What
will happen is found by deciding once more, with that one budget empty and all else as it is.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import MutableMapping
from typing import cast

from proxy.policy.model import Budget, Enforce, Exhausted
from proxy.routing import budgets, wording
from proxy.routing.choose import Moment
from proxy.routing.decide import Router
from proxy.routing.explain.explained import Purse
from proxy.routing.facts import Facts
from proxy.routing.plan import Decision, Refusal
from proxy.routing.readings import Fund, Funds, Rates


def purses(router: Router, facts: Facts, route: str, moment: Moment, rates: Rates, funds: Funds) -> tuple[Purse, ...]:
    """Every budget that a request on `route` falls under."""
    targets = [candidate.target for candidate in router.snapshot.models.get(facts.model, ())]
    found = []
    for budget in router.budgets_of(facts, route):
        paid = tuple(target.name for target in targets if budget.pays_for(target))
        standing = budgets.judge((budget,), targets, facts, funds)
        fund = funds.get(budget.name)
        found.append(
            Purse(
                budget=budget.name,
                enforce=budget.enforce,
                lane=budget.lane,
                limits=tuple(wording.usd_per(cap.nano_usd, cap.per) for cap in budget.caps),
                targets=paid,
                known=fund is None or fund.known,
                free_nano_usd=None if fund is None else fund.free_nano_usd,
                spent_nano_usd=None if fund is None else fund.spent_nano_usd,
                limit=None if fund is None else wording.usd_per(fund.limit_nano_usd, fund.per),
                resets_in_s=None if fund is None else fund.resets_in_s,
                over=bool(standing.left_out or standing.shadow),
                then=_then(router, budget, facts, moment, rates, funds) if paid else "nothing here is paid from it",
            )
        )
    return tuple(found)


def _then(router: Router, budget: Budget, facts: Facts, moment: Moment, rates: Rates, funds: Funds) -> str:
    """What becomes of the request without this budget's money, in a clause."""
    if budget.enforce is Enforce.SHADOW:
        return "that is recorded, and changes nothing"
    spent = ChainMap({budget.name: _emptied(budget, funds)}, cast("MutableMapping[str, Fund]", funds))
    decision = router.decide(facts, moment.readings, moment.now, moment.draw, rates, spent, moment.outlook)
    return _told(decision, budget)


def _emptied(budget: Budget, funds: Funds) -> Fund:
    """The budget's fund without a nano-dollar in it."""
    cap, known = budget.caps[0], funds.get(budget.name)
    return Fund(
        free_nano_usd=0,
        spent_nano_usd=cap.nano_usd,
        limit_nano_usd=cap.nano_usd,
        per=cap.per,
        resets_in_s=None if known is None else known.resets_in_s,
    )


def _told(decision: Decision, budget: Budget) -> str:
    if isinstance(decision, Refusal):
        return f"the request is refused with {decision.status} `{decision.code}`"
    first = decision.attempts[0].target
    instead = f" as model `{decision.served_as}`" if decision.served_as else ""
    where = f"`{first.name}` ({first.lane}){instead}"
    if budget.exhausted is Exhausted.DOWNGRADE and decision.served_as is None:
        return f"it goes to {where}, and to model `{budget.downgrade}` when that cannot take it"
    return f"it goes to {where}"
