"""A route that is never reached is found, whether one earlier route or several together take all its requests."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.policy.model import Endpoint, Match, Modality, Route, Traffic
from proxy.policy.reach import unreachable

MODELS = ("chat", "code")
CONTENTS = [frozenset({Modality.TEXT}), *(frozenset({one}) for one in Modality if one is not Modality.TEXT)]
CONTENTS.append(frozenset({Modality.IMAGE, Modality.FILE}))
REQUESTS = list(product(MODELS, Endpoint, Traffic, (True, False), (True, False), CONTENTS))


def takes(match: Match, request: tuple[str, Endpoint, Traffic, bool, bool, frozenset[Modality]]) -> bool:
    model, endpoint, traffic, stream, tools, content = request
    return (
        (match.models is None or model in match.models)
        and (match.endpoints is None or endpoint in match.endpoints)
        and match.traffic in (None, traffic)
        and match.stream in (None, stream)
        and match.tools in (None, tools)
        and (match.modalities is None or bool(match.modalities & content))
    )


def found(*matches: Match) -> dict[int, tuple[str, ...]]:
    return dict(unreachable([Route(name=f"r{index}", match=match) for index, match in enumerate(matches)], MODELS))


def test_one_wide_route_before_it_is_enough() -> None:
    assert found(Match(), Match(stream=True)) == {1: ("r0",)}
    assert found(Match(stream=True), Match()) == {}


@pytest.mark.parametrize(
    ("parts", "last"),
    [
        ([Match(stream=True), Match(stream=False)], Match(tags=frozenset({"a"}))),
        ([Match(traffic=Traffic.ONLINE), Match(traffic=Traffic.OFFLINE)], Match(tenants=frozenset({"a"}))),
        ([Match(tools=True), Match(tools=False)], Match(max_input_tokens=8)),
        ([Match(endpoints=frozenset(list(Endpoint)[:2])), Match(endpoints=frozenset(list(Endpoint)[2:]))], None),
        ([Match(modalities=frozenset(CONTENTS[0])), Match(modalities=frozenset(Modality) - CONTENTS[0])], None),
        ([Match(models=frozenset({"chat"})), Match(models=frozenset({"code"}))], Match(stream=True)),
    ],
)
def test_parts_that_make_a_whole_are_enough(parts: list[Match], last: Match | None) -> None:
    last = last or Match(keys=frozenset({"a/b"}))
    assert found(*parts, last) == {2: ("r0", "r1")}
    assert found(parts[0], last) == {}


def test_parts_that_ask_for_more_are_not() -> None:
    tagged = frozenset({"gdpr"})
    assert found(Match(stream=True, tags=tagged), Match(stream=False), Match(traffic=Traffic.ONLINE)) == {}


def test_a_route_for_everything_may_stand_last_though_the_others_leave_nothing() -> None:
    assert found(Match(stream=True), Match(stream=False), Match()) == {}


def test_only_those_that_take_something_are_named() -> None:
    named = found(Match(stream=True), Match(stream=True, tags=frozenset("t")), Match(stream=False), Match(tools=True))
    assert named == {1: ("r0",), 3: ("r0", "r2")}


SOME = st.builds(
    Match,
    models=st.sampled_from([None, None, frozenset({"chat"}), frozenset({"code"}), frozenset(MODELS)]),
    endpoints=st.sampled_from([None, None, frozenset({Endpoint.CHAT}), frozenset(Endpoint) - {Endpoint.CHAT}]),
    traffic=st.sampled_from([None, None, *Traffic]),
    stream=st.sampled_from([None, None, True, False]),
    tools=st.sampled_from([None, None, True, False]),
    modalities=st.sampled_from(
        [None, None, frozenset({Modality.TEXT}), frozenset({Modality.IMAGE}), frozenset(Modality) - {Modality.TEXT}]
    ),
)


@settings(deadline=None)
@given(st.lists(SOME, min_size=2, max_size=5))
def test_it_agrees_with_asking_about_every_request(matches: list[Match]) -> None:
    dead = found(*matches)
    for index, match in enumerate(matches):
        reached = [
            one for one in REQUESTS if takes(match, one) and not any(takes(earlier, one) for earlier in matches[:index])
        ]
        if not match.catches_all:
            assert (index in dead) is not bool(reached)
