"""Plain values become the arguments of the router, or a mistake that says how to mend it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from proxy.cases.given import read_given
from proxy.cases.observed import NOW_S
from proxy.policy.model import NO_KEY, Endpoint, Lane, Modality, Snapshot, Traffic
from proxy.policy.problem import Mistake
from proxy.routing.decide import Router
from proxy.routing.plan import Plan
from tests.cases.policies import OPEN, compiled
from tests.thorough import examples

BANK = {"model": "chat", "tenant": "bank"}


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return compiled(tmp_path)


def test_a_request_needs_little_more_than_a_model(tmp_path: Path) -> None:
    given = read_given(compiled(tmp_path, OPEN), {"model": "chat"})
    facts = given.facts
    assert (facts.model, facts.endpoint, facts.key, facts.traffic) == ("chat", Endpoint.CHAT, NO_KEY, Traffic.ONLINE)
    assert (facts.stream, facts.tools, facts.lane_override, facts.target_override) == (False, False, None, None)
    assert (given.readings, given.rates, given.now, given.draw) == ({}, {}, NOW_S, 0.0)


def test_everything_that_a_request_can_say_is_carried_over(snapshot: Snapshot) -> None:
    request = {
        "model": "chat",
        "key": "bank/ci",
        "tags": ["canary"],
        "endpoint": "responses",
        "traffic": "offline",
        "stream": True,
        "modality": ("text", "image"),
        "tools": True,
        "input_tokens": "2k",
        "max_output_tokens": 100,
        "lane": "shared",
        "target": "own",
        "at": "2026-07-01T09:00:00+02:00",
        "draw": 0.5,
        "session": None,
    }
    given = read_given(snapshot, request)
    facts = given.facts
    assert facts.tenant.name == "bank"
    assert facts.key.name == "bank/ci"
    assert facts.tags == {"gdpr", "eval", "canary"}
    assert (facts.endpoint, facts.traffic) == (Endpoint.RESPONSES, Traffic.OFFLINE)
    assert (facts.stream, facts.tools, facts.modalities) == (True, True, {Modality.IMAGE})
    assert (facts.input_tokens, facts.max_output_tokens) == (2000, 100)
    assert (facts.lane_override, facts.target_override) == (Lane.SHARED, "own")
    assert facts.at_s == 1782889200.0
    assert given.draw == 0.5


def test_the_router_takes_what_was_given(snapshot: Snapshot) -> None:
    given = read_given(snapshot, {"model": "chat", "tenant": "games"}, {"own": {"in_flight": 8}}, {"route:eu": {}})
    decision = Router(snapshot).decide(given.facts, given.readings, given.now, given.draw, given.rates)
    assert isinstance(decision, Plan)
    assert [attempt.target.name for attempt in decision.attempts] == ["api"]


@pytest.mark.parametrize(
    ("request_", "message", "hint"),
    [
        ({}, "`model` is missing", "write the name that apps ask for, such as `model: chat`"),
        ({"modle": "chat"}, "unknown key `modle` in `request`", "did you mean `model`?"),
        (BANK | {"model": "chta"}, "unknown model `chta`", "did you mean `chat`?"),
        (BANK | {"tenant": "bnak"}, "unknown tenant `bnak`", "did you mean `bank`?"),
        ({"model": "chat"}, "`tenant` is missing", "known: `bank`, `games`"),
        ({"model": "chat", "key": "bank/cj"}, "unknown key `bank/cj`", "did you mean `bank/ci`?"),
        (BANK | {"tenant": "games", "key": "bank/ci"}, "unknown key `bank/ci`", "name a key of the policy"),
        (BANK | {"target": "onw"}, "unknown target `onw`", "known: `api`, `own`"),
        (BANK | {"tags": ["canry"]}, "tenant `bank` may not add the tag `canry`", "did you mean `canary`?"),
        (BANK | {"input_tokens": "many"}, "`input_tokens`: expected a whole number, got `many`", "write `64`, `2k` or"),
        (BANK | {"tags": ["a b", 3]}, "`tags.1`: expected text, got `3`", "put it in quotes"),
    ],
)
def test_a_request_that_makes_no_sense_is_a_mistake(
    snapshot: Snapshot, request_: dict[str, object], message: str, hint: str
) -> None:
    with pytest.raises(Mistake) as raised:
        read_given(snapshot, request_)
    assert raised.value.message == message
    assert raised.value.hint.startswith(hint)


@pytest.mark.parametrize(
    ("readings", "rates", "message", "hint"),
    [
        ({"onw": {}}, {}, "unknown target `onw`", "known: `api`, `own`"),
        ({"own": {"ttft_p9": "3s"}}, {}, "unknown key `ttft_p9` in `readings.own`", "did you mean `ttft_p9"),
        ({"own": {"ttft_p99": 3}}, {}, "`readings.own.ttft_p99`: duration without a unit: `3`", "write `3ms` or `3s`"),
        ({"own": [{}]}, {}, "`readings.own`: target `own` has 2 replicas, the list 1", "list one mapping for each"),
        ({}, {"tenant:bnak": {}}, "unknown scope `tenant:bnak`", "did you mean `tenant:bank`?"),
        ({}, {"tenant:bank": {"requests": -1}}, "`rates.tenant:bank.requests`: expected a whole number, got `-1`", ""),
    ],
)
def test_so_is_an_observation(
    snapshot: Snapshot, readings: dict[str, object], rates: dict[str, object], message: str, hint: str
) -> None:
    with pytest.raises(Mistake) as raised:
        read_given(snapshot, BANK, readings, rates)
    assert raised.value.message == message
    assert raised.value.hint.startswith(hint)


def test_a_policy_without_tenants_knows_none(tmp_path: Path) -> None:
    snapshot = compiled(tmp_path, OPEN)
    assert read_given(snapshot, {"model": "chat", "tenant": "anonymous"}).facts.key is NO_KEY
    with pytest.raises(Mistake, match="unknown tenant `bank`"):
        read_given(snapshot, BANK)


WORDS = st.sampled_from(
    (
        *("chat", "bank", "games", "bank/ci", "own", "api", "gdpr", "tenant:bank", "image", "open"),
        *("true", "2k", "3s", "98%", "", "\x00", "ä"),
        *("2026-01-05T12:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"),
    )
)
KEYS = st.sampled_from(
    (
        *("model", "tenant", "key", "tags", "endpoint", "traffic", "stream", "modality", "tools", "input_tokens"),
        *("max_output_tokens", "lane", "target", "at", "draw"),
        *("own", "api", "tenant:bank", "in_flight", "full", "uptime", "ttft_p99"),
    )
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=6,
)
MAPPINGS = st.dictionaries(KEYS, VALUES, max_size=5)


@settings(max_examples=examples(500), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(request_=MAPPINGS, readings=MAPPINGS, rates=MAPPINGS)
def test_whatever_is_given_is_read_or_is_a_mistake(
    snapshot: Snapshot, request_: dict[str, object], readings: dict[str, object], rates: dict[str, object]
) -> None:
    named = {"model": "chat", "tenant": "bank"} | request_
    try:
        found = read_given(snapshot, named, readings, rates)
    except Mistake as mistake:
        assert mistake.message
    else:
        Router(snapshot).decide(found.facts, found.readings, found.now, found.draw, found.rates)


def test_nesting_without_end_is_a_mistake(snapshot: Snapshot) -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(Mistake, match="nested too deeply"):
        read_given(snapshot, {"model": deep})
