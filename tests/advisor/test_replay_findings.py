"""The sentences of a report say what was found, with the numbers that carry it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from proxy.advisor import replay_findings as say
from proxy.advisor.figures import figures
from proxy.advisor.replay_bound import Least
from proxy.advisor.replay_report import Report, traffic_of
from tests.advisor.replays import hour, replayed, trace_of

LEAST = Least(nano_usd=7.2e9, replicas=1, all_shared_nano_usd=21.6e9)
RUNS = tuple(figures(hour(replicas=count)) for count in range(3))
REPORT = Report(traffic=traffic_of(hour().trace), runs=RUNS, bounds={"policy.yaml": LEAST})


def test_the_verdict() -> None:
    assert say.verdict(REPORT, "policy.yaml") == (
        "With 1 replica, this traffic costs $10.94 an hour ($7,988 a month), 26 % less than with shared APIs alone "
        "($14.72) and 52 % above the least that any rule could pay ($7.20); 99.92 % of requests were served in time."
    )


def test_the_verdict_without_anything_to_compare_with() -> None:
    alone = dataclasses.replace(REPORT, runs=RUNS[2:], bounds={})
    assert say.verdict(alone, "policy.yaml").startswith("With 2 replicas, this traffic costs $11.96 an hour ($8,731 a")
    assert "than" not in say.verdict(alone, "policy.yaml")
    none = dataclasses.replace(REPORT, runs=RUNS[:1], bounds={})
    assert say.verdict(none, "policy.yaml").startswith("Without GPUs of one's own, this traffic costs $14.72 an hour")


def test_a_verdict_below_the_goal() -> None:
    missed = figures(replayed("d" * 9 + "r", [0.1] * 10))
    report = dataclasses.replace(REPORT, runs=(missed,), bounds={})
    assert say.verdict(report, "policy.yaml").endswith(
        "; 90 % of requests were served in time, below the goal of 99 %."
    )


def test_the_heading_of_costs() -> None:
    assert say.cost_heading(REPORT) == "Cheapest with 1 replica: $10.94 an hour, against $14.72 with none"
    assert say.cost_heading(dataclasses.replace(REPORT, runs=RUNS[1:2])) == "Cost with 1 replica: $10.94 an hour"
    none = dataclasses.replace(REPORT, runs=RUNS[:1])
    assert say.cost_heading(none) == "Cheapest without GPUs of one's own: $14.72 an hour"


def test_two_policies_are_compared() -> None:
    other = dataclasses.replace(RUNS[2], policy="other.yaml")
    two = dataclasses.replace(REPORT, runs=(*RUNS, other))
    assert say.cost_heading(two) == "policy.yaml costs 8.5 % less than other.yaml: $10.94 against $11.96 an hour"
    same = dataclasses.replace(REPORT, runs=(RUNS[1], dataclasses.replace(RUNS[1], policy="other.yaml")))
    assert say.cost_heading(same) == "The policies cost the same: $10.94 an hour"


def test_other_rules() -> None:
    other = dataclasses.replace(RUNS[2], policy="in flight 32")
    with_it = dataclasses.replace(REPORT, baselines=(other,))
    assert say.baselines_heading(with_it) == (
        "8.5 % less than the best other rule, in flight 32, tuned in hindsight ($11.96 an hour)"
    )


def test_the_worst_minute() -> None:
    missed = figures(replayed("d" * 60 + "r" + "d" * 59, [0.1] * 120))
    report = dataclasses.replace(REPORT, runs=(missed,))
    assert say.attainment_heading(report, missed) == (
        "In the worst minute (minute 1) 98.3 % of requests were served in time"
    )
    fine = figures(replayed("d" * 60, [0.1] * 60))
    assert say.attainment_heading(report, fine) == "In every single minute all requests were served in time"


@pytest.mark.parametrize(
    ("span_s", "began_at_s", "words"),
    [
        (3600.0, None, "minute 65"),
        (2 * say.DAY_S, None, "after 1 h 5 min"),
        (3600.0, 1700000000.0, "23:18 UTC"),
        (2 * say.DAY_S, 1700000000.0, "14 Nov 23:18 UTC"),
    ],
)
def test_moments(span_s: float, began_at_s: float | None, words: str) -> None:
    traffic = dataclasses.replace(REPORT.traffic, span_s=span_s, began_at_s=began_at_s)
    assert say.moment(dataclasses.replace(REPORT, traffic=traffic), 65) == words


def test_waits() -> None:
    run = figures(replayed("d" * 100, [0.5] * 100))
    assert say.wait_heading(run) == "99 of 100 first tokens came within 500 ms, the objective being 2 s"
    free = dataclasses.replace(run, objectives=((float("inf"), 0.05),))
    assert say.wait_heading(free) == "99 of 100 first tokens came within 500 ms"
    assert say.wait_heading(figures(replayed("r", [0.0]))) == "No request was served"


def test_lanes_and_dollars() -> None:
    run = figures(replayed("ddddddddsr", [0.1] * 10, every_s=60.0))
    assert say.lanes_heading(run) == "10 % of requests spilled, 10 % were refused"
    assert say.spill_heading(run) == (
        "Shared providers took $0.00600 an hour, and $0.0600 an hour in the dearest minute"
    )
    calm = figures(replayed("d" * 10, [0.1] * 10))
    assert say.lanes_heading(calm) == "No request spilled, none was refused"
    assert say.spill_heading(calm) == "Nothing was paid to shared providers"


def test_a_trace_without_requests_at_night() -> None:
    run = figures(replayed("dd", [0.1, 0.1], trace=trace_of([0.0, 150.0], span_s=300.0)))
    assert say.attainment_heading(REPORT, run) == "In every single minute all requests were served in time"


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (1.0, "100 %"),
        (0.0, "0 %"),
        (0.99, "99 %"),
        (0.9999, "99.99 %"),
        (0.975, "97.5 %"),
        (0.58, "58 %"),
        (0.045, "4.5 %"),
        (0.001, "0.10 %"),
        (1e-6, "<0.01 %"),
        (0.999999, ">99.99 %"),
        (1.34, "134 %"),
        (1.058, "106 %"),
        (np.nan, "-"),
    ],
)
def test_percentages(share: float, words: str) -> None:
    assert say.percent(share) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0213, "21.3 ms"), (0.45, "450 ms"), (0.99999, "1 s"), (2.0, "2 s"), (12.34, "12.3 s"), (np.nan, "-")],
)
def test_seconds(value: float, words: str) -> None:
    assert say.seconds(value) == words


@pytest.mark.parametrize(
    ("value_s", "words"),
    [(30.0, "30 s"), (3504.0, "58 min"), (86400.0, "24 h"), (9000.0, "2.5 h"), (604800.0, "7 days")],
)
def test_spans(value_s: float, words: str) -> None:
    assert say.span(value_s) == words


def test_objectives_in_words() -> None:
    assert say.objective_words(2.0, 0.05) == "first token within 2 s, 50 ms per output token"
    assert say.objective_words(np.inf, np.inf) == "any time"
