"""What the dashboards ask of Prometheus, taken apart: every query as Grafana would send it, and what is named in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import promql_parser
from dashboards.book import BOOK
from dashboards.grafana import document
from dashboards.model import Dashboard, Panel, Query

CHOSEN = {
    "$__rate_interval": "10s",
    "$__range": "60s",
    "$namespace": "",
    "$job": "spillway",
    "${quantile:text}": "p99",
    "$quantile": "0.99",
    "$route": ".*",
    "$target": ".*",
}
"""What Grafana puts in the place of each variable, for a Prometheus that scrapes every second and knows no cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One query of one panel."""

    dashboard: Dashboard
    panel: Panel
    query: Query

    @property
    def id(self) -> str:
        which = self.query.legend or "it"
        return f"{self.dashboard.name}: {self.panel.title}: {which}"

    @property
    def expr(self) -> str:
        return filled_in(self.query.expr)


def panels() -> Iterator[tuple[Dashboard, Panel]]:
    return ((book, panel) for book in BOOK for row in book.rows for panel in row.panels)


def queries() -> Iterator[Asked]:
    for book, panel in panels():
        for query in panel.queries:
            yield Asked(dashboard=book, panel=panel, query=query)


def annotations() -> Iterator[str]:
    return (filled_in(one["expr"]) for book in BOOK for one in document(book)["annotations"]["list"])


def filled_in(expr: str) -> str:
    for name, value in CHOSEN.items():
        expr = expr.replace(name, value)
    assert "$" not in expr, f"a variable that Grafana does not know: {expr}"
    return expr


def selectors(expr: str) -> list[promql_parser.VectorSelector]:
    """Every selector of series in the expression; promql_parser raises ValueError for what is no PromQL."""
    found = []

    def note(node: promql_parser.Expr) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        elif isinstance(node, promql_parser.MatrixSelector):
            found.append(node.vector_selector)
        return True

    promql_parser.walk(promql_parser.parse(expr), note)
    return list({id(one): one for one in found}.values())


def metrics(expr: str) -> set[str]:
    """The metrics that the expression reads; a histogram's buckets are the histogram's."""
    return {one.name.removesuffix("_bucket") for one in selectors(expr)}


def matched(expr: str) -> set[tuple[str, str]]:
    """(metric, label) for every label that a selector names."""
    return {(one.name, by.name) for one in selectors(expr) for by in one.matchers.matchers}


def joined(expr: str) -> set[str]:
    """The labels that anything is aggregated or matched by."""
    found: set[str] = set()

    def note(node: promql_parser.Expr) -> bool:
        modifier = getattr(node, "modifier", None)
        if isinstance(node, promql_parser.AggregateExpr) and modifier is not None:
            found.update(modifier.labels)
        elif isinstance(node, promql_parser.BinaryExpr) and modifier is not None:
            found.update(modifier.matching.labels if modifier.matching else ())
        return True

    promql_parser.walk(promql_parser.parse(expr), note)
    return found
