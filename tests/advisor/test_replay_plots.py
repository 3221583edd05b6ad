"""The plots: axes with units, lines with names, and nothing that only colour tells."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from proxy.advisor import replay_plots as plots
from proxy.advisor.figures import Figures, figures
from tests.advisor.replays import hour, one_policy, replayed, report_of, trace_of, two_policies

PLOTS = (
    plots.cost_by_replicas,
    plots.attainment_by_minute,
    plots.waits,
    plots.lanes_over_time,
    plots.shared_dollars,
)


def words(svg: str) -> str:
    texts = ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    return "\n".join("".join(text.itertext()) for text in texts)


def test_axes_have_units_and_lines_names() -> None:
    cost = words(plots.cost_by_replicas(one_policy()))
    for text in ("dollars an hour", "replicas of the dedicated target", "GPU hours", "shared tokens", "$10.94"):
        assert text in cost
    assert "least possible" in cost
    assert "shared APIs alone" in cost
    assert "minutes from the beginning of the trace" in words(plots.attainment_by_minute(one_policy()))
    assert "requests that took longer" in words(plots.waits(one_policy()))
    assert "one more replica" in words(plots.shared_dollars(one_policy()))


def test_lanes_differ_in_hatch_and_policies_in_line_style() -> None:
    lanes = plots.lanes_over_time(two_policies())
    assert "refused" in words(lanes)
    assert len(re.findall("<pattern ", lanes)) >= 2
    dashes = re.findall(r"stroke-dasharray: [0-9.,]+", plots.attainment_by_minute(two_policies()))
    assert len(set(dashes)) >= 2


def test_runs_below_the_goal_are_red() -> None:
    bad = figures(replayed("d" * 9 + "r", [0.1] * 10))
    assert plots.ALARM in plots.cost_by_replicas(report_of(bad))
    assert plots.ALARM not in plots.cost_by_replicas(report_of(figures(replayed("d" * 10, [0.1] * 10))))


def test_other_rules_are_drawn_beside_the_policies() -> None:
    drawn = words(plots.against_others(two_policies()))
    assert "in flight 32, 2 replicas" in drawn
    assert "policy.yaml, 1 replica" in drawn


@pytest.mark.parametrize(
    "run",
    [
        figures(replayed("r" * 30, [0.1] * 30)),
        figures(replayed("d", [0.1])),
        figures(replayed("ds", [0.1, 0.1], trace=trace_of([0.0, 150.0], span_s=290.0))),
        figures(replayed("d" * 10, [0.1] * 10, trace=trace_of(np.linspace(0, 6e5, 10).tolist(), span_s=604800.0))),
        dataclasses.replace(figures(hour(refusing=True)), objectives=((float("inf"), float("inf")),)),
    ],
    ids=["all refused", "one request", "silent minutes", "a week", "no objectives"],
)
def test_odd_replays_have_plots_too(run: Figures) -> None:
    for plot in PLOTS:
        assert ET.fromstring(plot(report_of(run))) is not None


def test_a_week_is_drawn_with_a_few_hundred_points() -> None:
    week = replayed("d" * 1000, [0.1] * 1000, trace=trace_of(np.linspace(0, 6e5, 1000).tolist(), span_s=604800.0))
    drawn = plots.attainment_by_minute(report_of(figures(week)))
    assert "in the worst of 21 minutes" in words(drawn)
    assert "days from the beginning of the trace" in words(drawn)
    assert len(drawn) < 100_000


def test_the_last_minute_counts_as_whole() -> None:
    half = figures(replayed("d" * 90, [0.1] * 90))  # 60 requests in the first minute, 30 in half a minute
    assert plots._rates(half, half.minutes.requests).tolist() == [60.0, 60.0]
