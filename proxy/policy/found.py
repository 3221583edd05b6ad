"""A policy with the replicas put in that were found for it.

Theory of operation
-------------------
Whoever decides, sends or counts reads the replicas of a target from `Target.urls`, and keeps what it knows of each by
its URL. So pods that come and go are a new snapshot, adopted like any other: nothing else has to know of discovery.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from proxy.policy.model import Candidate, Snapshot, Target


def with_found(snapshot: Snapshot, urls: Mapping[str, tuple[str, ...]]) -> Snapshot:
    """`snapshot` with the replicas of `urls`, by target; itself, if it has those already.

    Of a target that `urls` does not name nothing is known: what stands for its replicas stays (`discovery_terms`).
    """
    changed: dict[str, Target] = {}
    for name, found in urls.items():
        target = snapshot.targets.get(name)
        if target is not None and target.discovery is not None and target.urls != found:
            changed[name] = replace(target, urls=found)
    if not changed:
        return snapshot

    def placed(candidate: Candidate) -> Candidate:
        known = changed.get(candidate.target.name)
        return candidate if known is None else replace(candidate, target=known)

    models = {name: tuple(map(placed, candidates)) for name, candidates in snapshot.models.items()}
    return replace(snapshot, targets={**snapshot.targets, **changed}, models=models)
