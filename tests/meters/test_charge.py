"""What one attempt costs. The sum itself is tested in tests/routing/test_cost.py."""

from __future__ import annotations

from dataclasses import replace

from proxy.meters.charge import charge_of
from proxy.policy.model import Lane
from proxy.routing.outcome import Usage
from proxy.routing.work import work_us
from tests.meters.examples import LLAMA, TOGETHER, outcome


def test_a_shared_attempt_costs_its_tokens() -> None:
    charge = charge_of(outcome(TOGETHER, Usage(input_tokens=1_000_000, output_tokens=500_000)))
    assert (charge.nano_usd, charge.lane, charge.price_source, charge.priced) == (
        1_320_000_000,
        Lane.SHARED,
        "policy",
        True,
    )
    assert charge.work_us == 0


def test_a_dedicated_attempt_costs_nothing_at_the_margin_but_takes_its_share_of_the_engine() -> None:
    charge = charge_of(outcome(LLAMA))
    assert (charge.nano_usd, charge.lane, charge.price_source, charge.priced) == (0, Lane.DEDICATED, "gpu-hours", True)
    assert charge.work_us == work_us(charge.usage) > 0


def test_tokens_without_a_known_price_are_not_silently_free() -> None:
    unpriced = replace(TOGETHER, price=None)
    charge = charge_of(outcome(unpriced))
    assert (charge.nano_usd, charge.price_source, charge.priced) == (0, "unknown", False)
    assert charge_of(outcome(unpriced, Usage())).priced


def test_an_estimate_is_marked_on_the_bill() -> None:
    assert charge_of(outcome(TOGETHER, Usage(input_tokens=7, estimated=True))).estimated
    assert not charge_of(outcome(TOGETHER, Usage(input_tokens=7))).estimated
