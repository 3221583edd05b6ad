"""Files of cases: what they may say, and where their mistakes are."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from proxy.cases.case import files_of, judge, read_cases, read_file
from proxy.policy.model import Snapshot
from proxy.policy.problem import PolicyError
from proxy.routing.decide import Router
from tests.cases.policies import POLICY, case_file, compiled
from tests.thorough import examples

CASES = """# about the bank
defaults: {model: chat, tenant: bank, input_tokens: 2k}
cases:
  - name: stays
    expect: {attempts: [own]}
  - name: spills
    given: {tenant: games}
    readings: {own: [{in_flight: 8}, {breaker: open}]}
    rates: {"tenant:games": {requests: 3}}
    expect:
      cause: preferred
"""


TWICE = """defaults: {model: chat, tenant: bank}
cases:
  - {name: a, expect: {route: eu}}
  - {name: a, expect: {route: eu}}
"""


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return compiled(tmp_path)


def test_defaults_stand_for_what_a_case_leaves_out(tmp_path: Path, snapshot: Snapshot) -> None:
    stays, spills = read_cases(case_file(tmp_path, CASES), snapshot)
    assert (stays.given.facts.tenant.name, spills.given.facts.tenant.name) == ("bank", "games")
    assert (stays.given.facts.input_tokens, spills.given.facts.model) == (2000, "chat")
    assert (stays.index, stays.place.line, spills.index, spills.place.line) == (0, 4, 1, 6)
    assert spills.given.rates["tenant:games"].requests == 3


def test_money_is_given_beside_the_rest(tmp_path: Path) -> None:
    snapshot = compiled(tmp_path, POLICY + "budgets: [{name: cap, limit: $5/day}]\n")
    text = """defaults: {model: overflow, tenant: games}
cases:
  - {name: rich, expect: {attempts: [api]}}
  - {name: poor, budgets: {cap: exhausted}, expect: {refused: budget_exceeded, excluded: {api: "budget:cap"}}}
"""
    router = Router(snapshot)
    assert [judge(case, router).differences for case in read_cases(case_file(tmp_path, text), snapshot)] == [(), ()]


def test_a_platform_team_tests_when_a_request_spills_and_with_which_words(tmp_path: Path, snapshot: Snapshot) -> None:
    text = """defaults: {model: chat, tenant: games, input_tokens: 1000}
cases:
  - name: a long queue everywhere
    readings: {own: {queued_tokens: 27k, decoding: 38}}
    expect:
      {first: api, cause: spillover, excluded: {own: ttft}, reason: "> 1.8 s (queue 27k tokens, 38 streams) on own"}
  - name: a long queue on one replica
    readings: {own: [{queued_tokens: 27k, decoding: 38}, {decoding: 3}]}
    expect: {first: own, cause: preferred}
  - name: an engine much slower than its profile
    readings: {own: {decoding: 3, ttft_factor: 30}}
    expect: {first: api, cause: spillover}
"""
    router = Router(snapshot)
    assert [judge(case, router).differences for case in read_cases(case_file(tmp_path, text), snapshot)] == [(), (), ()]


def test_whoever_names_a_key_means_its_tenant(tmp_path: Path, snapshot: Snapshot) -> None:
    text = "defaults: {model: chat, tenant: games}\ncases: [{name: a, given: {key: bank/ci}, expect: {route: eu}}]\n"
    (case,) = read_cases(case_file(tmp_path, text), snapshot)
    assert case.given.facts.tenant.name == "bank"


def test_a_case_is_judged_by_the_router(tmp_path: Path, snapshot: Snapshot) -> None:
    router = Router(snapshot)
    stays, spills = (judge(case, router) for case in read_cases(case_file(tmp_path, CASES), snapshot))
    assert stays.passed
    assert not spills.passed
    (difference,) = spills.differences
    assert (difference.key, difference.expected, difference.said) == ("cause", "preferred", "spillover")


@pytest.mark.parametrize(
    ("text", "where", "message", "hint"),
    [
        ("", "", "no `cases`", "write `cases:`"),
        ("- a\n", "1:1", "no `cases`", "write `cases:`"),
        ("cases: []\n", "1:1", "no `cases`", "write `cases:`"),
        ("case: [{name: a}]\n", "1:1", "unknown key `case` in a file of cases", "did you mean `cases`?"),
        ("cases:\n  - {expect: {route: eu}}\n", "2:5", "`name` is missing in `cases`", "write `name:`"),
        ("cases:\n  - {name: a}\n", "2:5", "`expect` is missing in `cases`", "write `expect: {}`"),
        (
            "cases:\n  - {name: a, given: {model: chat, tenant: bank}, expect: {}}\n",
            "2:59",
            "`expect` expects",
            "state",
        ),
        (
            "cases:\n  - {name: a, given: {model: chta, tenant: bank}, expect: {route: eu}}\n",
            "2:30",
            "unknown model `chta`",
            "did you mean `chat`?",
        ),
        (
            "defaults: {model: chta, tenant: bank}\ncases: [{name: a, expect: {route: eu}}]\n",
            "1:19",
            "unknown model `chta`",
            "did you mean `chat`?",
        ),
        (
            "defaults: {model: chat}\ncases:\n  - {name: a, expect: {route: eu}}\n",
            "3:5",
            "`tenant` is missing",
            "known: `bank`, `games`",
        ),
        (
            TWICE,
            "4:12",
            "a second case named `a`",
            "rename one; the first is on line 3",
        ),
        (
            "defaults: {model: chat, tenant: bank}\ncases:\n  - {name: a, readings: {onw: {}}, expect: {route: eu}}\n",
            "3:26",
            "unknown target `onw`",
            "known: `api`, `own`",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(
    tmp_path: Path, snapshot: Snapshot, text: str, where: str, message: str, hint: str
) -> None:
    file = case_file(tmp_path, text)
    with pytest.raises(PolicyError) as refused:
        read_cases(file, snapshot)
    problem = refused.value.problems[-1]
    assert problem.where == f"{file.path}:{where}".rstrip(":")
    assert problem.message.startswith(message)
    assert problem.hint.startswith(hint)


def test_all_mistakes_are_told(tmp_path: Path, snapshot: Snapshot) -> None:
    text = "defaults: {model: chat}\ncases: [{name: a, given: {tenant: x}, expect: {route: y}}, {nme: b}]\n"
    with pytest.raises(PolicyError) as refused:
        read_cases(case_file(tmp_path, text), snapshot)
    assert [problem.message.partition(" in ")[0] for problem in refused.value.problems] == [
        "unknown tenant `x`",
        "unknown route `y`",
        "`expect` is missing",
        "`name` is missing",
        "unknown key `nme`",
    ]


def test_an_expectation_may_be_left_to_the_update(tmp_path: Path, snapshot: Snapshot) -> None:
    text = "cases: [{name: a, given: {model: chat, tenant: bank}, expect: {}}]\n"
    (case,) = read_cases(case_file(tmp_path, text), snapshot, may_be_empty=True)
    assert case.expected == {}


def test_cases_stand_beside_their_policy(tmp_path: Path) -> None:
    policy = tmp_path / "eu.yaml"
    policy.touch()
    assert files_of(policy) == ()
    beside, other = tmp_path / "eu.test.yaml", tmp_path / "us.test.yml"
    beside.write_text("cases: []\n")
    other.touch()
    assert files_of(policy) == (beside,)
    assert files_of(tmp_path) == (beside, other)
    assert read_file(beside).text == "cases: []\n"


VALUES = st.recursive(
    st.booleans() | st.integers() | st.sampled_from(["chat", "bank", "own", "eu", "capacity", "3s", "auto"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["own", "attempts", "route", "model", "excluded", "not", "full"]), inner, max_size=3
        )
    ),
    max_leaves=5,
)
PARTS = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("name", "given", "readings", "rates", "budgets", "expect", "else"), VALUES)
)


@settings(max_examples=examples(300), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(defaults=VALUES, cases=VALUES | st.lists(PARTS, min_size=1, max_size=3))
def test_whatever_is_written_is_read_or_is_a_mistake(
    tmp_path: Path, snapshot: Snapshot, defaults: object, cases: object
) -> None:
    file = case_file(tmp_path, yaml.safe_dump({"defaults": defaults, "cases": cases}))
    try:
        read_cases(file, snapshot)
    except PolicyError as refused:
        assert all(problem.line for problem in refused.problems)


def test_a_case_says_nothing_of_what_it_leaves_out(tmp_path: Path, snapshot: Snapshot) -> None:
    with pytest.raises(PolicyError, match="expected a mapping, got `0`"):
        read_cases(case_file(tmp_path, "cases: [{name: a, given: 0, expect: {route: eu}}]\n"), snapshot)
