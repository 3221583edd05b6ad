"""Every attempt adds up, once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from proxy.meters.aggregates import tally
from proxy.meters.begun import begun
from proxy.meters.fields import COUNTERS, SERIES
from proxy.meters.ledger import NOT_NOTED, Ledger
from proxy.policy.model import Key, Tenant
from proxy.routing.outcome import Failure, Usage
from proxy.routing.plan import Cause
from proxy.routing.work import work_us
from tests.meters.examples import LLAMA, ROUTE, TOGETHER, facts, outcome, series


def counted(ledger: Ledger, name: str | None = None) -> dict[str, int]:
    return tally(ledger.totals().get(series() if name is None else name, ()))


def test_an_answered_attempt() -> None:
    ledger = Ledger()
    usage = Usage(input_tokens=1000, output_tokens=500, cached_input_tokens=200, reasoning_tokens=100)
    ledger.settle(facts(), ROUTE, outcome(TOGETHER, usage, total_s=1.5))
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
    ledger.settle(facts(), ROUTE, outcome(LLAMA, Usage(), failure=Failure.BROKEN))
    ledger.settle(facts(), ROUTE, outcome(TOGETHER, cause=Cause.FALLBACK, ordinal=1))
    first, second = counted(ledger, series(target="llama-eu", lane="dedicated")), counted(ledger)
    assert (first["requests"], first["attempts"], first["failures"]) == (1, 1, 1)
    assert (second.get("requests"), second["attempts"], second["fallbacks"]) == (None, 1, 1)


def test_spilled_is_counted_where_the_spill_was_taken() -> None:
    """A full target passes the request on: only the one that takes it has it counted as spilled."""
    ledger = Ledger()
    ledger.settle(facts(), ROUTE, outcome(LLAMA, Usage(), failure=Failure.FULL))
    other = replace(TOGETHER, name="other")
    ledger.settle(facts(), ROUTE, outcome(other, Usage(), failure=Failure.FULL, cause=Cause.SPILLOVER, ordinal=1))
    ledger.settle(facts(), ROUTE, outcome(TOGETHER, cause=Cause.SPILLOVER, ordinal=2))
    assert "spilled" not in counted(ledger, series(target="other"))
    assert counted(ledger)["spilled"] == 1


@pytest.mark.parametrize("failure", list(Failure))
def test_every_way_of_failing_is_counted_and_only_the_client_s_own_is_not_the_upstream_s(failure: Failure) -> None:
    ledger = Ledger()
    ledger.settle(facts(), ROUTE, outcome(TOGETHER, Usage(input_tokens=7), failure=failure))
    abandoned = int(failure in (Failure.CLIENT_LEFT, Failure.STALLED_CLIENT))
    failed = int(not abandoned and failure is not Failure.OUTRUN)  # to be slower than a copy is no failure
    counts = counted(ledger)
    assert (counts.get("abandoned", 0), counts.get("failures", 0)) == (abandoned, failed)
    assert counts["input_tokens"] == 7


def test_estimates_and_missing_prices_have_counters_of_their_own() -> None:
    ledger = Ledger()
    unpriced = replace(TOGETHER, price=None)
    ledger.settle(facts(), ROUTE, outcome(unpriced, Usage(input_tokens=10, output_tokens=5, estimated=True)))
    counts = counted(ledger)
    assert (counts["estimated_tokens"], counts["estimated_attempts"], counts["unpriced_attempts"]) == (15, 1, 1)
    ledger.settle(facts(), ROUTE, outcome(TOGETHER, Usage(input_tokens=1_000_000, estimated=True)))
    known = counted(ledger)
    assert known["estimated_nano_usd"] == known["nano_usd"] == 880_000_000
    assert "nano_usd" not in counts


def test_what_else_a_bill_is_made_of() -> None:
    ledger = Ledger()
    usage = Usage(
        input_tokens=100, output_tokens=10, cache_write_tokens=40, audio_input_tokens=7, audio_output_tokens=2
    )
    for ttft_s in (0.25, None, 0.5):
        ledger.settle(facts(), ROUTE, structs.replace(outcome(LLAMA, usage), ttft_s=ttft_s))
    counts = counted(ledger, series(target="llama-eu", lane="dedicated"))
    assert (counts["cache_write_tokens"], counts["audio_tokens"]) == (120, 27)
    assert (counts["ttft_ms"], counts["ttft_count"]) == (750, 2)
    assert counts["work_us"] == 3 * work_us(usage)


def test_every_label_has_counts_of_its_own() -> None:
    ledger = Ledger()
    bank = Tenant(name="bank")
    ledger.settle(facts("a", bank), ROUTE, outcome(TOGETHER))
    ledger.settle(facts("b", bank), ROUTE, outcome(LLAMA))
    ledger.settle(facts("a", bank), "other", outcome(TOGETHER))
    ledger.settle(facts("a", bank, Key(tenant=bank, name="bank/ci")), ROUTE, outcome(TOGETHER))
    assert ledger.totals().keys() == {
        series(tenant="bank", model="a"),
        series(tenant="bank", model="b", target="llama-eu", lane="dedicated"),
        series(tenant="bank", model="a", route="other"),
        series(tenant="bank", model="a", key="bank/ci"),
    }


class Notes:
    """A journal that remembers the last it was told."""

    def __init__(self) -> None:
        self.places: list[tuple[str, str, int]] = []
        self.noted: dict[int, tuple[int, ...]] = {}
        self.open: dict[int, int] = {}
        self.settled: list[int] = []
        self.begun: list[tuple[int, ...]] = []

    def cell(self, kind: str, name: str, width: int) -> int:
        self.places.append((kind, name, width))
        return len(self.places) - 1

    def note(self, cell: int, values: Sequence[int], settles: int) -> None:
        self.noted[cell] = tuple(values)
        self.settled.append(settles)

    def begin(self, cell: int, values: Sequence[int]) -> int:
        assert cell < len(self.places)
        self.begun.append(tuple(values))
        self.open[100 + len(self.open)] = 0
        return 99 + len(self.open)

    def progress(self, attempt: int, value: int) -> None:
        self.open[attempt] = value


def test_whatever_is_settled_is_noted_at_once() -> None:
    journal = Notes()
    ledger = Ledger(journal)
    place = ledger.place(facts(), ROUTE, TOGETHER)
    assert ledger.totals() == {}
    for target in (LLAMA, TOGETHER, TOGETHER):
        ledger.settle(facts(), ROUTE, outcome(target))
        assert {journal.places[n][1]: vector for n, vector in journal.noted.items()} == ledger.totals()
    assert journal.places[place] == (SERIES, series(), len(COUNTERS))
    assert Ledger().place(facts(), ROUTE, TOGETHER) == -1


def test_an_attempt_is_noted_from_its_beginning_to_its_end() -> None:
    journal, ended = Notes(), outcome()
    ledger = Ledger(journal)
    number = ledger.begin(facts(), ROUTE, ended.attempt)
    ledger.progress(number, 17)
    assert journal.open == {number: 17}
    ledger.settle(facts(), ROUTE, ended, number)
    assert journal.settled == [number]
    without = Ledger()
    assert without.begin(facts(), ROUTE, ended.attempt) == NOT_NOTED
    without.progress(NOT_NOTED, 5)


def test_what_is_noted_at_the_beginning_is_of_the_very_attempt_and_of_the_target_as_it_is_now() -> None:
    journal = Notes()
    ledger = Ledger(journal)
    assert TOGETHER.price is not None
    dearer = replace(TOGETHER, price=replace(TOGETHER.price, input_nano_usd_per_mtok=7))
    tries = [
        (outcome(target, ordinal=ordinal).attempt, tokens)
        for target, ordinal, tokens in ((TOGETHER, 0, 10), (TOGETHER, 1, 20), (dearer, 0, 30), (LLAMA, 0, 40))
    ]
    for attempt, tokens in tries:
        ledger.begin(structs.replace(facts(), input_tokens=tokens), ROUTE, attempt)
    assert journal.begun == [tuple(begun(attempt, tokens)) for attempt, tokens in tries]
    assert journal.begun[0] != journal.begun[2]


@given(st.lists(st.tuples(st.sampled_from([LLAMA, TOGETHER]), st.integers(0, 1000), st.booleans()), max_size=30))
def test_changes_add_up_to_the_totals_whenever_they_are_asked_for(steps: list[tuple]) -> None:
    ledger, seen = Ledger(), {}
    for target, tokens, ask in steps:
        ledger.settle(facts(), ROUTE, outcome(target, Usage(input_tokens=tokens)))
        if ask:
            changed = ledger.changed()
            assert all(sum(vector) > sum(seen.get(name, ())) for name, vector in changed.items())
            seen |= changed
    seen |= ledger.changed()
    assert seen == ledger.totals()
    assert ledger.changed() == {}


def test_settling_takes_microseconds_and_does_not_slow_down_with_what_was_counted() -> None:
    ledger = Ledger()
    for number in range(2000):
        ledger.settle(facts(f"model-{number}"), ROUTE, outcome())
    one_facts, one_outcome = facts(), outcome()
    took = min(_seconds_for_1000(ledger, one_facts, one_outcome) for _ in range(10))
    assert took / 1000 < 30e-6


def _seconds_for_1000(ledger: Ledger, one_facts, one_outcome) -> float:
    began = time.perf_counter()
    for _ in range(1000):
        ledger.settle(one_facts, ROUTE, one_outcome)
    return time.perf_counter() - began
