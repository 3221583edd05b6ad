"""GPUs that have nothing else to do: what offline traffic with a deadline waits for, and how long it may.

Theory of operation
-------------------
A request that nobody waits for costs nothing on a replica that would stand idle otherwise; beside other people's
requests it would push some of theirs to where they cost money. So until its deadline comes near it takes a replica only
where no prompt is waiting, and where even with it the first token would come within `TTFT_SHARE` of the objective and
the gaps stay within `ITL_SHARE` of theirs. What is predicted of it there says when its deadline is near: when the time
that is left is less than `SPARE` times what serving it takes.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from proxy.policy.model import Lane
from proxy.routing.plan import Attempt, Cause, Decision, Plan, Refusal
from proxy.routing.readings import Reading, Readings
from proxy.routing.table import FALLBACK_REASON

TTFT_SHARE = 0.5
ITL_SHARE = 0.75
SPARE = 2.0
ASSUMED_SERVICE_S = 30.0
"""Of a request of which nothing is predicted."""

NOT_IDLE = Refusal(
    status=503,
    code="at_capacity",
    message="no GPU that may serve this request is idle",
    rule="capacity",
    type="server_error",
    retryable=True,
)
"""Others use the GPUs now; who has the time comes again."""


def only_idle(decision: Decision, readings: Readings) -> Decision:
    """The plan with the first of its replicas that is idle in front, the others behind it in case that it fails."""
    if isinstance(decision, Refusal):
        return decision
    for attempt in decision.attempts:
        if attempt.target.lane is Lane.DEDICATED and _is_idle(attempt, readings.get(attempt.target.name, ())):
            return _led_by(attempt, decision)
    return NOT_IDLE


def service_s(decision: Decision) -> float:
    """How long serving the request takes, as predicted of the first of its replicas."""
    for attempt in decision.attempts if isinstance(decision, Plan) else ():
        estimate = attempt.estimate
        if estimate is not None:
            decoding_s = estimate.output_tokens * estimate.itl_s * estimate.itl_factor
            return estimate.ttft_s * estimate.ttft_factor + decoding_s
    return ASSUMED_SERVICE_S


def _is_idle(attempt: Attempt, pool: Sequence[Reading]) -> bool:
    reading = next((one for one in pool if one.replica == attempt.replica), None)
    if reading is None or reading.load is None:
        return reading is None or reading.in_flight == 0
    estimate = attempt.estimate
    if reading.load.waiting or estimate is None:
        return not reading.load.waiting and not reading.load.decoding
    soon = estimate.ttft_s * estimate.ttft_factor <= TTFT_SHARE * estimate.ttft_aim_s
    return soon and estimate.itl_s * estimate.itl_factor <= ITL_SHARE * estimate.itl_aim_s


def _led_by(first: Attempt, plan: Plan) -> Plan:
    if first is plan.attempts[0]:
        return plan
    lead = msgspec.structs.replace(
        first, ordinal=0, cause=Cause.PREFERRED, reason=f"preferred: {first.target.name} is idle"
    )
    others = [
        msgspec.structs.replace(one, ordinal=ordinal, cause=Cause.FALLBACK, reason=FALLBACK_REASON)
        for ordinal, one in enumerate((one for one in plan.attempts if one is not first), start=1)
    ]
    return msgspec.structs.replace(plan, attempts=(lead, *others), relaxed=False)
