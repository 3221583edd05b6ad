"""The policy's share of a decision: which routes concern a model, and what each makes lawful."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from proxy.policy.model import Endpoint, Key, Lane, Match, Modality, Route, Rules, Schedule, Tenant, Traffic
from proxy.routing.table import applies, compile_table
from tests.routing.policies import MODEL, TENANT, dedicated, facts, shared, snapshot

CHAT = (Endpoint.CHAT, None, None)
CI = Key(tenant=TENANT, name="acme/ci")
IMAGE = frozenset({Modality.IMAGE})
MONDAYS = Schedule(zone=UTC, days=frozenset({0}), from_minute=540, to_minute=1080)
MONDAY_NOON_S = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("match", "asked", "matches"),
    [
        (Match(), {}, True),
        (Match(tenants=frozenset({"acme"})), {}, True),
        (Match(tenants=frozenset({"bank"})), {}, False),
        (Match(endpoints=frozenset({Endpoint.CHAT})), {}, True),
        (Match(endpoints=frozenset({Endpoint.MESSAGES})), {}, False),
        (Match(traffic=Traffic.OFFLINE), {}, False),
        (Match(traffic=Traffic.OFFLINE), {"traffic": Traffic.OFFLINE}, True),
        (Match(stream=True), {}, False),
        (Match(stream=False), {}, True),
        (Match(stream=True), {"stream": True}, True),
        (Match(tags=frozenset("a")), {}, False),
        (Match(tags=frozenset("a")), {"tags": frozenset("ab")}, True),
        (Match(tags=frozenset("ab")), {"tags": frozenset("a")}, False),
        (Match(tags=frozenset("ab")), {"tags": frozenset("a"), "tenant": Tenant(name="t", tags=frozenset("b"))}, True),
        (Match(tags=frozenset("a"), stream=True), {"tags": frozenset("a")}, False),
        (Match(keys=frozenset({"acme/ci"})), {}, False),
        (Match(keys=frozenset({"acme/ci"})), {"key": CI}, True),
        (Match(tools=True), {}, False),
        (Match(tools=True), {"tools": True}, True),
        (Match(tools=False), {}, True),
        (Match(modalities=IMAGE), {}, False),
        (Match(modalities=IMAGE), {"modalities": IMAGE | {Modality.FILE}}, True),
        (Match(modalities=frozenset({Modality.TEXT})), {}, True),
        (Match(modalities=frozenset({Modality.TEXT})), {"modalities": IMAGE}, False),
        (Match(min_input_tokens=100), {"input_tokens": 99}, False),
        (Match(min_input_tokens=100), {"input_tokens": 100}, True),
        (Match(max_input_tokens=100), {"input_tokens": 100}, True),
        (Match(max_input_tokens=100), {"input_tokens": 101}, False),
        (Match(schedule=MONDAYS), {"at_s": MONDAY_NOON_S}, True),
        (Match(schedule=MONDAYS), {"at_s": MONDAY_NOON_S + 86400}, False),
    ],
)
def test_a_route_applies_when_everything_it_names_matches(
    match: Match, asked: dict[str, object], matches: bool
) -> None:
    (row,) = compile_table(snapshot([shared()], [Route(name="r", match=match)]))[MODEL]
    assert applies(row, facts(**asked)) is matches


def test_a_model_has_only_the_routes_that_can_concern_it_in_order() -> None:
    routes = [
        Route(name="a"),
        Route(name="b", match=Match(models=frozenset({"other"}))),
        Route(name="c", match=Match(models=frozenset({MODEL}))),
    ]
    table = compile_table(snapshot([shared()], routes))
    assert [row.lawful[CHAT].route.name for row in table[MODEL]] == ["a", "c"]


def test_a_lawful_set_is_worked_out_once() -> None:
    (row,) = compile_table(snapshot([shared()]))[MODEL]
    assert row.lawful[CHAT] is row.lawful[CHAT]


def test_a_lawful_set_holds_the_lawful_and_names_the_rest() -> None:
    route = Route(name="gdpr", require=Rules(regions=("eu-*",)), want=Rules(lane=Lane.SHARED))
    (row,) = compile_table(snapshot([dedicated(), shared()], [route]))[MODEL]
    lawful = row.lawful[CHAT]
    assert [entry.target.name for entry in lawful.entries] == ["llama-eu"]
    assert [exclusion.rule for exclusion in lawful.barred] == ["require.region"]
    assert [exclusion.rule for exclusion in lawful.excluded] == ["require.region", "want.lane"]
    assert lawful.refusal is None


def test_a_lane_that_callers_may_not_choose_is_refused_even_if_it_would_be_lawful() -> None:
    route = Route(name="strict", lane_override=False)
    (row,) = compile_table(snapshot([dedicated(), shared()], [route]))[MODEL]
    for lane in Lane:
        refusal = row.lawful[Endpoint.CHAT, lane, None].refusal
        assert refusal is not None
        assert refusal.code == "lane_override_not_allowed"
    assert row.lawful[CHAT].refusal is None


def test_a_model_without_targets_is_answered_as_unknown() -> None:
    (row,) = compile_table(snapshot([]))[MODEL]
    refusal = row.lawful[CHAT].refusal
    assert refusal is not None
    assert refusal.code == "model_not_found"


def test_a_target_nobody_has_observed_is_taken_to_be_idle_on_each_of_its_replicas() -> None:
    (row,) = compile_table(snapshot([dedicated(replicas=3)]))[MODEL]
    assert [(unseen.replica, unseen.in_flight) for unseen in row.lawful[CHAT].entries[0].unseen] == [
        (0, 0),
        (1, 0),
        (2, 0),
    ]
