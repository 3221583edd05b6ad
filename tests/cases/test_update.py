"""`--update` writes what the router says, and leaves every other byte as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from proxy.cases.case import Result, judge, read_cases
from proxy.cases.expect import ASPECTS
from proxy.cases.update import spelled, updated
from proxy.policy.model import Endpoint, Snapshot
from proxy.routing.decide import Router
from tests.cases.policies import case_file, compiled
from tests.thorough import examples


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return compiled(tmp_path)


def results(folder: Path, text: str, snapshot: Snapshot) -> list[Result]:
    router = Router(snapshot)
    return [judge(case, router) for case in read_cases(case_file(folder, text), snapshot, may_be_empty=True)]


def rewritten(folder: Path, text: str, snapshot: Snapshot) -> str:
    return updated(text, results(folder, text, snapshot))


WRONG = """# about the bank
defaults: {model: chat}

cases:
  - name: stays   # a comment
    given: {tenant: bank}
    expect:
      route: default    # which one
      attempts:
        - api
        - own
      # as it should be
      cause: preferred
      excluded:
        own: capacity

  - name: spills
    given: {tenant: games}
    readings: {own: {in_flight: 8}}
    expect: {cause: preferred, reason: "at capacity", not: [api, own]}   # trailing
  - {name: nothing, given: {tenant: games}, expect: {}}
  - name: refused now
    given: {tenant: bank, lane: shared}
    expect:
      attempts: [own]
      # gone with the key above
      lane: dedicated
# the end
"""

RIGHT = """# about the bank
defaults: {model: chat}

cases:
  - name: stays   # a comment
    given: {tenant: bank}
    expect:
      route: eu    # which one
      attempts:
        - own
      # as it should be
      cause: preferred
      excluded:
        api: require.region

  - name: spills
    given: {tenant: games}
    readings: {own: {in_flight: 8}}
    expect: {cause: spillover, reason: "at capacity", not: [own]}   # trailing
  - {name: nothing, given: {tenant: games}, expect: {route: default, attempts: [own, api], cause: preferred}}
  - name: refused now
    given: {tenant: bank, lane: shared}
    expect:
      route: eu
      refused: lane_override_not_allowed
# the end
"""


def test_only_what_does_not_hold_is_rewritten(tmp_path: Path, snapshot: Snapshot) -> None:
    assert rewritten(tmp_path, WRONG, snapshot) == RIGHT


def test_what_holds_stays_byte_for_byte(tmp_path: Path, snapshot: Snapshot) -> None:
    assert rewritten(tmp_path, RIGHT, snapshot) == RIGHT


def test_line_ends_are_kept(tmp_path: Path, snapshot: Snapshot) -> None:
    windows = WRONG.replace("\n", "\r\n")
    assert rewritten(tmp_path, windows, snapshot) == RIGHT.replace("\n", "\r\n")


def test_a_key_that_has_nothing_to_say_any_more_says_so(tmp_path: Path, snapshot: Snapshot) -> None:
    text = "cases: [{name: a, given: {model: chat, tenant: games}, expect: {excluded: {own: capacity}, not: [own]}}]\n"
    assert "expect: {excluded: {}, not: []}" in rewritten(tmp_path, text, snapshot)


@pytest.mark.parametrize("word", ["true", "No", "1", "2k", "tenant:bank", "a b", "ä", "", "-", "~", 'quo"te', "x#y"])
def test_words_are_read_as_they_were_written(word: str) -> None:
    assert yaml.safe_load(f"{{{spelled(word)}: [{spelled(word)}]}}") == {word: [word]}


REQUESTS = st.fixed_dictionaries(
    {"model": st.sampled_from(["chat", "overflow"]), "tenant": st.sampled_from(["bank", "games"])},
    optional={
        "lane": st.sampled_from(["dedicated", "shared", "auto"]),
        "target": st.sampled_from(["own", "api"]),
        "endpoint": st.sampled_from([endpoint.value for endpoint in Endpoint]),
        "input_tokens": st.integers(0, 10**6),
    },
)
READINGS = st.dictionaries(
    st.sampled_from(["own", "api"]),
    st.fixed_dictionaries(
        {},
        optional={
            "in_flight": st.integers(0, 9),
            "breaker": st.sampled_from(["closed", "open", "half_open"]),
            "full": st.booleans(),
            "ttft_p99": st.sampled_from(["1s", "3s"]),
        },
    ),
)
STATED = {
    "route": st.sampled_from(["eu", "default"]),
    "attempts": st.lists(st.sampled_from(["own", "api"]), min_size=1, unique=True),
    "first": st.sampled_from(["own", "api"]),
    "cause": st.sampled_from(["preferred", "spillover"]),
    "lane": st.sampled_from(["dedicated", "shared"]),
    "relaxed": st.booleans(),
    "refused": st.just("capacity"),
    "status": st.sampled_from([403, 503]),
    "retry": st.booleans(),
    "reason": st.just("because"),
    "excluded": st.dictionaries(st.sampled_from(["own", "api"]), st.just("breaker")),
    "shadow": st.dictionaries(st.sampled_from(["own", "api"]), st.just("breaker")),
    "not": st.lists(st.sampled_from(["own", "api"])),
    "downgraded": st.sampled_from(["chat", False]),
}
CASES = st.fixed_dictionaries(
    {"given": REQUESTS, "readings": READINGS, "expect": st.fixed_dictionaries({}, optional=STATED)}
)


@settings(max_examples=examples(300), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cases=st.lists(CASES, min_size=1, max_size=4), flow=st.booleans())
def test_a_case_that_was_updated_passes(
    tmp_path: Path, snapshot: Snapshot, cases: list[dict[str, object]], flow: bool
) -> None:
    named = [{"name": f"case {index}"} | case for index, case in enumerate(cases)]
    text = yaml.safe_dump({"cases": named}, default_flow_style=flow or None, sort_keys=False)
    after = rewritten(tmp_path, text, snapshot)
    again = results(tmp_path, after, snapshot)
    assert [result.differences for result in again] == [()] * len(cases)
    assert all(result.case.expected for result in again)
    assert updated(after, again) == after
    read_cases(case_file(tmp_path, after), snapshot)  # nothing is left empty


def test_every_key_takes_part_in_that() -> None:
    assert STATED.keys() == ASPECTS.keys()
