"""Which routes, and which sides of which rules, the cases of a policy have seen."""

from __future__ import annotations

from pathlib import Path

from proxy.cases.coverage import Coverage, coverage
from proxy.cases.given import Given, read_given
from proxy.policy.model import Snapshot
from proxy.routing.decide import Router
from tests.cases.policies import OPEN, POLICY, compiled


def seen(snapshot: Snapshot, *given: Given) -> Coverage:
    router = Router(snapshot)
    decisions = [router.decide(one.facts, one.readings, one.now, one.draw, one.rates, one.funds) for one in given]
    return coverage(snapshot, zip(given, decisions, strict=True))


def missing(found: Coverage) -> set[str]:
    return {str(side) for side in found.missing}


def test_without_cases_everything_is_missing(tmp_path: Path) -> None:
    found = seen(compiled(tmp_path))
    assert found.share == 0
    assert missing(found) == {
        "route eu never matched",
        "route eu require.region never kept",
        "route eu require.region never broken",
        "route default never matched",
        "route default want.ttft_p99 never kept",
        "route default want.ttft_p99 never broken",
        "key bank/ci rpm never kept",
        "key bank/ci rpm never broken",
    }


def test_every_side_is_seen_by_a_case_of_its_own(tmp_path: Path) -> None:
    snapshot = compiled(tmp_path)
    bank, games = {"model": "chat", "tenant": "bank"}, {"model": "chat", "tenant": "games"}
    both_sides = read_given(snapshot, bank)
    assert (
        missing(seen(snapshot, both_sides)) & {"route eu never matched", "route eu require.region never broken"}
        == set()
    )
    fast = read_given(snapshot, games, {"own": {"ttft_p99": "1s"}})
    slow = read_given(snapshot, games, {"own": {"ttft_p99": "3s"}})
    unmeasured = read_given(snapshot, games, {"own": {"in_flight": 1}})
    assert "route default want.ttft_p99 never kept" in missing(seen(snapshot, unmeasured, slow))
    assert "route default want.ttft_p99 never broken" in missing(seen(snapshot, unmeasured, fast))
    ci = {"model": "chat", "key": "bank/ci"}
    idle, spent = read_given(snapshot, ci), read_given(snapshot, ci, {}, {"key:bank/ci": {"requests": 60}})
    everything = seen(snapshot, both_sides, fast, slow, idle, spent)
    assert everything.missing == ()
    assert everything.share == 1.0


def test_a_side_that_nothing_can_show_is_not_asked_for(tmp_path: Path) -> None:
    routes = "routes: [{name: default, require: {region: '*', usd_per_mtok: 9}, want: {lane: shared}}]"
    policy = OPEN.replace("region: us,", "region: us,") + routes
    assert missing(seen(compiled(tmp_path, policy))) == {
        "route default never matched",
        "route default require.region never kept",
        "route default require.usd_per_mtok never kept",
        "route default want.lane never kept",
        "route default want.lane never broken",
    }


def test_shadows_and_limits_of_routes_count(tmp_path: Path) -> None:
    routes = """
routes:
  - name: default
    require: {uptime: {is: 99%, mode: shadow}, max_usd_per_request: {is: 0.01, mode: shadow}, rpm: 10}
    want: {mode: shadow, region: eu-*}
"""
    snapshot = compiled(tmp_path, OPEN + routes)
    everything = missing(seen(snapshot))
    assert everything == {"route default never matched"} | {
        f"route default {rule} never {side}"
        for rule in ("shadow require.uptime", "shadow require.max_usd_per_request", "require.rpm", "shadow want.region")
        for side in ("kept", "broken")
    }
    cheap = read_given(snapshot, {"model": "chat"}, {"api": {"uptime": "100%"}})
    dear = read_given(
        snapshot,
        {"model": "chat", "input_tokens": "1M"},
        {"api": {"uptime": "90%"}},
        {"route:default": {"requests": 10}},
    )
    assert missing(seen(snapshot, cheap, dear)) == set()


BUDGETS = """
budgets:
  - {name: spill, limit: $5/day, match: {model: chat}}
  - {name: cap, limit: $5/day, each: tenant, mode: shadow}
  - {name: small, limit: $5/day, match: {tenant: bank}, exhausted: reject}
"""


def test_a_budget_is_seen_with_money_and_without(tmp_path: Path) -> None:
    snapshot = compiled(tmp_path, POLICY + BUDGETS)
    budgets = {f"budget {name} limit never {side}" for name in ("spill", "cap", "small") for side in ("kept", "broken")}
    assert {side for side in missing(seen(snapshot)) if side.startswith("budget")} == budgets
    games = {"model": "chat", "tenant": "games"}
    rich, poor = read_given(snapshot, games), read_given(snapshot, games, budgets={"spill": "exhausted"})
    assert {side for side in missing(seen(snapshot, rich, poor)) if side.startswith("budget")} == budgets - {
        "budget spill limit never kept",
        "budget spill limit never broken",
        "budget cap limit never kept",
    }
    shadow = read_given(snapshot, games, budgets={"cap/games": "exhausted"})
    assert "budget cap limit never broken" not in missing(seen(snapshot, shadow))


def test_a_request_that_no_route_takes_sees_no_route(tmp_path: Path) -> None:
    snapshot = compiled(tmp_path, POLICY)
    bank = read_given(snapshot, {"model": "overflow", "tenant": "bank"})
    assert seen(snapshot, bank).share == 0
