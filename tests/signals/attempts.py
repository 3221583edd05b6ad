"""Attempts and their outcomes, as the relay would report them."""

from __future__ import annotations

from proxy.policy.model import Target
from proxy.routing.outcome import Failure, Outcome
from proxy.routing.plan import Attempt, Cause


def attempt(target: Target, replica: int = 0) -> Attempt:
    return Attempt(
        target=target, replica=replica, model=target.model, ordinal=0, cause=Cause.PREFERRED, reason="preferred: cost"
    )


def outcome(of: Attempt, failure: Failure | None = None, **given: object) -> Outcome:
    told: dict[str, object] = {"status": 200, "committed": failure is None, "total_s": 1.0}
    return Outcome(attempt=of, failure=failure, **(told | given))  # type: ignore[arg-type]
