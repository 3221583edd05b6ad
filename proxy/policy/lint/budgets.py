"""Lints of budgets: money that nobody can spend, limits that are never reached, and ways out that lead nowhere.

Theory of operation
-------------------
What is looked at is each budget as it is written, before `each` makes one for every tenant: there may be thousands. A
request comes under a budget when some caller can get, on a route that counts, to a target that the budget pays for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from proxy.policy.budgets import Declared, Rest, is_spent_with
from proxy.policy.checks import Check
from proxy.policy.findings import Findings
from proxy.policy.lint.scope import Scope
from proxy.policy.model import Budget, Cap, Enforce, Exhausted, Key, Lane, Per, Snapshot
from proxy.policy.schema import Each

_LENGTH = {per: place for place, per in enumerate(Per)}
_MOST_WITHIN = {
    (Per.HOUR, Per.DAY): 24,
    (Per.HOUR, Per.WEEK): 7 * 24,
    (Per.HOUR, Per.MONTH): 31 * 24,
    (Per.DAY, Per.WEEK): 7,
    (Per.DAY, Per.MONTH): 31,
    (Per.WEEK, Per.MONTH): 6,
}
"""How many of the shorter window a longer one may touch at most; a month that begins on a Sunday touches six weeks."""


def lint_budgets(declared: Sequence[Declared], snapshot: Snapshot, routes: Sequence[Scope], findings: Findings) -> None:
    """All that can be said of the budgets."""
    rest = Rest(
        models=snapshot.models, tenants=snapshot.tenants, keys=tuple(snapshot.keys.values()), routes=snapshot.routes
    )
    for one in declared:
        covered = rest.covered(one.budget)
        if not covered:
            message = f"budget `{one.budget.name}` pays for nothing: no {one.budget.lane} target that `match` allows"
            findings.warning(Check.UNMET_BUDGET, one.loc, message, "widen `match`, or count the other `lane`")
        elif not any(_meet(one.budget, rest, routes)):
            message = (
                f"no request comes under budget `{one.budget.name}`: no caller gets to such a target on such a route"
            )
            findings.warning(Check.UNMET_BUDGET, one.loc, message, "widen `match`, or remove it")
        else:
            _ways_out(one, rest, findings)
        _caps(one, findings)
        _unnamed_keys(one, rest, findings)
    _unpriced(declared, rest, findings)


def _meet(budget: Budget, rest: Rest, routes: Sequence[Scope]) -> Iterator[bool]:
    """A True for every way in which a request can come under the budget."""
    tenants = rest.callers(budget)
    keys = [key for key in rest.keys if key.tenant.name in tenants and is_spent_with(budget, key)]
    for scope in routes:
        if budget.routes is not None and scope.route.name not in budget.routes:
            continue
        for model, targets in scope.lawful.items():
            named = budget.models is None or model in budget.models
            if named and any(budget.pays_for(target) for target in targets):
                yield not rest.tenants or any(_gets_there(key, model, scope) for key in keys)


def _gets_there(key: Key, model: str, scope: Scope) -> bool:
    match, tenant = scope.route.match, key.tenant
    return (
        (tenant.models is None or model in tenant.models)
        and (match.tenants is None or tenant.name in match.tenants)
        and (match.keys is None or key.name in match.keys)
        and (tenant.request_tags is None or match.tags <= key.tags | tenant.request_tags)
    )


def _ways_out(one: Declared, rest: Rest, findings: Findings) -> None:
    budget, loc = one.budget, (*one.loc, "exhausted")
    if budget.enforce is Enforce.SHADOW:
        return
    if budget.exhausted is Exhausted.DEDICATED_ONLY:
        targets = [candidate.target for model in rest.covered(budget) for candidate in rest.models[model]]
        if all(budget.pays_for(target) for target in targets):
            at = loc if one.is_way_out_stated else one.loc
            message = f"budget `{budget.name}` pays for all targets of its models: once it is spent, all are refused"
            findings.warning(Check.NO_WAY_OUT, at, message, "write `exhausted: reject`, or add a dedicated target")
    elif budget.downgrade is not None:
        _idle_downgrade(one, budget.downgrade, rest, findings)


def _idle_downgrade(one: Declared, model: str, rest: Rest, findings: Findings) -> None:
    budget, loc = one.budget, (*one.loc, "exhausted")
    same_purse = budget.models is None and budget.routes is None
    if same_purse and all(budget.pays_for(candidate.target) for candidate in rest.models[model]):
        message = f"budget `{budget.name}` pays for all targets of `{model}` too: once it is spent, that helps nobody"
        findings.warning(Check.IDLE_DOWNGRADE, loc, message, "name the models that it is for under `match`")
    barred = [name for name, tenant in rest.callers(budget).items() if model not in (tenant.models or (model,))]
    if barred:
        more = f" and {len(barred) - 1} more" if len(barred) > 1 else ""
        message = f"tenant `{barred[0]}`{more} may not ask for `{model}`, the model to downgrade to"
        findings.warning(Check.IDLE_DOWNGRADE, loc, message, "add it to the tenant's `models`")


def _caps(one: Declared, findings: Findings) -> None:
    caps = one.budget.caps
    for index, cap in enumerate(caps):
        other = next((other for other in caps if other is not cap and _is_idle(cap, other)), None)
        if other is not None:
            message = f"the limit for `/{cap.per}` is never reached: that for `/{other.per}` is used up before"
            loc = (*one.loc, "limit", index)
            findings.warning(Check.LIMIT_OUT_OF_REACH, loc, message, "remove it, or change one of the two", key=False)


def _is_idle(cap: Cap, other: Cap) -> bool:
    """Whether the other limit is used up before this one, or at the same time, whenever anything is spent."""
    if _LENGTH[cap.per] < _LENGTH[other.per]:
        return cap.nano_usd >= other.nano_usd
    most = _MOST_WITHIN.get((other.per, cap.per))
    return most is not None and cap.nano_usd > most * other.nano_usd


def _unnamed_keys(one: Declared, rest: Rest, findings: Findings) -> None:
    if one.each is not Each.KEY:
        return
    tenants = rest.callers(one.budget)
    unnamed = sum(1 for key in rest.keys if not key.name and key.tenant.name in tenants)
    if unnamed and one.budget.keys is None:
        message = f"`each: key` leaves out {unnamed} {'key that has' if unnamed == 1 else 'keys that have'} no name"
        findings.warning(Check.UNNAMED_KEYS, (*one.loc, "each"), message, "add `name:` beside each digest")


def _unpriced(declared: Sequence[Declared], rest: Rest, findings: Findings) -> None:
    told: set[str] = set()
    for one in declared:
        if one.budget.enforce is not Enforce.HARD or one.budget.lane is not Lane.SHARED:
            continue
        for target in (target for spent in rest.covered(one.budget).values() for target in spent):
            if target.price is None and target.name not in told:
                told.add(target.name)
                message = (
                    f"no price is known for `{target.name}`: hard budget `{one.budget.name}` never lets it be used"
                )
                hint = "add `price: {input: 0.88, output: 0.88}`, in $ per million tokens"
                findings.warning(Check.UNPRICED_BUDGET, ("targets", target.name), message, hint)
