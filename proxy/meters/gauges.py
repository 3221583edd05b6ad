"""What the others have in flight: each process shows its counts for a while, and reads those of the rest.

Theory of operation
-------------------
A gauge is the in-flight count of one replica of a target (`replica_key`). It is published with a time to live that a
few syncs renew, so that what a process had in flight when it died is soon forgotten. While the store is away nothing is
known of the others, and nothing is assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from proxy.meters.part import Ask, Heard, Moment

GAUGE_TTL_S = 2.0


class Gauges:
    """The part `gauges`. `show` gives this process's counts by gauge name; `absorb` takes the sum of everybody else's,
    all of them at every sync: a name that is missing is zero."""

    name = "gauges"

    def __init__(
        self,
        show: Callable[[], Mapping[str, int]],
        absorb: Callable[[Mapping[str, int]], None],
        ttl_s: float = GAUGE_TTL_S,
    ) -> None:
        self._show, self._absorb = show, absorb
        self._ttl_ms = int(ttl_s * 1000)
        self._mine: Mapping[str, int] = {}
        self._others: Mapping[str, int] = {}

    def everywhere(self) -> Mapping[str, int]:
        """In flight over all processes, this one included, as far as it is known."""
        return _summed((self._mine, self._others))

    def ask(self, moment: Moment) -> Ask:
        """Show what is not zero, or on leaving nothing any more."""
        self._mine = {name: count for name, count in self._show().items() if count}
        asked: dict[str, int | str] = {"ttl_ms": self._ttl_ms}
        if not moment.last:
            asked["shown"] = orjson.dumps(self._mine).decode()
        return Ask(("gauges",), orjson.dumps(asked))

    def told(self, reply: Any, heard: Heard, moment: Moment) -> None:
        """The others', added up."""
        self._others = _summed(orjson.loads(other) for other in reply)
        self._absorb(self._others)

    def unheard(self, moment: Moment) -> None:
        """Not known any more; whoever absorbed it lets it expire in its own time."""
        self._others = {}


def _summed(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            total[name] = total.get(name, 0) + count
    return total
