"""Budgets' money in plain words, and when it is there again."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.cases.funds import read_funds, resets_in_s
from proxy.cases.given import read_given
from proxy.cases.request import DEFAULT_AT_S
from proxy.policy.document import Document, Place
from proxy.policy.findings import Findings
from proxy.policy.model import Per, Snapshot
from proxy.policy.problem import Mistake
from proxy.routing.decide import Router
from proxy.routing.plan import Plan, Refusal
from proxy.routing.readings import Fund, Funds
from tests.cases.policies import POLICY, compiled

BUDGETS = """
budgets:
  - {name: spill, limit: [$5/day, $60/month, $500/total], match: {tenant: games}}
  - {name: cap, limit: $1/hour, each: tenant}
"""
USD = 10**9


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return compiled(tmp_path, POLICY + BUDGETS)


def funds(snapshot: Snapshot, **values: object) -> Funds:
    findings = Findings(Document(values={(): Place("x", 1, 1)}))
    found = read_funds(values, snapshot, DEFAULT_AT_S, (), findings)
    assert findings.problems == ()
    return found


def test_two_words_stand_for_all_that_matters(snapshot: Snapshot) -> None:
    spent = Fund(free_nano_usd=0, spent_nano_usd=5 * USD, limit_nano_usd=5 * USD, per=Per.DAY, resets_in_s=12 * 3600.0)
    assert funds(snapshot, spill="exhausted") == {"spill": spent}
    (unknown,) = funds(snapshot, spill="unavailable").values()
    assert (unknown.free_nano_usd, unknown.known) == (0, False)


@pytest.mark.parametrize(
    ("said", "free", "spent", "limit", "per"),
    [
        ({}, 5.0, 0, 5, Per.DAY),
        ({"spent": "$4.75"}, 0.25, 4.75, 5, Per.DAY),
        ({"free": 0.25}, 0.25, 4.75, 5, Per.DAY),
        ({"free": 0.02, "spent": 4.5}, 0.02, 4.5, 5, Per.DAY),
        ({"spent": 6}, -1.0, 6, 5, Per.DAY),
        ({"free": 7}, 7.0, 0, 5, Per.DAY),
        ({"spent": 60, "window": "month"}, 0.0, 60, 60, Per.MONTH),
        ({"window": "total"}, 500.0, 0, 500, Per.TOTAL),
    ],
)
def test_what_is_not_said_is_the_rest_of_the_limit(
    snapshot: Snapshot, said: dict[str, object], free: float, spent: float, limit: int, per: Per
) -> None:
    (fund,) = funds(snapshot, spill=said).values()
    assert (fund.free_nano_usd, fund.spent_nano_usd) == (free * USD, spent * USD)
    assert (fund.limit_nano_usd, fund.per, fund.known) == (limit * USD, per, True)


def test_the_name_of_several_stands_for_each(snapshot: Snapshot) -> None:
    assert funds(snapshot, cap="exhausted").keys() == {"cap/bank", "cap/games"}
    assert funds(snapshot, **{"cap/bank": "exhausted"}).keys() == {"cap/bank"}


@pytest.mark.parametrize(
    ("per", "at", "ends"),
    [
        (Per.HOUR, "2026-01-05T12:34:56", "2026-01-05T13:00:00"),
        (Per.DAY, "2026-01-05T12:34:56", "2026-01-06T00:00:00"),
        (Per.DAY, "2026-01-05T00:00:00", "2026-01-06T00:00:00"),
        (Per.WEEK, "2026-01-04T23:59:59", "2026-01-05T00:00:00"),
        (Per.WEEK, "2026-01-05T00:00:00", "2026-01-12T00:00:00"),
        (Per.MONTH, "2026-01-31T12:00:00", "2026-02-01T00:00:00"),
        (Per.MONTH, "2026-12-05T12:00:00", "2027-01-01T00:00:00"),
        (Per.MONTH, "2028-02-29T12:00:00", "2028-03-01T00:00:00"),
    ],
)
def test_windows_end_in_utc_and_weeks_on_sunday(per: Per, at: str, ends: str) -> None:
    now, end = (datetime.fromisoformat(one).replace(tzinfo=UTC).timestamp() for one in (at, ends))
    assert resets_in_s(per, now) == end - now


@given(st.sampled_from([per for per in Per if per is not Per.TOTAL]), st.integers(0, 250_000_000_000))
def test_a_window_ends_later_and_the_next_one_then_begins(per: Per, at: int) -> None:
    left = resets_in_s(per, at)
    assert left is not None
    assert 0 < left <= 31 * 86400
    following = resets_in_s(per, at + left)
    assert following is not None
    assert following >= 3600


def test_a_total_never_ends(snapshot: Snapshot) -> None:
    assert resets_in_s(Per.TOTAL, 0) is None
    (fund,) = funds(snapshot, spill={"window": "total", "free": 0}).values()
    assert fund.resets_in_s is None


def test_the_time_that_is_left_may_be_stated(snapshot: Snapshot) -> None:
    (fund,) = funds(snapshot, spill={"resets_in": "90s"}).values()
    assert fund.resets_in_s == 90


@pytest.mark.parametrize(
    ("budgets", "message", "hint"),
    [
        ({"spil": "exhausted"}, "unknown budget `spil`", "did you mean `spill`?"),
        ({"spill": "exhaused"}, "`budgets.spill`: expected `exhausted`, `unavailable` or a mapping", "did you mean"),
        ({"spill": 5}, "`budgets.spill`: expected a mapping, got `5`", "it takes `free:`, `spent:`"),
        ({"spill": {"spend": 5}}, "unknown key `spend` in `budgets.spill`", "did you mean `spent`?"),
        ({"spill": {"spent": "lots"}}, "`budgets.spill.spent`: expected dollars, got `lots`", "write `1.50`"),
        ({"spill": {"window": "week"}}, "`budgets.spill.window`: budget `spill` has no limit for a `week`", "it has: "),
        ({"cap": {"window": "week"}}, "`budgets.cap.window`: budget `cap/bank` has no limit for a `week`", "it has: "),
    ],
)
def test_what_makes_no_sense_is_a_mistake(
    snapshot: Snapshot, budgets: dict[str, object], message: str, hint: str
) -> None:
    with pytest.raises(Mistake) as raised:
        read_given(snapshot, {"model": "chat", "tenant": "bank"}, budgets=budgets)
    assert raised.value.message.startswith(message)
    assert raised.value.hint.startswith(hint)


def test_the_router_takes_what_was_given(snapshot: Snapshot) -> None:
    def decided(model: str, budgets: dict[str, object]) -> Plan | Refusal:
        one = read_given(snapshot, {"model": model, "tenant": "games"}, budgets=budgets)
        return Router(snapshot).decide(one.facts, one.readings, one.now, one.draw, one.rates, one.funds)

    rich, poor = decided("overflow", {}), decided("overflow", {"spill": "exhausted"})
    assert isinstance(rich, Plan)
    assert isinstance(poor, Refusal)
    assert (poor.code, poor.rule, poor.retry_after_s) == ("budget_exceeded", "budget:spill", 12 * 3600)
    sunk = decided("chat", {"spill": "exhausted"})
    assert isinstance(sunk, Plan)
    assert {attempt.target.name for attempt in sunk.attempts} == {"own"}
