"""Which exclusions say that GPUs were lacking."""

from __future__ import annotations

from proxy.routing.plan import Exclusion
from proxy.routing.shortages import short


def test_a_gate_or_a_budget_is_no_shortage() -> None:
    rules = ["capacity", "require.region", "ttft", "budget:growth", "breaker", "want.ttft_p99", "tenant.rpm"]
    assert short([Exclusion(rule, rule, "", "", False) for rule in rules]) == ["capacity", "ttft", "breaker"]
