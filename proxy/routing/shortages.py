"""Which of the reasons to leave a target out say that its GPUs were too few, and not that it must not be used.

Theory of operation
-------------------
A request that left a dedicated target, or was refused, for one of these would have been served there by one replica
more. A breaker is among them, and that no replica was found: a deployment that is scaled to zero, or has crashed, is as
wanted as before, and whoever scales it must not take an outage for a lack of demand.
"""

from __future__ import annotations

from collections.abc import Iterable

from proxy.routing.plan import Exclusion

NOBODY_THERE = frozenset({"breaker", "asleep"})
FOR_LACK_OF_ROOM = NOBODY_THERE | {"capacity", "ttft", "itl", "engine_full", "kv", "bid"}


def short(excluded: Iterable[Exclusion]) -> list[str]:
    """The targets, dedicated or not, that had no room."""
    return [one.target for one in excluded if one.rule in FOR_LACK_OF_ROOM]
