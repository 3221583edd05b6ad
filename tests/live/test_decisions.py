"""A decision as it is shown: its reasons, both kinds of cost, and not a word of what was said."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from proxy.live.decisions import LONGEST, decision_of, ended
from proxy.live.view import OUTCOMES, DecisionHere
from proxy.policy.model import Lane
from proxy.routing.outcome import Failure, Usage
from proxy.routing.plan import Cause, Exclusion, Plan
from proxy.telemetry.records import Record
from tests.telemetry.requests import API, GPU, attempt, outcome, record


def shown(one: Record) -> DecisionHere:
    return decision_of(ended(one))


def test_a_spill_with_its_reasons() -> None:
    out = (Exclusion("gpu", "ttft", "predicted 2.3 s", "1.8 s", False),)
    last = outcome(API, Cause.SPILLOVER, ttft_s=0.3, usage=Usage(input_tokens=7, output_tokens=3, estimated=True))
    found = shown(record(last, excluded=out, facts={"at_s": 100.0}, duration_s=2.0, waited_s=0.5))
    assert (found.at, found.outcome, found.status) == (102.0, "ok", 200)
    assert (found.lane, found.target, found.cause) == (Lane.SHARED, "api", "spillover")
    assert (found.input_tokens, found.output_tokens, found.nano_usd, found.estimated) == (7, 3, 500_000_000, True)
    assert (found.ttft_s, found.duration_s, found.waited_s, found.attempts) == (0.3, 2.0, 0.5, 1)
    assert found.excluded == out


@pytest.mark.parametrize(
    ("one", "ending"),
    [
        (record(outcome()), ("ok", "", 200)),
        (record(), ("refused", "capacity", 429)),
        (record(outcome(failure=Failure.CLIENT_LEFT)), ("client_left", "client_left", 200)),
        (record(outcome(failure=Failure.CONNECT, status=None)), ("failed", "connect", None)),
        (
            record(decision=Plan(route="default", attempts=(attempt(),)), refusal=None),
            ("failed", "internal_error", None),
        ),
    ],
)
def test_how_it_ended(one: Record, ending: tuple[str, str, int | None]) -> None:
    found = shown(one)
    assert (found.outcome, found.failure, found.status) == ending
    assert found.outcome in OUTCOMES


def test_money_of_all_attempts() -> None:
    found = shown(record(outcome(API, failure=Failure.BROKEN), outcome(API, Cause.FALLBACK)))
    assert (found.nano_usd, found.attempts) == (1_000_000_000, 2)


def test_what_callers_may_choose_is_cut_off() -> None:
    long = "x" * 10_000
    out = (Exclusion("gpu", "tag", long, "y", True),)
    found = shown(record(outcome(GPU), facts={"model": long, "request_id": long}, excluded=out))
    assert {len(found.model), len(found.request_id), len(found.excluded[0].observed)} == {LONGEST}


def test_keys_sessions_and_tags_are_not_in_it() -> None:
    facts: dict[str, Any] = {"session": "sess-secret", "tags": frozenset({"tag-secret"})}
    assert b"secret" not in msgspec.json.encode(shown(record(outcome(), facts=facts)))
