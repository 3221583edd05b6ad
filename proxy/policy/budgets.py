"""Compiles `budgets`: what some requests may spend together, and finds the ones that cannot work.

Theory of operation
-------------------
A budget says whose spending counts (`match`), in which money (`lane`), and what becomes of requests when it is used up.
Each is compiled as it is written (`Declared`), and what is wrong with it is told there, once; only then does `each`
make one budget of every tenant, key, model, target or route, named `budget/member`. Money that nobody can count is
refused: GPU time without its price, a window that is limited twice. Names are looked up as they are written, so that a
broken target is not said to be missing too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields

from proxy.policy.checks import Check
from proxy.policy.document import Loc
from proxy.policy.findings import Findings
from proxy.policy.model import Budget, Candidate, Enforce, Exhausted, Key, Lane, Mode, Route, Target, Tenant
from proxy.policy.schema import BudgetSpec, Each
from proxy.policy.words import NAME, did_you_mean

Names = Mapping[str, frozenset[str]]
"""By section, the names in it as they are written."""

_SECTIONS = {"tenants": "tenant", "keys": "key", "routes": "route", "targets": "target", "models": "model"}
"""By field of a budget, the key under `match`."""

_FIELDS = {key: field for field, key in _SECTIONS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """The sound part of a policy, as far as budgets speak of it."""

    models: Mapping[str, tuple[Candidate, ...]]
    tenants: Mapping[str, Tenant]
    keys: tuple[Key, ...]
    routes: tuple[Route, ...]

    def covered(self, budget: Budget) -> dict[str, tuple[Target, ...]]:
        """By model, its targets on which a budget's money is spent; models without any are left out."""
        found = {}
        for name, candidates in self.models.items():
            if budget.models is None or name in budget.models:
                spent = tuple(one.target for one in candidates if budget.pays_for(one.target))
                if spent:
                    found[name] = spent
        return found

    def callers(self, budget: Budget) -> dict[str, Tenant]:
        """The tenants whose requests may count, by name."""
        owners = None
        if budget.keys is not None or budget.tags:
            owners = {key.tenant.name for key in self.keys if is_spent_with(budget, key)}
        return {
            name: tenant
            for name, tenant in self.tenants.items()
            if (budget.tenants is None or name in budget.tenants) and (owners is None or name in owners)
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One budget as it is written, at the index that it has in the file.

    `is_way_out_stated` says that it has `exhausted`, which is `dedicated_only` otherwise.
    """

    index: int
    budget: Budget
    each: Each | None
    is_way_out_stated: bool

    @property
    def loc(self) -> Loc:
        """Where it stands."""
        return ("budgets", self.index)


def is_spent_with(budget: Budget, key: Key) -> bool:
    """Whether a request that comes with `key` can be one of those that the budget matches."""
    may_add = key.tenant.request_tags
    tagged = may_add is None or budget.tags <= key.tags | may_add
    return tagged and (budget.keys is None or key.name in budget.keys)


def compile_budgets(specs: Iterable[tuple[int, BudgetSpec]], findings: Findings) -> tuple[Declared, ...]:
    """The budgets as they are written; what is wrong with one by itself goes to `findings`."""
    declared = []
    for index, spec in specs:
        loc: Loc = ("budgets", index)
        _check_repeats(spec, loc, findings)
        _check_words(spec, loc, findings)
        declared.append(_declared(index, spec))
    return tuple(declared)


def check_names(declared: Iterable[Declared], names: Names, findings: Findings) -> None:
    """Every name that a budget mentions must exist, and the names of budgets must differ.

    Of a budget with an unknown name nothing more is said: it would cover what nobody meant.
    """
    seen: set[str] = set()
    for one in declared:
        budget, loc = one.budget, one.loc
        if budget.name in seen:
            message = f"a second budget named `{budget.name}`"
            findings.problem((*loc, "name"), message, "rename one", check=Check.DUPLICATE)
        seen.add(budget.name)
        unknown = [
            ((*loc, "match", key), section, name)
            for section, key in _SECTIONS.items()
            for name in sorted((getattr(budget, section) or frozenset()) - names[section])
        ]
        if budget.downgrade is not None and budget.downgrade not in names["models"]:
            unknown.append(((*loc, "exhausted"), "models", budget.downgrade))
        for at, section, name in unknown:
            _unknown(at, _SECTIONS[section], name, names[section], findings)
        if unknown:
            findings.drop(loc)


def check_tags(declared: Iterable[Declared], rest: Rest, findings: Findings) -> None:
    """A tag that no tenant or key has, and no request may bring, is probably misspelt: nothing would be counted."""
    if not rest.tenants:
        return
    known = frozenset(tag for tenant in rest.tenants.values() for tag in tenant.request_tags or ())
    known |= frozenset(tag for key in rest.keys for tag in key.tags)
    for one in declared:
        for tag in sorted(one.budget.tags - known):
            hint = did_you_mean(tag, known) or "give it to a tenant, or to its `request_tags`"
            findings.warning(Check.UNKNOWN_TAG, (*one.loc, "match", "tags"), f"no tenant has the tag `{tag}`", hint)


def check_sense(declared: Iterable[Declared], rest: Rest, findings: Findings) -> None:
    """What is spent must be counted somehow, and what is served instead must be another model that callers may use."""
    for one in declared:
        budget, exhausted = one.budget, (*one.loc, "exhausted")
        if budget.lane is Lane.DEDICATED:
            _check_counted(one, rest, findings)
        if budget.downgrade is None:
            continue
        if budget.downgrade in (budget.models or ()) or (one.each is Each.MODEL and budget.models is None):
            message = f"budget `{budget.name}` counts `{budget.downgrade}` itself, the model to downgrade to"
            hint = "leave it out of `match`, or downgrade to another"
            findings.problem(exhausted, message, hint, check=Check.CONTRADICTION)
        for name, tenant in rest.callers(budget).items() if budget.tenants or budget.keys else ():
            if tenant.models is not None and budget.downgrade not in tenant.models:
                message = f"tenant `{name}` may not ask for the model `{budget.downgrade}`"
                hint = "add it to the tenant's `models`, or downgrade to another"
                findings.problem(exhausted, message, hint, check=Check.CONTRADICTION)


def expand(declared: Iterable[Declared], rest: Rest, findings: Findings) -> tuple[Budget, ...]:
    """The budgets that are enforced: one for each member, where `each` asks for that."""
    budgets: dict[str, Budget] = {}
    for one in declared:
        made = (one.budget,) if one.each is None else tuple(_for_each(one, one.each, rest, findings))
        for budget in made:
            other = budgets.setdefault(budget.name, budget)
            if other is not budget and (other.group or budget.group):
                message = f"a second budget named `{budget.name}`: `{other.group or budget.group}` makes one for each"
                findings.problem((*one.loc, "name"), message, "rename one", check=Check.DUPLICATE)
    return tuple(budgets.values())


def _check_repeats(spec: BudgetSpec, loc: Loc, findings: Findings) -> None:
    windows = [cap.per for cap in spec.limit]
    for index, per in enumerate(windows):
        if per in windows[:index]:
            message = f"two limits for `/{per}`"
            findings.problem((*loc, "limit", index), message, "keep the lower one", check=Check.DUPLICATE)
    for index, percent in enumerate(spec.alerts):
        if percent in spec.alerts[:index]:
            message = f"`{percent}%` twice"
            findings.problem((*loc, "alerts", index), message, "list each once", check=Check.DUPLICATE)


def _check_words(spec: BudgetSpec, loc: Loc, findings: Findings) -> None:
    """`mode` is the word of all rules for what `enforce` says of budgets; GPUs are no way out of a budget for GPUs."""
    both = spec.mode is not None and spec.enforce is not None
    if both and (spec.mode is Mode.SHADOW) is not (spec.enforce is Enforce.SHADOW):
        message = f"`mode: {spec.mode}` and `enforce: {spec.enforce}` contradict each other"
        hint = "`mode: shadow` is the same as `enforce: shadow`; remove one of the two"
        findings.problem((*loc, "mode"), message, hint, key=True, check=Check.CONTRADICTION)
    way_out = spec.exhausted[0] if spec.exhausted else Exhausted.DEDICATED_ONLY
    if spec.lane is Lane.DEDICATED and way_out is Exhausted.DEDICATED_ONLY:
        at = (*loc, "exhausted") if spec.exhausted else (*loc, "lane")
        message = "`dedicated_only` is no way out of a budget for dedicated GPUs"
        hint = "write `exhausted: reject`, or `exhausted: {downgrade: model}`"
        findings.problem(at, message, hint, check=Check.CONTRADICTION)


def _declared(index: int, spec: BudgetSpec) -> Declared:
    stated = spec.exhausted is not None
    return Declared(index=index, budget=_budget(spec), each=spec.each, is_way_out_stated=stated)


def _budget(spec: BudgetSpec) -> Budget:
    exhausted, downgrade = spec.exhausted or (Exhausted.DEDICATED_ONLY, None)
    is_shadow = spec.mode is Mode.SHADOW
    match = spec.match
    return Budget(
        name=spec.name,
        caps=spec.limit,
        enforce=Enforce.SHADOW if is_shadow else spec.enforce or Enforce.HARD,
        exhausted=exhausted,
        downgrade=downgrade,
        alerts=tuple(sorted(spec.alerts)),
        lane=spec.lane,
        tenants=_set(match.tenant),
        keys=_set(match.key),
        tags=frozenset(match.tags),
        routes=_set(match.route),
        targets=_set(match.target),
        models=_set(match.model),
    )


def _set(names: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)


def _unknown(loc: Loc, kind: str, name: str, known: frozenset[str], findings: Findings) -> None:
    if kind != "key":
        findings.unknown(loc, kind, name, known)
    elif not findings.has_dropped("tenants"):
        hint = did_you_mean(name, known) or "name one as `tenant/key`, with `name:` beside its digest"
        findings.problem(loc, f"unknown key `{name}`", hint, check=Check.UNKNOWN_NAME)


def _check_counted(one: Declared, rest: Rest, findings: Findings) -> None:
    for target in {target.name: target for spent in rest.covered(one.budget).values() for target in spent}.values():
        if target.gpus is None:
            message = f"budget `{one.budget.name}` counts GPU time, and `{target.name}` does not say what that costs"
            hint = f"add `gpus: {{type: H100, count: 1, usd_per_hour: 2.99}}` to `{target.name}`"
            findings.problem((*one.loc, "lane"), message, hint, check=Check.MISSING_KEY)
            return


def _for_each(one: Declared, each: Each, rest: Rest, findings: Findings) -> Iterator[Budget]:
    """The budgets for the members, each of which may be matched."""
    base = one.budget
    members = _members(base, each, rest)
    if not members:
        hint = "name such in the policy, widen `match`, or remove `each`"
        message = f"`each: {each}` makes no budget: there is no {each} that `match` allows"
        findings.problem((*one.loc, "each"), message, hint, check=Check.CONTRADICTION)
    longest = max(members, key=len, default="")
    if not NAME.fullmatch(f"{base.name}/{longest}"):
        message = f"`{base.name}/{longest}` is too long for a name"
        findings.problem((*one.loc, "name"), message, "shorten it: a name has at most 128 characters")
    field = _FIELDS[each.value]
    common = {one.name: getattr(base, one.name) for one in fields(base)}
    common["group"] = base.name
    for member in members:
        yield Budget(**{**common, "name": f"{base.name}/{member}", field: frozenset((member,))})


def _members(budget: Budget, each: Each, rest: Rest) -> list[str]:
    """The names for which `each` makes a budget, in the order of the policy."""
    match each:
        case Each.TENANT:
            return list(rest.callers(budget))
        case Each.KEY:
            tenants = rest.callers(budget)
            keys = (key for key in rest.keys if key.tenant.name in tenants and is_spent_with(budget, key))
            return list(dict.fromkeys(key.name for key in keys if key.name))
        case Each.MODEL:
            return list(rest.covered(budget))
        case Each.TARGET:
            return list(dict.fromkeys(one.name for spent in rest.covered(budget).values() for one in spent))
        case Each.ROUTE:
            return [one.name for one in rest.routes if budget.routes is None or one.name in budget.routes]
