"""The budgets of a LiteLLM config: of the proxy as a whole, of a provider, of a tag, of one deployment.

Theory of operation
-------------------
LiteLLM asks before a request whether the limit was reached, and charges after it; that is a soft budget. When a
provider or a deployment has no money left, LiteLLM goes on with the others, and so does `dedicated_only`: it leaves
whatever the budget does not pay for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from proxy.policy import words
from proxy.policy.document import Loc, Place
from proxy.policy.from_litellm.deployment import Draft
from proxy.policy.from_litellm.document import Config
from proxy.policy.from_litellm.given import Given
from proxy.policy.from_litellm.limit import limit_of
from proxy.policy.from_litellm.routes import ModelOut
from proxy.policy.model import Exhausted, Lane
from proxy.policy.problem import Mistake
from proxy.policy.variables import shown

EVERYTHING = "everything"


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetOut:
    """A budget to be; `match` has the key that it matches and the words, or nothing."""

    name: str
    limit: str
    match: Mapping[str, Sequence[str]]
    exhausted: Exhausted
    place: Place


def read_budgets(config: Config, targets: Mapping[str, Draft], models: Sequence[ModelOut]) -> tuple[BudgetOut, ...]:
    """Every budget that the policy can have, in the order in which LiteLLM asks them."""
    taken: set[str] = set()
    found = []
    for name, place, limit, match, paid in _stated(config, targets):
        free = _free(name, taken)
        taken.add(free)
        out = _way_out(paid, models)
        found.append(BudgetOut(name=free, limit=limit, match=match, exhausted=out, place=place))
    return tuple(found)


_Stated = tuple[str, Place, str, Mapping[str, Sequence[str]], frozenset[str]]
"""A name, where it stands, the limit, what it matches, and the targets that it pays for."""


def _stated(config: Config, targets: Mapping[str, Draft]) -> Iterator[_Stated]:
    shared = {name: draft for name, draft in targets.items() if draft.lane is Lane.SHARED}
    settings: Loc = ("litellm_settings",)
    limit = limit_of(Given(config, settings))
    if limit is not None:
        yield EVERYTHING, config.place((*settings, "max_budget")), limit, {}, frozenset(shared)
    for name, loc, limit in _each(config, ("router_settings", "provider_budget_config")):
        paid = [target for target, draft in shared.items() if draft.provider == name]
        if paid:
            yield f"provider-{name}", config.place(loc), limit, {"target": paid}, frozenset(paid)
        else:
            config.note(loc, f"no target of provider {shown(name)} was imported: its budget is not either")
    for name, loc, limit in _each(config, ("litellm_settings", "tag_budget_config")):
        try:
            words.name(name)
        except Mistake as mistake:
            config.note(loc, f"its budget is not imported: {mistake.message}", mistake.hint)
            continue
        yield f"tag-{name}", config.place(loc), limit, {"tags": [name]}, frozenset(shared)
    for name, draft in shared.items():
        if draft.budget is not None:
            yield f"target-{name}", draft.place, draft.budget, {"target": [name]}, frozenset((name,))


def _each(config: Config, loc: Loc) -> Iterator[tuple[str, Loc, str]]:
    """The budgets of a mapping by name."""
    values = config.get(loc)
    for name in values if isinstance(values, dict) else ():
        limit = limit_of(Given(config, (*loc, name)))
        if limit is not None:
            yield name, (*loc, name), limit


def _way_out(paid: frozenset[str], models: Sequence[ModelOut]) -> Exhausted:
    covered = [model.targets for model in models if paid & set(model.targets)]
    left = any(target not in paid for targets in covered for target in targets)
    return Exhausted.DEDICATED_ONLY if left else Exhausted.REJECT


def _free(wanted: str, taken: Iterable[str]) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", wanted)[:100]
    spares = (f"{plain}-{number}" for number in range(2, 100_000))
    return plain if plain not in taken else next(one for one in spares if one not in taken)
