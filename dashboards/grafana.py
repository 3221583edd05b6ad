"""Dashboards as the JSON that Grafana reads: schema version 39, which every Grafana since 10.4 reads and migrates.

Source of the names: Grafana's JSON model, https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from string import ascii_uppercase
from typing import Any

from dashboards.model import COLUMNS, Choice, Dashboard, Kind, Panel, Query, Row
from dashboards.promql import INSTALLATION

TAG = "spillway"
_SCHEMA_VERSION = 39
_LABEL_VALUES = 1
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_ALL = {"text": ["All"], "value": ["$__all"]}

_POLICY_CHANGES = f"""max by (revision) (
  changes(spillway_policy_generation{{{INSTALLATION}}}[2m])
  * on (job, instance) group_left (revision) spillway_policy_info{{{INSTALLATION}}}
) > 0"""


def text_of(dashboard: Dashboard) -> str:
    """The file, the same every time."""
    return json.dumps(document(dashboard), indent=2, ensure_ascii=False) + "\n"


def document(dashboard: Dashboard) -> dict[str, Any]:
    """The dashboard's JSON model."""
    return {
        "uid": f"spillway-{dashboard.name}",
        "title": dashboard.title,
        "description": dashboard.means,
        "tags": [TAG],
        "schemaVersion": _SCHEMA_VERSION,
        "timezone": "browser",
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "links": [_link()],
        "annotations": {"list": [_policy_changes()]},
        "templating": {"list": [_source_choice(), *map(_choice, dashboard.choices)]},
        "panels": list(_placed(dashboard.rows)),
    }


def _placed(rows: tuple[Row, ...]) -> Iterator[dict[str, Any]]:
    number, top = 1, 0
    for row in rows:
        place = {"h": 1, "w": COLUMNS, "x": 0, "y": top}
        yield {"id": number, "type": "row", "title": row.title, "collapsed": False, "gridPos": place, "panels": []}
        number, top, left = number + 1, top + 1, 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                top, left = top + row.height, 0
            place = {"h": row.height, "w": panel.width, "x": left, "y": top}
            yield {"id": number, "gridPos": place, **_panel(panel)}
            number, left = number + 1, left + panel.width
        top += row.height


def _panel(panel: Panel) -> dict[str, Any]:
    refs = ascii_uppercase[: len(panel.queries)]
    shown: dict[str, Any] = {
        "type": panel.kind.value,
        "title": panel.title,
        "description": panel.means,
        "datasource": _SOURCE,
        "targets": [_target(ref, query, panel.kind) for ref, query in zip(refs, panel.queries, strict=True)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": list(_overrides(panel, refs))},
        "options": _OPTIONS[panel.kind],
    }
    if panel.kind is Kind.TABLE:
        shown["transformations"] = _joined(panel, refs)
    return shown


def _target(ref: str, query: Query, kind: Kind) -> dict[str, Any]:
    now = query.now or kind is Kind.TABLE
    return {
        "refId": ref,
        "datasource": _SOURCE,
        "editorMode": "code",
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "format": "table" if kind is Kind.TABLE else "time_series",
        "instant": now,
        "range": not now,
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    steps = [{"color": panel.base, "value": None}, *({"color": to, "value": at} for at, to in panel.limits)]
    by_limit = panel.kind in (Kind.FIGURES, Kind.BARS, Kind.STATES)
    words = {str(one.value): {"text": one.word, "color": one.colour, "index": one.value} for one in panel.states}
    told = {"min": panel.least, "max": panel.most, "decimals": panel.decimals, "noValue": panel.empty_is_good or None}
    return {
        "unit": panel.unit.value,
        "color": {"mode": "thresholds" if by_limit else "palette-classic"},
        "thresholds": {"mode": "absolute", "steps": steps},
        "mappings": [{"type": "value", "options": words}] if words else [],
        **{name: value for name, value in told.items() if value is not None},
        "custom": _look(panel),
    }


def _look(panel: Panel) -> dict[str, Any]:
    if panel.kind is Kind.LINES:
        return {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 35 if panel.stacked else 5,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if panel.limits else "off"},
        }
    if panel.kind is Kind.STATES:
        return {"fillOpacity": 80, "lineWidth": 0}
    return {"align": "auto", "cellOptions": {"type": "auto"}} if panel.kind is Kind.TABLE else {}


def _overrides(panel: Panel, refs: str) -> Iterator[dict[str, Any]]:
    for ref, query in zip(refs, panel.queries, strict=True):
        looks: list[dict[str, Any]] = []
        if query.dashed:
            looks.append({"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}})
            looks.append({"id": "custom.fillOpacity", "value": 0})
        if query.colour:
            looks.append({"id": "color", "value": {"mode": "fixed", "fixedColor": query.colour}})
        if looks:
            yield {"matcher": {"id": "byFrameRefID", "options": ref}, "properties": looks}
        if panel.kind is Kind.TABLE:
            unit = {"id": "unit", "value": (query.unit or panel.unit).value}
            yield {"matcher": {"id": "byName", "options": query.legend}, "properties": [unit]}
    for name, colour in panel.colours:
        fixed = {"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}
        yield {"matcher": {"id": "byName", "options": name}, "properties": [fixed]}


def _joined(panel: Panel, refs: str) -> list[dict[str, Any]]:
    """One line for each set of labels, one column for each query, named for what it says."""
    if len(refs) == 1:
        names = {"Value": panel.queries[0].legend, f"Value #{refs}": panel.queries[0].legend}
    else:
        names = {f"Value #{ref}": query.legend for ref, query in zip(refs, panel.queries, strict=True)}
    organised = {"excludeByName": {"Time": True}, "indexByName": {}, "renameByName": names}
    return [{"id": "merge", "options": {}}, {"id": "organize", "options": organised}]


def _link() -> dict[str, Any]:
    return {
        "type": "dashboards",
        "title": "Spillway",
        "tags": [TAG],
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
    }


def _policy_changes() -> dict[str, Any]:
    return {
        "name": "Policy changes",
        "datasource": _SOURCE,
        "enable": True,
        "expr": _POLICY_CHANGES,
        "iconColor": "purple",
        "step": "60s",
        "titleFormat": "Policy {{revision}}",
        "textFormat": "adopted; what it changed: spillway policy diff",
    }


def _source_choice() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "refresh": 1}


def _choice(choice: Choice) -> dict[str, Any]:
    if choice.given:
        options = [{"text": text, "value": value, "selected": not at} for at, (text, value) in enumerate(choice.given)]
        return {
            "name": choice.name,
            "label": choice.label,
            "type": "custom",
            "query": ", ".join(f"{text} : {value}" for text, value in choice.given),
            "current": options[0],
            "options": options,
        }
    shown: dict[str, Any] = {
        "name": choice.name,
        "label": choice.label,
        "type": "query",
        "datasource": _SOURCE,
        "definition": choice.query,
        "query": {
            "qryType": _LABEL_VALUES,
            "query": choice.query,
            "refId": "PrometheusVariableQueryEditor-VariableQuery",
        },
        "refresh": 2,
        "sort": 1,
    }
    return shown | {"multi": True, "includeAll": True, "allValue": ".*", "current": _ALL} if choice.any_of else shown


_LEGEND = {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": ["lastNotNull"]}
_REDUCED = {"calcs": ["lastNotNull"], "fields": "", "values": False}
_OPTIONS: dict[Kind, dict[str, Any]] = {
    Kind.LINES: {"legend": _LEGEND, "tooltip": {"mode": "multi", "sort": "desc"}},
    Kind.FIGURES: {
        "reduceOptions": _REDUCED,
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "textMode": "auto",
        "orientation": "auto",
    },
    Kind.BARS: {
        "reduceOptions": _REDUCED,
        "displayMode": "basic",
        "orientation": "horizontal",
        "showUnfilled": True,
        "valueMode": "color",
        "namePlacement": "left",
    },
    Kind.TABLE: {"showHeader": True, "cellHeight": "sm", "footer": {"show": False}},
    Kind.STATES: {
        "mergeValues": True,
        "showValue": "never",
        "rowHeight": 0.8,
        "legend": {"showLegend": True, "displayMode": "list", "placement": "bottom"},
        "tooltip": {"mode": "single"},
    },
}
