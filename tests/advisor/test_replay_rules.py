"""The rules of others that a policy is held against."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from proxy.advisor.figures import Figures, figures
from proxy.advisor.replay_rules import best_of_each, kind_of, rules_of, tightest_ttft_s
from proxy.policy.compile import compile_policy
from proxy.policy.model import Snapshot
from proxy.routing.predict import DEFAULT_TTFT_S
from tests.advisor.replays import replayed

POLICY = """
version: 1
targets:
  api: {lane: shared, provider: openai, url: "https://api/v1", model: m, price: {input: 1, output: 1}}
models:
  m: [api]
"""


def snapshot(tmp_path: Path, routes: str = "") -> Snapshot:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY + routes)
    return compile_policy(path, env={}, price_of=lambda *_: None)


def run(name: str, lanes: str, gpu_nano_usd: int) -> Figures:
    return figures(replayed(lanes, [0.1] * len(lanes), policy=name, gpu_nano_usd=gpu_nano_usd))


def test_every_kind_of_rule_is_there_with_its_settings(tmp_path: Path) -> None:
    names = rules_of(snapshot(tmp_path))
    assert {kind_of(name) for name in names} == {"all dedicated", "in flight", "queue", "weight", "AIMD"}
    assert len({name for name in names if name.startswith("in flight")}) > 2


@pytest.mark.parametrize(
    ("routes", "ttft_s"),
    [
        ("", DEFAULT_TTFT_S),
        ("routes:\n  - {name: a, want: {itl_p99: 50ms}}\n", DEFAULT_TTFT_S),
        ("routes:\n  - {name: a, match: {model: m}, want: {ttft_p99: 3s}}\n  - {name: b, want: {ttft_p95: 1s}}\n", 1.0),
    ],
)
def test_first_tokens_are_late_by_the_tightest_objective(tmp_path: Path, routes: str, ttft_s: float) -> None:
    assert tightest_ttft_s(snapshot(tmp_path, routes)) == ttft_s


def test_of_each_rule_the_setting_that_did_best_is_told() -> None:
    dear, cheap = run("in flight 8", "dddd", 9), run("in flight 32", "dddd", 5)
    missed, other = run("in flight 128", "drrr", 1), run("queue 2", "ddrr", 3)
    assert best_of_each([dear, cheap, missed, other]) == (cheap, other)


def test_the_same_setting_counts_with_its_best_number_of_replicas() -> None:
    one = run("weight 50%", "dddd", 5)
    two = dataclasses.replace(one, replicas={"gpus": 2}, gpu_nano_usd=10)
    assert best_of_each([two, one]) == (one,)
