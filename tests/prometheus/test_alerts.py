"""The alerts fire when they should, and not when they should not: `promtool test rules` on series made for each."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ALERTS = Path(__file__).parents[2] / "helm" / "alerts" / "spillway.yaml"
CASES = sorted((Path(__file__).parent / "rules").glob("*.yaml"))
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")


def promtool(*words: str | Path) -> None:
    assert PROMTOOL is not None
    done = subprocess.run((PROMTOOL, *words), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def alerts() -> set[str]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}


def asked() -> list[dict[str, Any]]:
    """Every expectation on ALERTS, of all cases."""
    tests = [test for path in CASES for test in yaml.safe_load(path.read_text())["tests"]]
    return [one for test in tests for one in test["promql_expr_test"] if "ALERTS" in one["expr"]]


def named(one: dict[str, Any]) -> set[str]:
    """The alerts that an expectation is about."""
    pattern = re.search(r'alertname=~?"([^"]+)"', one["expr"])
    assert pattern is not None, one
    return {name for name in alerts() if re.fullmatch(pattern[1], name)}


@needs_promtool
def test_the_rules_are_rules() -> None:
    promtool("check", "rules", ALERTS)


@needs_promtool
@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_they_fire_as_they_should(case: Path) -> None:
    promtool("test", "rules", case)


def test_each_alert_is_seen_to_fire() -> None:
    firing = [one for one in asked() if one.get("exp_samples")]
    by_label = {re.search(r'alertname="(\w+)"', s["labels"]) for one in firing for s in one["exp_samples"]}
    fired = {found[1] for found in by_label if found} | {
        name for one in firing if len(named(one)) == 1 for name in named(one)
    }
    assert fired == alerts()
