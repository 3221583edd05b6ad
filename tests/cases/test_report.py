"""A run is told to people, to programs and to CI."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from proxy.cases.case import judge, read_cases
from proxy.cases.coverage import coverage
from proxy.cases.report import Run, as_json, as_junit, share, told
from proxy.routing.decide import Router
from tests.cases.policies import case_file, compiled

CASES = """defaults: {model: chat, tenant: bank}
cases:
  - {name: stays, expect: {attempts: [own], excluded: {api: require.region}}}
  - {name: <leaves>, expect: {attempts: [own, api], relaxed: true}}
  - {name: chooses, given: {lane: shared}, expect: {cause: spillover}}
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    snapshot = compiled(tmp_path)
    router = Router(snapshot)
    results = tuple(judge(case, router) for case in read_cases(case_file(tmp_path, CASES), snapshot))
    seen = coverage(snapshot, [(result.case.given, result.decision) for result in results])
    return Run(snapshot=snapshot, results=results, coverage=seen)


def test_a_failure_says_what_was_expected_what_came_and_why(run: Run) -> None:
    lines = list(told(run))
    assert lines[0] == "ok    stays"
    assert lines[1].startswith("FAIL  <leaves>  (")
    assert lines[1].endswith("policy.test.yaml:4:5)")
    assert lines[2:5] == [
        "      attempts: expected [own, api], got [own]",
        "      relaxed: expected true, got false",
        "      because `api` is left out by require.region: us against eu-*",
    ]
    assert lines[6] == "      cause: expected spillover, got nothing"
    assert lines[7].startswith("      refused: 403 lane_override_not_allowed: route `eu` does not let callers")


def test_what_no_case_has_seen_is_told(run: Run) -> None:
    lines = list(told(run))
    assert "not covered: route default never matched" in lines
    assert lines[-1] == "1 passed, 2 failed; coverage 37.5% (3 of 8)"
    assert share(run.coverage) == "37.5%"


def test_programs_read_json(run: Run) -> None:
    read = json.loads(json.dumps(as_json(run)))
    assert (read["passed"], read["failed"]) == (1, 2)
    stays, leaves, chooses = read["cases"]
    assert (stays["passed"], stays["line"], stays["differences"]) == (True, 3, [])
    assert leaves["differences"][0] == {"key": "attempts", "expected": ["own", "api"], "got": ["own"]}
    assert leaves["excluded"][0]["rule"] == "require.region"
    assert chooses["refused"]["code"] == "lane_override_not_allowed"
    assert {"subject": "route default", "rule": "", "side": "matched"} in read["coverage"]["missing"]


def test_ci_reads_junit(run: Run) -> None:
    root = ET.fromstring(as_junit(run))
    (suite,) = root
    assert (suite.get("tests"), suite.get("failures")) == ("3", "2")
    stays, leaves, _ = suite
    assert (stays.get("name"), len(stays)) == ("stays", 0)
    (failure,) = leaves
    assert leaves.get("line") == "4"
    assert failure.get("message") == "attempts: expected [own, api], got [own]; relaxed: expected true, got false"
    assert "require.region" in (failure.text or "")
