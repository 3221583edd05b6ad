"""What is stated is compared with what the router says, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from proxy.cases.expect import ASPECTS, by_subject, differences, planned, read_expected
from proxy.cases.given import read_given
from proxy.policy.document import Document, Place
from proxy.policy.findings import Findings
from proxy.policy.model import Snapshot
from proxy.routing.decide import Router
from proxy.routing.plan import Exclusion
from tests.cases.policies import OPEN, compiled, decided

GAMES: dict[str, object] = {"model": "chat", "tenant": "games"}
BANK: dict[str, object] = {"model": "chat", "tenant": "bank"}
FULL: dict[str, object] = {"own": {"in_flight": 8}}


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return compiled(tmp_path)


def findings() -> Findings:
    return Findings(Document(values={(): Place("x", 1, 1)}))


def stated(snapshot: Snapshot, **keys: Any) -> Any:
    noted = findings()
    expected = read_expected({name.rstrip("_"): value for name, value in keys.items()}, snapshot, (), noted)
    assert noted.problems == ()
    return expected


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ({"route": "default"}, {"route": "eu"}),
        ({"attempts": ["api"]}, {"attempts": ["own", "api"]}),
        ({"attempts": "api"}, {"attempts": "own"}),
        ({"first": "api"}, {"first": "own"}),
        ({"cause": "spillover"}, {"cause": "preferred"}),
        ({"lane": "shared"}, {"lane": "dedicated"}),
        ({"relaxed": False}, {"relaxed": True}),
        ({"reason": "at capacity"}, {"reason": "breaker"}),
        ({"excluded": {"own": "capacity"}}, {"excluded": {"own": "breaker"}}),
        ({"excluded": {"own": ["capacity"]}}, {"excluded": {}}),
        ({"shadow": {}}, {"shadow": {"api": "require.region"}}),
        ({"not_": ["own"]}, {"not_": ["own", "api"]}),
        ({"downgraded": False}, {"downgraded": "overflow"}),
    ],
)
def test_a_plan_is_as_stated_or_differs_in_that_key(
    snapshot: Snapshot, right: dict[str, Any], wrong: dict[str, Any]
) -> None:
    decision = decided(snapshot, GAMES, FULL)
    assert differences(stated(snapshot, **right), decision) == ()
    (difference,) = differences(stated(snapshot, **wrong), decision)
    assert difference.key == next(iter(wrong)).rstrip("_")


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ({"refused": "lane_override"}, {"refused": "capacity"}),
        ({"refused": "lane_override_not_allowed"}, {"attempts": ["own"]}),
        ({"status": 403}, {"status": 503}),
        ({"retry": False}, {"retry": True}),
        ({"route": "eu"}, {"cause": "preferred"}),
        ({"reason": "does not let callers choose"}, {"first": "own"}),
        ({"not_": ["own", "api"]}, {"lane": "dedicated"}),
    ],
)
def test_so_is_a_refusal(snapshot: Snapshot, right: dict[str, Any], wrong: dict[str, Any]) -> None:
    decision = decided(snapshot, BANK | {"lane": "shared"})
    assert differences(stated(snapshot, **right), decision) == ()
    assert len(differences(stated(snapshot, **wrong), decision)) == 1


def test_a_model_that_is_served_instead_is_told_by_its_name(tmp_path: Path) -> None:
    budget = "budgets: [{name: cap, limit: $5/day, match: {model: overflow}, exhausted: {downgrade: chat}}]"
    snapshot = compiled(tmp_path, OPEN + budget)
    spent = read_given(snapshot, {"model": "overflow"}, budgets={"cap": "exhausted"})
    decision = Router(snapshot).decide(spent.facts, spent.readings, spent.now, spent.draw, spent.rates, spent.funds)
    assert differences(stated(snapshot, downgraded="chat", excluded={"api": "budget:cap"}), decision) == ()
    assert len(differences(stated(snapshot, downgraded=False), decision)) == 1


def test_each_target_of_a_plan_counts_once(snapshot: Snapshot) -> None:
    assert planned(decided(snapshot, GAMES)) == ("own", "api")


def test_a_rate_is_excluded_by_the_name_of_its_scope() -> None:
    over = Exclusion("", "tenant.rpm", "600 used by tenant:bank", "600", True)
    twice = [Exclusion("api", rule, "", "", False) for rule in ("want.uptime", "want.ttft_p99", "want.uptime")]
    assert by_subject([over, *twice]) == {
        "tenant:bank": ("tenant.rpm",),
        "api": ("want.uptime", "want.ttft_p99"),
    }


@pytest.mark.parametrize(
    ("value", "message", "hint"),
    [
        ([], "expected a mapping, got a list", "it takes `route:`"),
        ({"atempts": ["own"]}, "unknown key `atempts` in `expect`", "did you mean `attempts`?"),
        ({"attempts": ["onw"]}, "unknown target `onw`", "known: `api`, `own`"),
        ({"not": "onw"}, "unknown target `onw`", "known: `api`, `own`"),
        ({"excluded": {"onw": "capacity"}}, "unknown target `onw`", "known: `api`, `own`"),
        ({"excluded": ["own"]}, "expected a mapping, got a list", "write `{target: rule}`"),
        ({"route": "defualt"}, "unknown route `defualt`", "did you mean `default`?"),
        ({"cause": "fallback"}, "expected `preferred` or `spillover`, got `fallback`", "known: "),
        ({"status": 200}, "expected the status of a refusal, got `200`", "write `429`"),
        ({"attempts": []}, "the list is empty", "list at least one"),
        ({"downgraded": "overflw"}, "unknown model `overflw`", "did you mean `overflow`?"),
        ({"downgraded": True}, "expected text, got `true`", "put it in quotes"),
    ],
)
def test_what_cannot_be_expected_is_a_mistake(snapshot: Snapshot, value: object, message: str, hint: str) -> None:
    noted = findings()
    read_expected(value, snapshot, ("expect",), noted)
    (problem,) = noted.problems
    assert problem.message == message
    assert problem.hint.startswith(hint)


def test_every_aspect_has_been_compared() -> None:
    """So that a new one is not forgotten here."""
    tried = {"route", "attempts", "first", "cause", "lane", "relaxed", "reason", "excluded", "shadow", "not"}
    assert ASPECTS.keys() == tried | {"refused", "status", "retry", "downgraded"}
