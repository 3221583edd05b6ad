"""A record of a request as the live view tells it: what was decided and why, and nothing that was said.

Theory of operation
-------------------
Two texts of a record are the caller's own: the model asked for and the request id. Both are shown, cut off at a length
that no honest one has.
"""

from __future__ import annotations

import msgspec

from proxy.live.view import DecisionHere
from proxy.routing.charge import Charge
from proxy.routing.facts import Facts
from proxy.routing.outcome import Failure, Outcome
from proxy.routing.plan import Decision, Exclusion, Plan, Refusal
from proxy.telemetry.records import Record

LONGEST = 200


class Ended(msgspec.Struct, frozen=True, gc=False):
    """What is kept of a record until somebody looks: all but the policy, which may be replaced meanwhile."""

    facts: Facts
    decision: Decision
    outcomes: tuple[Outcome, ...]
    charges: tuple[Charge, ...]
    refusal: Refusal | None
    duration_s: float
    waited_s: float


def ended(record: Record) -> Ended:
    """What is kept of the record."""
    return Ended(
        record.facts,
        record.decision,
        record.outcomes,
        record.charges,
        record.refusal,
        record.duration_s,
        record.waited_s,
    )


def decision_of(record: Ended) -> DecisionHere:
    """One request, as it is shown."""
    facts, decision, charges = record.facts, record.decision, record.charges
    last = record.outcomes[-1] if record.outcomes else None
    outcome, failure = _ending(record)
    attempt = None if last is None else last.attempt
    refusal = record.refusal
    return DecisionHere(
        at=round(facts.at_s + record.duration_s, 3),
        request_id=facts.request_id[:LONGEST],
        route=decision.route,
        model=facts.model[:LONGEST],
        tenant=facts.tenant.name,
        outcome=outcome,
        failure=failure,
        status=refusal.status if refusal is not None else None if last is None else last.status,
        lane=None if attempt is None else attempt.target.lane,
        target="" if attempt is None else attempt.target.name,
        cause="" if attempt is None else attempt.cause.value,
        reason="" if attempt is None else attempt.reason[:LONGEST],
        attempts=len(record.outcomes),
        relaxed=type(decision) is Plan and decision.relaxed,
        ttft_s=None if last is None or last.ttft_s is None else round(last.ttft_s, 4),
        duration_s=round(record.duration_s, 4),
        waited_s=round(record.waited_s, 4),
        input_tokens=sum([one.usage.input_tokens for one in charges]),
        output_tokens=sum([one.usage.output_tokens for one in charges]),
        nano_usd=sum([one.nano_usd for one in charges]),
        estimated=any(one.estimated or one.usage.estimated for one in charges),
        unpriced=not all(one.priced for one in charges),
        excluded=tuple([_cut(one) for one in decision.excluded]),
    )


def _ending(record: Ended) -> tuple[str, str]:
    """How it ended, and what made it end so."""
    last = record.outcomes[-1] if record.outcomes else None
    if last is not None and last.failure is not None:
        return "client_left" if last.failure is Failure.CLIENT_LEFT else "failed", last.failure.label
    if last is not None:
        return "ok", ""
    if record.refusal is None:
        return "failed", "internal_error"
    rule = record.refusal.rule
    return "client_left" if rule == Failure.CLIENT_LEFT.label else "refused", rule


def _cut(one: Exclusion) -> Exclusion:
    if max(len(one.observed), len(one.limit)) <= LONGEST:
        return one
    return Exclusion(one.target, one.rule, one.observed[:LONGEST], one.limit[:LONGEST], one.hard)
