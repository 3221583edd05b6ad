"""One request under two policies: what is different, and where its data may newly go."""

from __future__ import annotations

from pathlib import Path

import pytest
from proxy.cases.compare import Side, View, changes, full_readings, own_tags, widenings
from proxy.cases.request import Request
from proxy.policy.model import Lane
from tests.cases.policies import OPEN, POLICY, compiled

BANK = Request(model="chat", tenant="bank")
GAMES = Request(model="chat", tenant="games")


def side(folder: Path, text: str = POLICY) -> Side:
    snapshot = compiled(folder, text)
    return Side(snapshot, {"idle": {}, "full": full_readings(snapshot)})


def news(request: Request, before: Side, after: Side) -> list[tuple[str, str, str]]:
    return [(one.kind, one.value, one.target) for one in widenings(request, before, after)]


def test_a_view_is_what_is_decided_in_a_state(tmp_path: Path) -> None:
    both = side(tmp_path)
    assert both.view(GAMES, "idle") == View(route="default", targets=("own", "api"), lane=Lane.DEDICATED)
    # 1000 tokens in at $1/M and 1024 out at $2/M
    full = View(route="default", targets=("api",), lane=Lane.SHARED, nano_usd=3_048_000)
    assert both.view(GAMES, "full") == full
    assert both.view(BANK, "full") == View(route="eu", refused="503 at_capacity")


def test_those_who_are_not_let_in_are_refused_as_the_proxy_does(tmp_path: Path) -> None:
    both = side(tmp_path)
    assert both.view(Request(model="chat", tenant="nobody"), "idle").refused == "401 invalid_api_key"
    assert both.view(Request(model="chat"), "idle").refused == "401 invalid_api_key"
    assert both.view(Request(model="chat", tenant="games", tags=("gdpr",)), "idle").refused == "403 tag_not_allowed"
    assert both.view(Request(model="chta", tenant="games"), "idle").refused == "404 model_not_found"
    opened = side(tmp_path, OPEN + "auth: none\n")
    assert opened.view(Request(model="chat", tenant="nobody", tags=("any",)), "idle").targets == ("own", "api")


SERVED = View(route="a", targets=("x", "y"), lane=Lane.DEDICATED, nano_usd=0)


@pytest.mark.parametrize(
    ("after", "found"),
    [
        (SERVED, []),
        (View(route="a", refused="503 at_capacity"), [("refusal", "served -> 503 at_capacity")]),
        (View(route="b", targets=("x", "y"), lane=Lane.DEDICATED), []),
        (View(route="a", targets=("y", "x"), lane=Lane.DEDICATED), [("first target", "x -> y")]),
        (
            View(route="a", targets=("z",), lane=Lane.SHARED, nano_usd=3),
            [("first target", "x -> z")],
        ),
        (View(route="a", targets=("x",), lane=Lane.DEDICATED), [("fallbacks", "y -> none")]),
        (View(route="a", targets=("x", "y"), lane=Lane.DEDICATED, nano_usd=None), [("cost", "x")]),
    ],
)
def test_what_becomes_of_a_request_is_named(after: View, found: list[tuple[str, str]]) -> None:
    assert list(changes(SERVED, after)) == found


def test_a_gate_taken_away_widens(tmp_path: Path) -> None:
    strict, loose = side(tmp_path), side(tmp_path, POLICY.replace("require: {region: eu-*}, ", ""))
    assert news(BANK, strict, loose) == [("region", "us", "api")]
    assert news(BANK, loose, strict) == []
    assert news(GAMES, strict, loose) == []


def test_so_does_one_that_is_only_recorded_from_now_on(tmp_path: Path) -> None:
    strict, shadow = side(tmp_path), side(tmp_path, POLICY.replace("{name: eu,", "{name: eu, mode: shadow,"))
    assert news(BANK, strict, shadow) == [("region", "us", "api")]


def test_so_does_what_a_target_says_of_itself(tmp_path: Path) -> None:
    kept = POLICY.replace("region: us,", "region: us, retention: 7d, training: false,")
    kept = kept.replace("region: eu-west-1", "region: eu-west-1\n    retention: zero\n    training: false")
    before = side(tmp_path, kept)
    assert news(GAMES, before, side(tmp_path, kept.replace("retention: 7d", "retention: 30d"))) == [
        ("retention", "30d", "api")
    ]
    assert news(GAMES, before, side(tmp_path, kept.replace("retention: 7d, ", ""))) == [("retention", "unknown", "api")]
    assert news(GAMES, before, side(tmp_path, kept.replace("training: false,", "training: true,"))) == [
        ("training", "true", "api")
    ]
    assert news(GAMES, side(tmp_path, kept.replace("retention: 7d", "retention: 30d")), before) == []


def test_a_request_that_is_served_at_last_widens_by_where_it_goes(tmp_path: Path) -> None:
    kept = POLICY.replace("region: eu-west-1", "region: eu-west-1\n    retention: zero\n    training: false")
    request = Request(model="chat", tenant="bank", lane="dedicated")
    before, after = side(tmp_path, kept), side(tmp_path, kept.replace(", lane_override: false", ""))
    assert news(request, before, after) == [("region", "eu-west-1", "own")]


def test_what_has_no_room_now_may_be_reached_later(tmp_path: Path) -> None:
    """The lawful set is compared, and not the plan of the moment."""
    both = side(tmp_path)
    assert [target.name for target in both.reach(GAMES)] == ["own", "api"]
    assert both.route_of(GAMES) == "default"


def test_a_target_that_cannot_take_the_request_is_not_reached(tmp_path: Path) -> None:
    narrow = side(tmp_path, POLICY.replace("region: us,", "region: us, context_window: 4k,"))
    assert [target.name for target in narrow.reach(GAMES)] == ["own", "api"]
    assert [target.name for target in narrow.reach(Request(model="chat", tenant="games", input_tokens=5000))] == ["own"]


def test_a_new_model_widens_what_the_caller_could_reach_with_any(tmp_path: Path) -> None:
    before = side(tmp_path, POLICY.replace("    models: [chat]\n", ""))
    after = side(
        tmp_path,
        POLICY.replace("    models: [chat]\n", "").replace("models:\n", "models:\n  new: [own, api]\n", 1)
        + "  # the end\n",
    )
    assert news(Request(model="new", tenant="bank"), before, after) == []
    loose = side(
        tmp_path,
        POLICY.replace("    models: [chat]\n", "")
        .replace("models:\n", "models:\n  new: [own, api]\n", 1)
        .replace("match: {tags: [gdpr]}", "match: {tags: [gdpr], model: chat}"),
    )
    assert news(Request(model="new", tenant="bank"), before, loose) == [("region", "us", "api")]
    assert news(Request(model="new", tenant="games"), before, loose) == []


SPILL = "budgets: [{name: spill, limit: $5/day, match: {model: overflow}, exhausted: {downgrade: chat}}]\n"
OVERFLOW = Request(model="overflow", tenant="games")


def test_a_budget_that_has_another_model_served_widens_by_its_targets(tmp_path: Path) -> None:
    before, after = side(tmp_path), side(tmp_path, POLICY + SPILL)
    assert news(OVERFLOW, before, after) == [("region", "eu-west-1", "own")]
    assert news(GAMES, before, after) == []
    shadow = side(tmp_path, POLICY + SPILL.replace("limit", "mode: shadow, limit"))
    assert news(OVERFLOW, before, shadow) == []
    pinned = Request(model="overflow", tenant="games", target="api")
    assert news(pinned, before, after) == []


def test_the_gates_of_the_requests_own_route_hold_for_another_model(tmp_path: Path) -> None:
    gate = POLICY.replace(
        "{name: default,", "{name: us, match: {model: overflow}, require: {region: us}}\n  - {name: default,"
    )
    assert news(OVERFLOW, side(tmp_path, gate), side(tmp_path, gate + SPILL)) == []


def test_a_state_may_be_one_without_money(tmp_path: Path) -> None:
    snapshot = compiled(tmp_path, POLICY + SPILL)
    both = Side(snapshot, {"rich": {}, "poor": {}}, {"poor"})
    assert both.view(OVERFLOW, "rich").targets == ("api",)
    assert both.view(OVERFLOW, "poor").targets == ("own", "api")


def test_a_new_caller_moves_nothing(tmp_path: Path) -> None:
    before = side(tmp_path, POLICY.replace("  games:", "  gamers:"))
    assert news(GAMES, before, side(tmp_path)) == []


def test_recorded_tags_lose_those_of_the_key(tmp_path: Path) -> None:
    both = side(tmp_path)
    recorded = Request(model="chat", key="bank/ci", tags=("canary", "eval", "gdpr"))
    assert own_tags(recorded, both).tags == ("canary",)
    stranger = Request(model="chat", tenant="nobody", tags=("x",))
    assert own_tags(stranger, both) is stranger
