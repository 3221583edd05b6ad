"""Every rule that can keep a target out has its clause."""

from __future__ import annotations

import pytest
from proxy.routing import gates
from proxy.routing.explain.clauses import barred, is_for_good
from proxy.routing.plan import Exclusion


@pytest.mark.parametrize(
    ("rule", "observed", "limit", "clause"),
    [
        ("capacity", "64 of 64 in flight", "64 in flight", "it is full, with 64 of 64 in flight"),
        (
            "breaker",
            "open, next probe in 3.0 s",
            "closed",
            "it is out of rotation after failures (open, next probe in 3.0 s)",
        ),
        ("asleep", "no replica is ready", "one replica", "it is asleep (no replica is ready)"),
        ("engine_full", "said so 0.1 s ago", "not full", "its engine is full (said so 0.1 s ago)"),
        (
            "quota",
            "2 of 60 requests left for 9 s",
            "-",
            "its provider's limit is nearly used up (2 of 60 requests left for 9 s)",
        ),
        (
            "ttft",
            "predicted 2 s (1 stream)",
            "1.8 s",
            "the request's ttft would be too long there: predicted 2 s (1 stream), to stay below 1.8 s",
        ),
        ("kv", "470k tokens", "447k tokens", "its memory would not hold the request, with 470k tokens of 447k tokens"),
        (
            "bid",
            "worth $2 an engine hour",
            "$3 an engine hour",
            "others pay more for its time: the request is worth $2 an engine hour, and they $3 an engine hour",
        ),
        ("endpoint", "chat", "embeddings", "it does not serve the endpoint `chat`, only: embeddings"),
        ("lane_override", "dedicated", "shared", "it is dedicated, and the caller asked for shared"),
        ("target_override", "a", "b", "the caller asked for `b` and no other"),
        ("supports", "tools", "vision", "the request needs tools, and it supports: vision"),
        (
            "context_window",
            "about 9000 tokens",
            "8000 tokens",
            "the request takes about 9000 tokens, and its context window is only 8000 tokens",
        ),
        ("require.training", "true", "false", "it trains on prompts"),
        ("require.training", "unknown", "false", "it does not say that it never trains on prompts"),
        ("require.region", "us", "eu-*", "its region is us, and the route requires eu-*"),
        (
            "budget:spill",
            "$500 spent",
            "$500 a day",
            "budget `spill` has no money left for it ($500 spent, of $500 a day)",
        ),
        ("budget:spill", "price unknown", "a price", "its price is unknown, and hard budget `spill` cannot count it"),
        ("want.ttft_p99", "2.31 s", "2.00 s", "its ttft_p99 is 2.31 s, and the route wants 2.00 s"),
    ],
)
def test_clauses(rule: str, observed: str, limit: str, clause: str) -> None:
    assert barred(Exclusion("target", rule, observed, limit, True)) == clause


def test_money_comes_back_and_a_gate_stays() -> None:
    assert is_for_good(Exclusion("target", "require.region", "us", "eu-*", True))
    assert not is_for_good(Exclusion("target", "budget:spill", "$5 spent", "$5 a day", True))
    assert not is_for_good(Exclusion("target", "capacity", "8 of 8", "8", False))


def test_no_gate_is_forgotten() -> None:
    """The words for whatever is not listed are made for rules of a route."""
    for rule in gates.RULES:
        clause = barred(Exclusion("target", rule, "seen", "limit", True))
        assert rule.startswith("require.") or "and the route" not in clause
