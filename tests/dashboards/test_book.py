"""The dashboards in `helm/` are those that the code makes, and each panel of them can be read."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from dashboards.__main__ import FOLDER
from dashboards.book import BOOK
from dashboards.grafana import document, text_of
from dashboards.model import COLUMNS, Dashboard, Kind, Panel
from tests.dashboards import asked
from tests.readme import names, table

ALERTS = Path(__file__).parents[2] / "helm" / "alerts" / "spillway.yaml"
DASHBOARDS = pytest.mark.parametrize("dashboard", BOOK, ids=[one.name for one in BOOK])
UNSEEN: dict[str, str] = {}
"""Metrics that are on no panel and in no alert, and why."""


def exposed() -> set[str]:
    """Every metric that the program has: `tests/test_readme.py` holds this table to the code."""
    return {name for row in table("table: metrics") for name in names(row[0])}


def alert_rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


@DASHBOARDS
def test_what_is_committed_is_what_is_made(dashboard: Dashboard) -> None:
    assert (FOLDER / f"{dashboard.name}.json").read_text() == text_of(dashboard), "run `python -m dashboards`"


def test_nothing_else_is_committed_beside_them() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == {one.name for one in BOOK}


@DASHBOARDS
def test_panels_lie_beside_each_other(dashboard: Dashboard) -> None:
    places = [panel["gridPos"] for panel in document(dashboard)["panels"]]
    assert all(one["x"] >= 0 and one["x"] + one["w"] <= COLUMNS for one in places)
    for one, other in combinations(places, 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart or below, (one, other)


@DASHBOARDS
def test_no_row_has_a_hole(dashboard: Dashboard) -> None:
    """Every line of panels fills the page, so that nothing looks forgotten."""
    lines: dict[int, int] = {}
    for panel in document(dashboard)["panels"]:
        lines[panel["gridPos"]["y"]] = lines.get(panel["gridPos"]["y"], 0) + panel["gridPos"]["w"]
    assert set(lines.values()) == {COLUMNS}


def test_ids_titles_and_addresses_are_unique() -> None:
    assert len({document(one)["uid"] for one in BOOK}) == len(BOOK)
    for dashboard in BOOK:
        shown = document(dashboard)["panels"]
        assert len({one["id"] for one in shown}) == len({one["title"] for one in shown}) == len(shown)


def test_a_panel_says_what_it_means() -> None:
    def is_said(panel: Panel) -> bool:
        legends = {query.legend for query in panel.queries}
        named = len(legends) == len(panel.queries) and ("" not in legends or panel.kind is Kind.FIGURES)
        return named and bool(panel.unit) and len(panel.means) >= 20 and panel.means[-1] in ".?"

    assert [panel.title for _, panel in asked.panels() if not is_said(panel)] == []


def test_the_four_know_each_other_and_nothing_depends_on_the_time_of_writing() -> None:
    for dashboard in BOOK:
        made = document(dashboard)
        assert made["schemaVersion"] >= 39
        assert (made["timezone"], made["refresh"]) == ("browser", "30s")
        assert made["tags"] == made["links"][0]["tags"]
        assert json.loads(text_of(dashboard)) == made


def test_every_variable_is_used_and_every_used_one_is_there() -> None:
    for dashboard in BOOK:
        made = document(dashboard)
        text = json.dumps([made["panels"], made["annotations"], made["templating"]])
        used = set(re.findall(r"\$\{?(\w+)", text)) - {"__rate_interval", "__range", "__all"}
        assert used == {one["name"] for one in made["templating"]["list"]}


def test_every_query_is_promql_over_metrics_that_exist() -> None:
    unknown = {one.id: asked.metrics(one.expr) - exposed() for one in asked.queries()}
    assert {which: names for which, names in unknown.items() if names} == {}


def test_annotations_and_alerts_are_promql_over_metrics_that_exist() -> None:
    recorded = {f"{rule['record']}".removesuffix("_bucket") for rule in alert_rules() if "record" in rule}
    for expr in (*asked.annotations(), *(rule["expr"] for rule in alert_rules())):
        read = {re.sub(r"_bucket:rate\w+$", "", name) for name in asked.metrics(expr)}
        assert read <= exposed() | {re.sub(r"_bucket:rate\w+$", "", name) for name in recorded}


def test_every_metric_is_seen_somewhere() -> None:
    """What is measured and never looked at is a cost and no use."""
    exprs = [one.expr for one in asked.queries()] + list(asked.annotations()) + [rule["expr"] for rule in alert_rules()]
    seen = {name for expr in exprs for name in asked.metrics(expr)}
    assert exposed() - seen == set(UNSEEN)


def test_no_query_adds_up_what_every_proxy_tells_alike() -> None:
    """The whole cluster's figures are on each proxy: summed, they would count once for every proxy."""
    alike = re.compile(
        r"spillway_(gpu_|usd_per_mtok|saving_|replicas|budget_(limit|spent|held)|inflight|upstream_state|queued_|decoding_"
        r"|engine_(requests|kv|preempt)|objective_|ttft_factor|itl_factor|discovery_age)"
    )
    for expr in (*(one.expr for one in asked.queries()), *(rule["expr"] for rule in alert_rules())):
        inner = re.sub(r"\b(rate|increase|avg_over_time|label_replace)\(", "(", expr)
        for found in alike.finditer(inner):
            before = re.sub(r"[\s(]+$", "", inner[: found.start()])
            assert re.search(r"\b(max|min|avg)( by \([\w, ]+\))?$", before), f"{found[0]} in {expr}"


def test_every_alert_has_a_runbook_that_is_there() -> None:
    written = {name for row in table("table: alerts") for name in names(row[0])}
    alerts = [rule for rule in alert_rules() if "alert" in rule]
    assert written == {rule["alert"] for rule in alerts}
    readme = (ALERTS.parents[2] / "README.md").read_text(encoding="utf-8")
    for rule in alerts:
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert {"summary", "description", "runbook_url"} == set(rule["annotations"])
        assert rule["annotations"]["runbook_url"] == f"README.md#{rule['alert'].lower()}"
        assert f'<a id="{rule["alert"].lower()}"></a>' in readme
