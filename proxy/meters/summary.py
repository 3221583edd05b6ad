"""Totals, brought down to what a report needs: counters per model and target, whoever the tenant was.

Theory of operation
-------------------
A summary is small (models times targets) where totals are not (tenants, keys and routes, too, and every process's
slot), so a window can keep a row of them. Two summaries subtract; the difference is a summary of the time between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import msgspec

from proxy.meters.aggregates import tally as tally_of
from proxy.meters.fields import parse_series
from proxy.meters.gpu_hours import GpuTotals
from proxy.meters.store import Totals
from proxy.policy.model import Lane

Tally = Mapping[str, int]
"""Counts by counter name (`fields.COUNTERS`); a name that is missing is zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Tallies by (model, target), and GPU time by target, `as_of_s` seconds of Unix time.

    `dedicated` are the targets that were counted as such.
    """

    as_of_s: float
    tallies: Mapping[tuple[str, str], Tally]
    gpus: Mapping[str, GpuTotals]
    dedicated: frozenset[str] = frozenset()

    def of_target(self, target: str) -> Tally:
        """One target's counts over all models."""
        return add_tallies(tally for (_, name), tally in self.tallies.items() if name == target)

    def by_target(self) -> dict[str, Summary]:
        """Each target's part of the tallies, of those that have any; all else is whole."""
        parts: dict[str, dict[tuple[str, str], Tally]] = {}
        for (model, target), tally in self.tallies.items():
            parts.setdefault(target, {})[model, target] = tally
        return {target: replace(self, tallies=tallies) for target, tallies in parts.items()}

    def all(self) -> Tally:
        """All counts of everything."""
        return add_tallies(self.tallies.values())

    def continues(self, earlier: Summary) -> bool:
        """Whether nothing in it is less than in `earlier`: both are readings of the same store."""
        if self.as_of_s < earlier.as_of_s:
            return False
        between = earlier.minus(self)
        return all(count <= 0 for tally in between.tallies.values() for count in tally.values()) and all(
            amount <= 0 for gpu in between.gpus.values() for amount in msgspec.structs.astuple(gpu)
        )

    def minus(self, earlier: Summary) -> Summary:
        """What came after `earlier`. Its time stays its own."""
        nothing: Tally = {}
        return Summary(
            as_of_s=self.as_of_s,
            tallies={key: _less(tally, earlier.tallies.get(key, nothing)) for key, tally in self.tallies.items()},
            gpus={target: gpu - earlier.gpus.get(target, GpuTotals()) for target, gpu in self.gpus.items()},
            dedicated=self.dedicated,
        )


def summarise(totals: Totals) -> Summary:
    """The summary of `totals`. Series and counters that this release does not know are left out."""
    tallies: dict[tuple[str, str], Tally] = {}
    dedicated = set(totals.gpus)
    for name, vector in totals.counters.items():
        series = parse_series(name)
        if series is not None:
            of = series.model, series.target
            tallies[of] = add_tallies((tallies.get(of, {}), tally_of(vector)))
            dedicated |= {series.target} if series.lane == Lane.DEDICATED else set()
    return Summary(as_of_s=totals.as_of_s, tallies=tallies, gpus=totals.gpus, dedicated=frozenset(dedicated))


def add_tallies(tallies: Iterable[Tally]) -> Tally:
    """The sum, counter by counter."""
    total: dict[str, int] = {}
    for tally in tallies:
        for counter, count in tally.items():
            total[counter] = total.get(counter, 0) + count
    return total


def _less(tally: Tally, earlier: Tally) -> Tally:
    return {counter: count - earlier.get(counter, 0) for counter, count in tally.items()}
