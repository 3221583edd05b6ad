"""A route with the models it takes and the targets it may use for each: what the lints of meaning look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from proxy.policy.document import Loc
from proxy.policy.model import Objective, Route, Rules, Snapshot, Target
from proxy.policy.promises import missed_by_policy

Targets = tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Scope:
    """One route.

    `candidates` and `lawful` go from the models that it takes: to all their targets, and to those that its gates pass.
    `all_targets` and `targets` are the same without the models, each target once.
    """

    loc: Loc
    route: Route
    candidates: Mapping[str, Targets]
    lawful: Mapping[str, Targets]
    all_targets: Targets
    targets: Targets

    @property
    def objectives(self) -> Iterator[tuple[Loc, Objective]]:
        """Every objective in force, with the place of its key."""
        for block, rules in (("require", self.route.require), ("want", self.route.want)):
            for objective in rules.objectives:
                yield (*self.loc, block, objective.rule), objective


def scopes(snapshot: Snapshot) -> tuple[Scope, ...]:
    """The scope of every route, in order."""
    everything = {
        name: tuple(candidate.target for candidate in candidates) for name, candidates in snapshot.models.items()
    }
    targets = {id(target): target for targets in everything.values() for target in targets}
    passing: dict[Rules, frozenset[int]] = {}
    found = []
    for index, route in enumerate(snapshot.routes):
        taken = everything
        if route.match.models is not None:
            taken = {name: targets for name, targets in everything.items() if name in route.match.models}
        if route.require not in passing:
            passing[route.require] = _passing(targets, route.require)
        lawful = passing[route.require]
        open_to = {name: tuple(one for one in targets if id(one) in lawful) for name, targets in taken.items()}
        found.append(Scope(("routes", index), route, taken, open_to, _once(taken), _once(open_to)))
    return tuple(found)


def _passing(targets: Mapping[int, Target], require: Rules) -> frozenset[int]:
    return frozenset(key for key, one in targets.items() if not missed_by_policy(one, require, strict=True))


def _once(by_model: Mapping[str, Targets]) -> Targets:
    return tuple({target.name: target for targets in by_model.values() for target in targets}.values())
