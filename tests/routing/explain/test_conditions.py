"""Conditions in words, and agreement about which of them hold with the router."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.policy.model import Endpoint, Key, Match, Modality, Schedule, Tenant, Traffic
from proxy.routing.decide import Router
from proxy.routing.explain.conditions import stated, unmet
from proxy.routing.table import Row, applies
from tests.routing.policies import MODEL, TENANT, dedicated, facts, requests, snapshot, snapshots

OFFICE = Schedule(zone=ZoneInfo("Europe/Berlin"), days=frozenset(range(5)), from_minute=9 * 60, to_minute=18 * 60)
NIGHT = Schedule(zone=UTC, from_minute=22 * 60 + 30, to_minute=6 * 60)


def row() -> Row:
    (found,) = Router(snapshot([dedicated()])).rows(facts())
    return found


@given(st.data())
def test_a_condition_is_unmet_exactly_where_the_router_does_not_match(data: st.DataObject) -> None:
    policy, asked = data.draw(snapshots()), data.draw(requests)
    by_match = {id(one.match): one for one in Router(policy).rows(asked)}
    for route in policy.routes if by_match else ():
        row = by_match.get(id(route.match))
        matches = row is not None and applies(row, asked)
        assert (unmet(route.match, row, asked) is None) is matches


@pytest.mark.parametrize(
    ("match", "asked", "needs", "has"),
    [
        (
            {"endpoints": frozenset({Endpoint.CHAT, Endpoint.RESPONSES})},
            {"endpoint": Endpoint.EMBEDDINGS},
            "endpoint `chat` or `responses`",
            "the request came to `embeddings`",
        ),
        ({"tenants": frozenset({"bank"})}, {}, "tenant `bank`", "the caller is `acme`"),
        ({"keys": frozenset({"acme/ci"})}, {}, "key `acme/ci`", "the request's key has no name"),
        (
            {"keys": frozenset({"acme/ci"})},
            {"key": Key(tenant=TENANT, name="acme/dev")},
            "key `acme/ci`",
            "the request came with `acme/dev`",
        ),
        (
            {"tags": frozenset({"a", "b"})},
            {"tags": frozenset({"a"})},
            "the tags `a` and `b`",
            "the request has tag `a`",
        ),
        (
            {"tags": frozenset({"a"})},
            {"tenant": Tenant(name="t", tags=frozenset({"b", "c"}))},
            "tag `a`",
            "the request has the tags `b` and `c`",
        ),
        ({"traffic": Traffic.OFFLINE}, {}, "`offline` traffic", "the request is `online`"),
        ({"stream": True}, {}, "a streamed reply", "the request does not ask for a stream"),
        ({"stream": False}, {"stream": True}, "a reply in one piece", "the request asks for a stream"),
        (
            {"modalities": frozenset({Modality.TEXT})},
            {"modalities": frozenset({Modality.IMAGE})},
            "a prompt of nothing but text",
            "the prompt has image",
        ),
        (
            {"modalities": frozenset({Modality.IMAGE, Modality.AUDIO})},
            {},
            "audio or image in the prompt",
            "it is text only",
        ),
        ({"tools": True}, {}, "tools", "the request has none"),
        ({"tools": False}, {"tools": True}, "no tools", "the request has some"),
        ({"min_input_tokens": 8000}, {"input_tokens": 120}, "at least 8,000 input tokens", "the request has about 120"),
        ({"max_input_tokens": 100}, {"input_tokens": 120}, "at most 100 input tokens", "the request has about 120"),
        (
            {"schedule": OFFICE},
            {"at_s": datetime(2026, 1, 4, 11, tzinfo=UTC).timestamp()},
            "the time Mon Tue Wed Thu Fri 09:00-18:00 (Europe/Berlin)",
            "it is Sun 12:00 there",
        ),
        (
            {"schedule": NIGHT},
            {"at_s": datetime(2026, 1, 5, 12, 5, tzinfo=UTC).timestamp()},
            "the time 22:30-06:00 (UTC)",
            "it is Mon 12:05 there",
        ),
    ],
)
def test_each_condition_has_its_words(match: dict[str, Any], asked: dict[str, Any], needs: str, has: str) -> None:
    assert unmet(Match(**match), row(), facts(**asked)) == (needs, has)
    assert stated(Match(**match)) == (needs,)


def test_the_first_condition_in_the_order_of_the_match_is_named() -> None:
    match = Match(tools=True, traffic=Traffic.OFFLINE)
    assert unmet(match, row(), facts()) == ("`offline` traffic", "the request is `online`")
    assert unmet(replace(match, traffic=None), row(), facts()) == ("tools", "the request has none")


def test_a_route_for_another_model_has_no_row() -> None:
    assert unmet(Match(models=frozenset({"a", "b"})), None, facts()) == (
        "model `a` or `b`",
        f"the request is for `{MODEL}`",
    )


def test_a_match_of_everything_asks_nothing() -> None:
    assert stated(Match()) == ()
