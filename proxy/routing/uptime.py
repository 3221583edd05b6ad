"""Composite uptime: how often at least one of a route's targets answers.

Theory of operation
-------------------
One provider's uptime caps a product's, unless another stands in for it. If targets fail independently, all of n fail at
once with the product of their shares of failure, so at least one of them answers `1 - (1 - u1)(1 - u2)...` of the time.
Targets of one vendor, region or deployment do not fail independently: the figure is what the policy could give at best.
A target that nobody has measured yet counts as nothing, rather than as a guess.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from proxy.routing.explain.explained import Uptime
from proxy.routing.readings import Reading, Readings
from proxy.routing.table import Lawful


def of_target(seen: Iterable[Reading]) -> float | None:
    """The mean of its measured replicas, since a request meets one of them; None while none is measured."""
    shares = [reading.uptime for reading in seen if reading.uptime is not None]
    return sum(shares) / len(shares) if shares else None


def composite(shares: Iterable[float | None]) -> Uptime | None:
    """The share of the time that at least one of some targets answers; None while none of them is measured."""
    given = list(shares)
    known = [share for share in given if share is not None]
    if not known:
        return None
    return Uptime(share=1 - math.prod(1 - share for share in known), known=len(known), targets=len(given))


def of_lawful(lawful: Lawful, readings: Readings) -> Uptime | None:
    """The composite uptime of what one kind of request may reach."""
    return composite([of_target(readings.get(entry.target.name, ())) for entry in lawful.entries])


def by_route(lawful_sets: Iterable[Lawful], readings: Readings) -> dict[str, Uptime]:
    """The composite uptime of each route: where its models or endpoints differ, that of the worst off."""
    shares = {name: of_target(seen) for name, seen in readings.items()}
    found: dict[frozenset[str], Uptime | None] = {}
    worst: dict[str, Uptime] = {}
    for lawful in lawful_sets:
        names = frozenset([entry.target.name for entry in lawful.entries])
        if names not in found:
            found[names] = composite([shares.get(name) for name in names])
        uptime, route = found[names], lawful.route.name
        if uptime is not None and (route not in worst or uptime.share < worst[route].share):
            worst[route] = uptime
    return worst
