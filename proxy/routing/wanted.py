"""What engine time a request asks for, and what it would save there: told for every request, wherever it goes.

Theory of operation
-------------------
The bid for engine time (`worth.py`) follows from all the work that could be served on dedicated replicas, so from what
was spilled and refused too. A request is part of it when its route fills GPUs to save money, and lets it go to a
dedicated target as well as to a shared one with a known price. Requests that nobody waits for are not: they take the
time that others leave.
"""

from __future__ import annotations

import msgspec

from proxy.policy.model import Prefer, Traffic
from proxy.routing.facts import Facts
from proxy.routing.readings import Outlook
from proxy.routing.table import Lawful
from proxy.routing.worth import cheapest_nano_usd, expected_work_s


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """Seconds of engine time on a replica of `target`, as its profile has them, and what each would save.

    `itl_aim_s` is the gap between tokens that the route wants there, infinite where it does not say.
    """

    target: str
    density_nano_usd_per_s: float
    work_s: float
    itl_aim_s: float


def wanted(lawful: Lawful, facts: Facts, outlook: Outlook) -> Wanted | None:
    """What the request asks of the first of its dedicated targets; None where it is no part of the bid."""
    if lawful.route.prefer is not Prefer.COST or facts.traffic is Traffic.OFFLINE:
        return None
    steps, prices = None, []
    for entry in lawful.entries:
        if not entry.dedicated:
            prices.append(entry.target.price)
        elif steps is None:
            steps = entry.steps
    cheapest = None if steps is None else cheapest_nano_usd(prices, facts, outlook)
    if steps is None or cheapest is None:
        return None
    # Not by `density_nano_usd_per_s`: the work is worked out once, which saves 0.5 us of every request.
    work_s = expected_work_s(steps, facts, outlook)
    return Wanted(steps.target.name, cheapest / work_s, work_s, lawful.aims.itl_s)
