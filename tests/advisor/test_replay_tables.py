"""The tables of a report, cell by cell."""

from __future__ import annotations

import dataclasses

from proxy.advisor.figures import figures
from proxy.advisor.replay_tables import PART_COLUMNS, parts_of, quantile_rows, side_by_side, summary_columns
from proxy.advisor.trace import App
from tests.advisor.replays import one_policy, replayed, report_of, trace_of, two_policies


def test_a_line_of_a_run() -> None:
    report = one_policy()
    assert {name: cell(report.runs[1]) for name, cell in summary_columns(report)} == {
        "policy": "policy.yaml",
        "replicas": "1",
        "$/h": "$10.94",
        "GPUs": "$5.98",
        "shared": "$4.96",
        "$/month": "$7,988",
        "of bound": "1.52x",
        "in time": "99.92 %",
        "worst minute": "96.7 %",
        "TTFT P99": "1.25 s",
        "pace P99": "34.8 ms",
        "E2E P99": "5.25 s",
        "spilled": "23 %",
        "share of $": "23 %",
        "refused": "0",
    }


def test_what_is_not_known_is_a_dash() -> None:
    report = report_of(figures(replayed("rr", [0.1, 0.1])))
    cells = {name: cell(report.runs[0]) for name, cell in summary_columns(report)}
    assert [name for name, cell in cells.items() if cell == "-"] == [
        *("of bound", "TTFT P99", "pace P99", "E2E P99", "share of $")
    ]


def test_parts_that_there_is_one_of_have_no_table() -> None:
    apps = (App(name="a"), App(name="b"))
    trace = trace_of([0.0, 1.0], span_s=2.0, app=[0, 1], apps=apps)
    assert list(parts_of(figures(replayed("ds", [0.1, 0.1], trace=trace)))) == ["app", "target"]
    assert parts_of(figures(replayed("dd", [0.1, 0.1]))) == {}


def test_a_line_of_a_part() -> None:
    part = figures(replayed("ddddddddsr", [0.1] * 10)).whole
    cells = {name: cell(part) for name, cell in PART_COLUMNS}
    assert (cells["requests"], cells["in time"], cells["spilled"], cells["refused"]) == ("10", "90 %", "10 %", "1")
    assert (cells["TTFT P50"], cells["TTFT P99"]) == ("100 ms", "100 ms")


def test_quantiles() -> None:
    rows = list(quantile_rows(figures(replayed("d" * 101, [at / 100 for at in range(101)]))))
    assert rows[0] == ("TTFT", "500 ms", "900 ms", "950 ms", "990 ms")
    assert [row[0] for row in rows] == ["TTFT", "pace", "E2E"]


def test_differences() -> None:
    rows = {name.strip(): cells for name, *cells in side_by_side(two_policies())}
    assert rows["dollars an hour"] == ["$10.94", "$13.70", "+$2.76"]
    assert rows["for GPUs"] == ["$5.98", "$11.96", "+$5.98"]
    assert rows["to providers"] == ["$4.96", "$1.74", "-$3.22"]
    assert rows["served in time"] == ["99.92 %", "99.61 %", "-0.31 points"]
    assert rows["in the worst minute"] == ["96.67 %", "96.67 %", "same"]
    assert rows["share of dollars"] == ["22.97 %", "-", "-"]  # of one of them nothing is known
    assert rows["refused"] == ["0", "9", "+9"]
    assert {f"{kind} P{level}" for kind in ("TTFT", "pace", "E2E") for level in (50, 90, 95, 99)} <= rows.keys()


def test_one_policy_twice_is_the_same() -> None:
    one = one_policy()
    twice = dataclasses.replace(one, runs=(one.runs[1], dataclasses.replace(one.runs[1], policy="again.yaml")))
    changes = {row[-1] for row in side_by_side(twice)}
    assert changes <= {"same", "-"}
