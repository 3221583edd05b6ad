"""The same policy with other replicas: what a replay varies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from proxy.policy.model import Candidate, Lane, Snapshot, Target


def with_replicas(snapshot: Snapshot, replicas: Mapping[str, int]) -> Snapshot:
    """The policy with so many replicas of its dedicated targets; a target with none is not there at all."""
    targets = {}
    for name, target in snapshot.targets.items():
        count = replicas.get(name)
        if target.lane is not Lane.DEDICATED or count is None:
            targets[name] = target
        elif count > 0:
            targets[name] = replace(target, urls=tuple(f"http://{name}-{index}/v1" for index in range(count)))
    return _with_targets(snapshot, targets)


def dedicated_only(snapshot: Snapshot) -> Snapshot:
    """The policy without its shared targets."""
    kept = {name: target for name, target in snapshot.targets.items() if target.lane is Lane.DEDICATED}
    return _with_targets(snapshot, kept)


def _with_targets(snapshot: Snapshot, targets: Mapping[str, Target]) -> Snapshot:
    models = {
        model: tuple(
            Candidate(target=targets[one.target.name], model=one.model)
            for one in candidates
            if one.target.name in targets
        )
        for model, candidates in snapshot.models.items()
    }
    return replace(snapshot, targets=targets, models=models)
