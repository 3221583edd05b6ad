"""The break-even line and the price that is held against it: of the same tokens, or of none."""

from __future__ import annotations

from proxy.live.break_even import BreakEven, break_even
from proxy.policy.model import Lane
from tests.meters.reported import lately, row


def test_targets_count_by_their_tokens() -> None:
    large = row(input_tokens=2_000_000, output_tokens=1_000_000, nano_usd=6_000, shared_nano_usd=3_000)
    small = row(input_tokens=1_000_000, nano_usd=1_000, shared_nano_usd=2_000)
    assert break_even(lately(large, small)) == BreakEven(7_000 / 4, 5_000 / 4)


def test_what_cannot_be_compared_is_in_neither() -> None:
    known = row(input_tokens=1_000_000, nano_usd=1_000, shared_nano_usd=2_000)
    unpriced = row(input_tokens=5_000_000, nano_usd=None, shared_nano_usd=9_000)
    alone = row(input_tokens=5_000_000, nano_usd=9_000, shared_nano_usd=None)
    api = row(Lane.SHARED, input_tokens=5_000_000, nano_usd=9_000, shared_nano_usd=1)
    assert break_even(lately(known, unpriced, alone, api)) == BreakEven(1_000, 2_000)


def test_without_tokens_there_is_no_price() -> None:
    assert break_even(None) == break_even(lately()) == BreakEven()
    assert break_even(lately(row(nano_usd=1_000, shared_nano_usd=0))) == BreakEven()
