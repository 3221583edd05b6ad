"""Every attempt adds up, once."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.meters.fields import Series, field, parse_field
from proxy.meters.ledger import Ledger
from proxy.policy.model import Tenant
from proxy.routing.outcome import Failure, Usage
from proxy.routing.plan import Cause
from tests.meters.examples import LLAMA, TOGETHER, facts, outcome

TOGETHER_SERIES = Series("anonymous", "llama-70b", "together")


def counted(ledger: Ledger, series: Series = TOGETHER_SERIES) -> dict[str, int]:
    parsed = {parse_field(name): value for name, value in ledger.totals().items()}
    return {key[0]: value for key, value in parsed.items() if key is not None and key[1] == series}


def test_an_answered_attempt() -> None:
    ledger = Ledger()
    usage = Usage(input_tokens=1000, output_tokens=500, cached_input_tokens=200, reasoning_tokens=100)
    ledger.settle(facts(), outcome(TOGETHER, usage, total_s=1.5))
    assert counted(ledger) == {
        "requests": 1,
        "attempts": 1,
        "input_tokens": 1000,
        "output_tokens": 500,
        "cached_input_tokens": 200,
        "reasoning_tokens": 100,
        "nano_usd": 1_320_000,
        "busy_ms": 1500,
    }


def test_a_request_counts_once_however_many_attempts_it_took() -> None:
    ledger = Ledger()
    ledger.settle(facts(), outcome(LLAMA, Usage(), failure=Failure.BROKEN))
    ledger.settle(facts(), outcome(TOGETHER, cause=Cause.FALLBACK, ordinal=1))
    first, second = counted(ledger, Series("anonymous", "llama-70b", "llama-eu")), counted(ledger)
    assert (first["requests"], first["attempts"], first["failures"]) == (1, 1, 1)
    assert (second.get("requests"), second["attempts"], second["fallbacks"]) == (None, 1, 1)


def test_spilled_is_counted_where_the_spill_was_taken() -> None:
    """A full target passes the request on: only the one that takes it has it counted as spilled."""
    ledger = Ledger()
    ledger.settle(facts(), outcome(LLAMA, Usage(), failure=Failure.FULL))
    other = replace(TOGETHER, name="other")
    ledger.settle(facts(), outcome(other, Usage(), failure=Failure.FULL, cause=Cause.SPILLOVER, ordinal=1))
    ledger.settle(facts(), outcome(TOGETHER, cause=Cause.SPILLOVER, ordinal=2))
    assert "spilled" not in counted(ledger, Series("anonymous", "llama-70b", "other"))
    assert counted(ledger)["spilled"] == 1


@pytest.mark.parametrize("failure", list(Failure))
def test_every_way_of_failing_is_counted_and_only_the_client_s_own_is_not_the_upstream_s(failure: Failure) -> None:
    ledger = Ledger()
    ledger.settle(facts(), outcome(TOGETHER, Usage(input_tokens=7), failure=failure))
    left = failure in (Failure.CLIENT_LEFT, Failure.STALLED_CLIENT)
    tally = counted(ledger)
    assert (tally.get("abandoned", 0), tally.get("failures", 0)) == ((1, 0) if left else (0, 1))
    assert tally["input_tokens"] == 7


def test_estimates_and_missing_prices_have_counters_of_their_own() -> None:
    ledger = Ledger()
    unpriced = replace(TOGETHER, price=None)
    ledger.settle(facts(), outcome(unpriced, Usage(input_tokens=10, output_tokens=5, estimated=True)))
    tally = counted(ledger)
    assert (tally["estimated_tokens"], tally["unpriced_attempts"]) == (15, 1)
    assert "nano_usd" not in tally


def test_tenants_models_and_targets_are_kept_apart() -> None:
    ledger = Ledger()
    ledger.settle(facts("a", Tenant(name="bank")), outcome(TOGETHER))
    ledger.settle(facts("b", Tenant(name="bank")), outcome(LLAMA))
    requests = {name for name in ledger.totals() if name.startswith("requests")}
    assert requests == {
        field("requests", Series("bank", "a", "together")),
        field("requests", Series("bank", "b", "llama-eu")),
    }


@given(st.lists(st.tuples(st.sampled_from([LLAMA, TOGETHER]), st.integers(0, 1000), st.booleans()), max_size=30))
def test_changes_add_up_to_the_totals_whenever_they_are_asked_for(steps: list[tuple]) -> None:
    ledger, seen = Ledger(), {}
    for target, tokens, ask in steps:
        ledger.settle(facts(), outcome(target, Usage(input_tokens=tokens)))
        if ask:
            changed = ledger.changed()
            assert all(value > seen.get(name, 0) for name, value in changed.items())
            seen |= changed
    seen |= ledger.changed()
    assert seen == ledger.totals()
    assert ledger.changed() == {}


def test_settling_takes_microseconds_and_does_not_slow_down_with_what_was_counted() -> None:
    ledger = Ledger()
    for number in range(2000):
        ledger.settle(facts(f"model-{number}"), outcome())
    one_facts, one_outcome = facts(), outcome()
    took = min(_seconds_for_1000(ledger, one_facts, one_outcome) for _ in range(10))
    assert took / 1000 < 30e-6


def _seconds_for_1000(ledger: Ledger, one_facts, one_outcome) -> float:
    began = time.perf_counter()
    for _ in range(1000):
        ledger.settle(one_facts, one_outcome)
    return time.perf_counter() - began
