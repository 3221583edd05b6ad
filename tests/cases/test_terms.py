"""What two policies state differently of one thing, whether or not a decision shows it."""

from __future__ import annotations

from pathlib import Path

import pytest
from proxy.cases.terms import changed_terms
from tests.cases.policies import POLICY, compiled


def told(folder: Path, *edits: tuple[str, str]) -> list[str]:
    after = POLICY
    for old, new in edits:
        assert old in after
        after = after.replace(old, new)
    return [str(one) for one in changed_terms(compiled(folder), compiled(folder, after))]


def test_a_policy_states_the_same_as_itself(tmp_path: Path) -> None:
    assert told(tmp_path) == []


@pytest.mark.parametrize(
    ("edit", "line"),
    [
        (("ttft_p99: 2s", "ttft_p99: 800ms"), "route default want.ttft_p99: 2.00 s -> 800 ms"),
        (("want: {ttft_p99: 2s}", "prefer: shared"), "route default want.ttft_p99: 2.00 s -> none"),
        (("require: {region: eu-*}, ", ""), "route eu require.region: eu-* -> none"),
        (("lane_override: false", "max_failovers: 0"), "route eu max_failovers: 1 -> 0"),
        (("lane_override: false", "wait: 30s"), "route eu wait: none -> 30s"),
        (("lane_override: false", "deadline: 6h"), "route eu deadline: none -> 6h"),
        (("lane_override: false", "hedge: p99"), "route eu hedge: none -> p99, 5% of requests"),
        (("tags: [gdpr]\n", "tags: [gdpr]\n    priority: high\n"), "tenant bank priority: normal -> high"),
        (
            ("max_in_flight: 8", 'wake: {url: "https://up.example/own"}'),
            "target own wake: none -> POST https://up.example/own",
        ),
        (
            ("max_in_flight: 8", "wake: {kubernetes: {deployment: vllm, namespace: gpu, replicas: 2}}"),
            "target own wake: none -> deployment gpu/vllm to 2",
        ),
        (("rpm: 60", "rpm: 90"), "key bank/ci rpm: 60 -> 90"),
        (("tags: [gdpr]\n", "tags: [gdpr]\n    rpm: 6k\n"), "tenant bank rpm: none -> 6,000"),
        (("tags: [gdpr]\n", "tags: [gdpr]\n    rpm: 6\n    mode: shadow\n"), "tenant bank shadow rpm: none -> 6"),
        (("max_in_flight: 8", "max_in_flight: 16"), "target own max_in_flight: 8 -> 16"),
        (("region: us,", "region: ap,"), "target api region: us -> ap"),
        (("region: us,", "region: us, training: false,"), "target api training: unknown -> false"),
        (("region: us,", "region: us, limits: {rpm: 9},"), "target api limits.rpm: none -> 9"),
        (("region: us,", "region: us, timeouts: {idle: 9s},"), "target api timeouts.idle: 30 s -> 9 s"),
        (("region: us,", "region: us, parameters: {geo: eu},"), "target api parameters: none -> geo=eu"),
        (("region: us,", "region: us, supports: [],"), "target api supports: none -> text"),
        (
            ("output: 2", "output: 4"),
            "target api price: $1.00/M tokens in, $2.00/M tokens out -> $1.00/M tokens in, $4.0",
        ),
        (("output: 2", "output: 2, cache_write: 1.25"), "target api price.cache_write: none -> $1.25/M tokens"),
        (
            ("output: 2", "output: 2, above: {tokens: 9k, input: 3, output: 4}"),
            "target api price.above 9,000: none -> $3",
        ),
        (
            ("output: 2", "output: 2, flex: {input: 1, output: 1}"),
            "target api price.flex: none -> $1.00/M tokens in, $1",
        ),
    ],
)
def test_each_statement_that_differs_is_told(tmp_path: Path, edit: tuple[str, str], line: str) -> None:
    assert any(one.startswith(line) for one in told(tmp_path, edit))


def test_a_new_address_is_told_and_not_repeated(tmp_path: Path) -> None:
    (line,) = told(tmp_path, ("https://api.example.com/v1", "https://secret.example.com/v1"))
    assert line.startswith("target api upstream: 1 at #")
    assert "example" not in line


BUDGETS = """budgets:
  - {name: spill, limit: $5/day, match: {tenant: games}}
  - {name: cap, limit: [$1/hour, $9/total], each: tenant, exhausted: reject}
"""


def told_of_budgets(folder: Path, before: str, after: str) -> list[str]:
    return [str(one) for one in changed_terms(compiled(folder, POLICY + before), compiled(folder, POLICY + after))]


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("$5/day", "$6/day", ["budget spill limit: $5 a day -> $6 a day"]),
        ("$9/total", "$8/total", ["budget cap limit: $1 an hour, $9 in all -> $1 an hour, $8 in all"]),
        ("$5/day,", "$5/day, enforce: soft, alerts: [],", [
            "budget spill enforce: hard -> soft",
            "budget spill alerts: 50%, 80%, 100% -> none",
        ]),
        ("$5/day,", "$5/day, exhausted: {downgrade: overflow},", [
            "budget spill exhausted: dedicated_only -> downgrade: overflow",
        ]),
        ("match: {tenant: games}", "match: {tags: eval}", [
            "budget spill tenants: games -> none",
            "budget spill tags: none -> eval",
        ]),
        ("each: tenant", "each: tenant, match: {tenant: bank}", [
            "budget cap of them: 2 -> 1",
            "budget cap tenants: bank, games -> bank",
        ]),
    ],
)  # fmt: skip
def test_a_budget_is_told_with_what_it_says(tmp_path: Path, old: str, new: str, lines: list[str]) -> None:
    assert told_of_budgets(tmp_path, BUDGETS, BUDGETS) == []
    assert told_of_budgets(tmp_path, BUDGETS, BUDGETS.replace(old, new)) == lines


def test_a_budget_that_is_new_or_gone_is_told_too(tmp_path: Path) -> None:
    new = told_of_budgets(tmp_path, "", BUDGETS)
    assert new[0] == "budget spill limit: none -> $5 a day"
    assert "budget cap of them: none -> 2" in new
    assert "budget cap limit: $1 an hour, $9 in all -> none" in told_of_budgets(tmp_path, BUDGETS, "")


def test_what_is_new_or_gone_is_left_to_the_decisions(tmp_path: Path) -> None:
    assert told(tmp_path, ("name: eu,", "name: europe,"), ("games:", "gamers:")) == []
