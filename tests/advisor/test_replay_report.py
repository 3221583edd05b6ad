"""Which run is the best, what it is held against, and the report as data."""

from __future__ import annotations

import dataclasses
import json

import pytest
from proxy.advisor.figures import Figures, figures
from proxy.advisor.replay_bound import Least
from proxy.advisor.replay_report import Report, best, replicas_words, to_json, traffic_of
from tests.advisor.replays import PRICE_NANO_USD, replayed, trace_of


def run(lanes: str, gpu_nano_usd: int, replicas: int, policy: str = "a.yaml") -> Figures:
    served = [0.1] * len(lanes)
    return figures(
        replayed(lanes, served, policy=policy, replicas={"gpus": replicas}, gpu_nano_usd=gpu_nano_usd, every_s=0.36)
    )


def report(*runs: Figures, **more: object) -> Report:
    return Report(traffic=traffic_of(trace_of([0.0, 1.0], span_s=2.0)), runs=runs, **more)  # type: ignore[arg-type]


def test_the_best_is_the_cheapest_that_is_good_enough() -> None:
    cheap, good, dear = run("r" * 200, 1, 1), run("d" * 198 + "rr", 5, 2), run("d" * 200, 9, 3)
    assert best((dear, cheap, good)) is good
    bad, worse = run("d" * 97 + "rrr", 9, 1), run("d" * 96 + "rrrr", 1, 2)
    assert best((worse, bad)) is bad


def test_what_a_run_is_held_against() -> None:
    least = Least(nano_usd=4.0 * PRICE_NANO_USD, replicas=1, all_shared_nano_usd=10.0 * PRICE_NANO_USD)
    none, one = run("p" * 10, 0, 0), run("dddddddss" + "d", 3 * PRICE_NANO_USD, 1)
    found = report(none, one, bounds={"a.yaml": least})
    assert found.all_shared("a.yaml") is none
    assert found.regret(one) == pytest.approx(5 / 4)
    assert found.dollar_share(one) == pytest.approx(0.2)
    plain = report(none, one)
    assert plain.regret(one) is None
    assert plain.dollar_share(one) == pytest.approx(0.2)  # of the run without a replica
    assert report(one).dollar_share(one) is None


def test_a_baseline_has_the_bound_of_the_first_policy() -> None:
    least = Least(nano_usd=4.0, replicas=1, all_shared_nano_usd=9.0)
    other = run("d" * 10, 8, 1, policy="in flight 32")
    found = report(run("d" * 10, 5, 1), baselines=(other,), bounds={"a.yaml": least})
    assert found.regret(other) == 2.0


def test_policies_keep_their_order() -> None:
    found = report(run("d", 1, 1, "b.yaml"), run("d", 1, 2, "b.yaml"), run("d", 1, 1, "a.yaml"))
    assert found.policies == ("b.yaml", "a.yaml")
    assert [one.replicas["gpus"] for one in found.of("b.yaml")] == [1, 2]


@pytest.mark.parametrize(
    ("replicas", "words"),
    [
        ({}, "0 replicas"),
        ({"a": 1}, "1 replica"),
        ({"a": 2}, "2 replicas"),
        ({"a": 2, "b": 2}, "2 replicas of each"),
        ({"a": 0, "b": 0}, "0 replicas"),
        ({"a": 2, "b": 1}, "a 2, b 1"),
    ],
)
def test_replicas_in_words(replicas: dict[str, int], words: str) -> None:
    assert replicas_words(replicas) == words


def test_as_data() -> None:
    nothing = run("rr", 7, 1)
    data = json.loads(to_json(report(nothing, run("dds", 5, 2), assumptions=("so it is",))))
    assert data["trace"]["requests"] == 2
    assert data["best"] == {"a.yaml": 1}
    assert data["assumptions"] == ["so it is"]
    first, second = data["runs"]
    assert first["all"]["ttft_s"] == {"p50": None, "p90": None, "p95": None, "p99": None}
    assert first["regret"] is None
    assert second["nano_usd"] == 5 + PRICE_NANO_USD
    assert second["replicas"] == {"gpus": 2}
    assert second["objectives"] == [{"ttft_s": 2.0, "pace_s": 0.05}]
    assert second["minutes"]["spilled"] == [1]
    assert second["worst_minute"] == {"minute": 0, "requests": 3, "attainment": 1.0}
    assert {part["name"] for part in second["targets"]} == {"gpus", "api"}


def test_routes_without_objectives_have_none_in_the_data() -> None:
    free = dataclasses.replace(run("dd", 1, 1), objectives=((float("inf"), 0.05),))
    assert json.loads(to_json(report(free)))["runs"][0]["objectives"] == [{"ttft_s": None, "pace_s": 0.05}]
