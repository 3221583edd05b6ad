"""Records of requests that never were."""

from __future__ import annotations

from typing import Any

from proxy.policy.model import ANONYMOUS, Endpoint, Lane, Snapshot, Target
from proxy.routing.charge import Charge
from proxy.routing.facts import Facts
from proxy.routing.outcome import Failure, Outcome, Usage
from proxy.routing.plan import Attempt, Cause, Decision, Exclusion, Plan, Refusal
from proxy.telemetry.records import Record
from tests.harness import dedicated, shared, snapshot_of

GPU, API = dedicated("gpu", "http://gpu.internal/v1"), shared("api", "https://api.example.com/v1")
POLICY: Snapshot = snapshot_of(GPU, API)
REFUSED = Refusal(status=429, code="rate_limit_exceeded", message="no", rule="capacity", route="default")


def attempt(target: Target = GPU, cause: Cause = Cause.PREFERRED, **more: Any) -> Attempt:
    fields = {"replica": 0, "model": "up", "ordinal": 0, "reason": "preferred: cost", **more}
    return Attempt(target=target, cause=cause, **fields)


def outcome(
    target: Target = GPU, cause: Cause = Cause.PREFERRED, failure: Failure | None = None, **more: Any
) -> Outcome:
    fields: dict[str, Any] = {
        "status": 200,
        "committed": failure is None,
        "total_s": 0.25,
        "usage": Usage(input_tokens=7, output_tokens=3) if failure is None else Usage(),
        **more,
    }
    return Outcome(attempt=attempt(target, cause), failure=failure, **fields)


def charge(outcome: Outcome, **more: Any) -> Charge:
    target = outcome.attempt.target
    free = target.lane is Lane.DEDICATED
    fields: dict[str, Any] = {"nano_usd": 0 if free else 500_000_000, "priced": True, **more}
    return Charge(target=target.name, lane=target.lane, usage=outcome.usage, price_source="policy", **fields)


def record(
    *outcomes: Outcome, decision: Decision | None = None, excluded: tuple[Exclusion, ...] = (), **more: Any
) -> Record:
    """A request that was tried so; without outcomes, one that was refused."""
    plan = Plan(route="default", attempts=tuple(one.attempt for one in outcomes), excluded=excluded)
    chosen = decision or (plan if outcomes else REFUSED)
    facts = {
        "model": "m",
        "request_id": "req_1",
        "endpoint": Endpoint.CHAT,
        "tenant": ANONYMOUS,
        **more.pop("facts", {}),
    }
    fields: dict[str, Any] = {
        "charges": tuple(charge(one) for one in outcomes),
        "refusal": chosen if isinstance(chosen, Refusal) else None,
        "overhead_s": 0.0002,
        "duration_s": 0.3,
        **more,
    }
    return Record(snapshot=POLICY, facts=Facts(**facts), decision=chosen, outcomes=outcomes, **fields)
