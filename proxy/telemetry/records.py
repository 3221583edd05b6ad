"""What a request leaves behind: one record, from which the metrics, the log line and later the replay are made."""

from __future__ import annotations

import msgspec

from proxy.policy.model import Snapshot
from proxy.routing.charge import Charge
from proxy.routing.facts import Facts
from proxy.routing.outcome import Outcome
from proxy.routing.plan import Decision, Refusal


class Record(msgspec.Struct, frozen=True, gc=False):
    """One request, whatever became of it: refusals and disconnects too.

    `outcomes` and `charges` pair up, one of each per attempt. `refusal` is what the client was told if it was not
    served. `overhead_s` is our own time before the first upstream byte went out, without the `waited_s` for room;
    `duration_s` runs to the end.
    """

    snapshot: Snapshot
    facts: Facts
    decision: Decision
    outcomes: tuple[Outcome, ...]
    charges: tuple[Charge, ...]
    refusal: Refusal | None
    overhead_s: float
    duration_s: float
    waited_s: float = 0.0
