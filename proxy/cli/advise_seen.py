"""What shared targets were seen to do: from the ledger of a running proxy, and from latencies that were measured."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from proxy.advisor.reasons import ENOUGH_ATTEMPTS, Seen
from proxy.cli.advise_options import CannotAdvise
from proxy.cli.meters_source import Ledger, MetersUnavailable
from proxy.cli.meters_time import point_in_time
from proxy.cli.policy_observed import ObservationsUnreadable, read_observations
from proxy.meters.aggregates import Grain
from proxy.meters.bill import BillLine
from proxy.policy.model import Lane


@dataclass(slots=True)
class _Sums:
    attempts: int = 0
    failures: int = 0
    hourly: dict[int, tuple[int, int]] = field(default_factory=dict)


def recorded(admin_url: str, from_: str, to: str) -> dict[str, Seen]:
    """By shared target, from the ledger of the proxy behind `admin_url`. Raises CannotAdvise."""
    now_s = time.time()
    try:
        ledger = Ledger(admin_url, point_in_time(from_, now_s), point_in_time(to, now_s), Grain.HOUR)
        return seen(ledger.bill())
    except (MetersUnavailable, ValueError) as error:
        raise CannotAdvise(str(error)) from None


def seen(lines: Iterable[BillLine]) -> dict[str, Seen]:
    """By shared target."""
    sums: defaultdict[str, _Sums] = defaultdict(_Sums)
    for line in lines:
        if line.series.lane == Lane.SHARED and line.series.target:
            one, counts = sums[line.series.target], line.counts
            one.attempts += counts.get("attempts", 0)
            one.failures += counts.get("failures", 0)
            took, count = counts.get("ttft_ms", 0), counts.get("ttft_count", 0)
            before = one.hourly.get(int(line.start_s), (0, 0))
            one.hourly[int(line.start_s)] = (before[0] + took, before[1] + count)
    return {name: _seen(name, one) for name, one in sums.items()}


def _seen(name: str, sums: _Sums) -> Seen:
    means = tuple(took / count / 1000 for took, count in sums.hourly.values() if count)
    return Seen(target=name, attempts=sums.attempts, failures=sums.failures, hourly_ttft_s=means)


def observed(source: str, found: Mapping[str, Seen]) -> list[Seen]:
    """The same with the quantiles that a file or a proxy's `/metrics` has. Raises CannotAdvise."""
    try:
        quantiles = read_observations(source)
    except ObservationsUnreadable as error:
        raise CannotAdvise(str(error)) from None
    known = dict(found)
    for name, rules in quantiles.items():
        # Quantiles are only told of targets with enough samples.
        before = known.get(name, Seen(target=name, attempts=ENOUGH_ATTEMPTS, failures=0))
        known[name] = replace(before, ttft_p99_s=rules.get("ttft_p99"))
    return list(known.values())
