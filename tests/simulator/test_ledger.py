"""The upstream's own truth about tokens, money and times."""

from __future__ import annotations

from proxy.simulator.asks import CHAT, Ask
from proxy.simulator.ledger import Ledger

ASK = Ask(path=CHAT, model="m", input_tokens=1000)


def test_what_was_generated_counts_even_when_the_client_left() -> None:
    ledger = Ledger(input_price=500_000_000, output_price=2_000_000_000)
    entry = ledger.arrive(ASK, "sim-1", "req-1")
    ledger.accept(entry, 1000)
    ledger.emit(entry, 7)
    assert (ledger.open, ledger.totals.output_tokens) == (1, 7)
    ledger.leave(entry)
    assert (ledger.open, ledger.totals.left, ledger.totals.output_tokens) == (0, 1, 7)
    assert ledger.totals.nano_usd == 1000 * 500 + 7 * 2000
    assert entry.left_s is not None
    assert entry.ended_s is None


def test_a_refused_request_costs_nothing() -> None:
    ledger = Ledger(input_price=1_000_000)
    ledger.end(ledger.arrive(ASK, "sim-1", ""), 503)
    assert (ledger.totals.requests, ledger.totals.refused, ledger.totals.nano_usd) == (1, 1, 0)


def test_totals_outlive_the_entries() -> None:
    ledger = Ledger(keep=2)
    for number in range(5):
        entry = ledger.arrive(ASK, f"sim-{number}", "")
        ledger.accept(entry, 10)
        ledger.emit(entry, 1)
        ledger.end(entry, 200)
    assert len(ledger.entries) == 2
    assert (ledger.totals.requests, ledger.totals.input_tokens, ledger.totals.output_tokens) == (5, 50, 5)
