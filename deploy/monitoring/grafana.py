"""What Grafana's dashboards are made of, as the plain JSON that it imports (schema version 39, Grafana 11)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SELECTOR = 'job="perception", namespace="$namespace"'
"""Label matchers of every query: the system in the namespace that is looked at."""

_COLUMNS = 24
_STAT_HEIGHT = 4
_GRAPH_HEIGHT = 8
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

Json = dict[str, Any]


@dataclass(frozen=True)
class Query:
    """One PromQL expression. legend: the name of its series, such as `{{camera}}`."""

    expression: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One panel. kind: Grafana's name of the visualization. look_for: in words, what a healthy one shows and what not.

    unit: Grafana's, such as `s` or `percentunit`. limit: from this value on it is red. columns: of 24.
    mappings: text for a value.
    """

    kind: str
    title: str
    look_for: str
    queries: Sequence[Query]
    unit: str = "short"
    limit: float | None = None
    columns: int = 12
    mappings: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    """Text and colour of a value."""


@dataclass(frozen=True)
class Row:
    """Panels under one heading, from left to right."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Dashboard:
    """One dashboard. variables: names of labels to choose from, with the metric that has them."""

    name: str
    title: str
    purpose: str
    rows: Sequence[Row]
    variables: Mapping[str, str] = field(default_factory=dict)


def number(title: str, look_for: str, expression: str, unit: str = "short", limit: float | None = None) -> Panel:
    """One number, large."""
    return Panel("stat", title, look_for, [Query(expression)], unit, limit, columns=4)


def graph(
    title: str, look_for: str, *queries: Query, unit: str = "short", limit: float | None = None, columns: int = 12
) -> Panel:
    """Series over time."""
    return Panel("timeseries", title, look_for, queries, unit, limit, columns)


def to_json(dashboard: Dashboard) -> Json:
    """The dashboard as Grafana imports it."""
    return {
        "uid": f"perception-{dashboard.name}",
        "title": f"Perception / {dashboard.title}",
        "description": dashboard.purpose,
        "tags": ["perception"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,  # one crosshair over all panels
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "links": [
            {
                "type": "dashboards",
                "tags": ["perception"],
                "title": "Perception",
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "templating": {"list": [*_COMMON_VARIABLES, *(_choice(*item) for item in dashboard.variables.items())]},
        "panels": _panels(dashboard.rows),
    }


def _query_variable(name: str, query: str) -> Json:
    return {
        "name": name,
        "label": name,
        "type": "query",
        "datasource": _DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,  # when the time range changes
        "sort": 1,
    }


_COMMON_VARIABLES: list[Json] = [
    {"name": "datasource", "label": "data source", "type": "datasource", "query": "prometheus"},
    _query_variable("namespace", 'label_values(up{job="perception"}, namespace)'),
]


def _choice(label: str, metric: str) -> Json:
    """Any number of a label's values."""
    variable = _query_variable(label, f"label_values({metric}{{{SELECTOR}}}, {label})")
    everything = {"text": ["All"], "value": ["$__all"]}
    return {**variable, "multi": True, "includeAll": True, "current": everything}


def _panels(rows: Sequence[Row]) -> list[Json]:
    panels: list[Json] = []
    y = 0
    for row in rows:
        panels.append(_row(row.title, len(panels) + 1, y))
        x, y = 0, y + 1
        height = 0
        for panel in row.panels:
            if x + panel.columns > _COLUMNS:
                x, y = 0, y + height
            height = _STAT_HEIGHT if panel.kind == "stat" else _GRAPH_HEIGHT
            position = {"x": x, "y": y, "w": panel.columns, "h": height}
            panels.append(_panel(panel, len(panels) + 1, position))
            x += panel.columns
        y += height
    return panels


def _row(title: str, identity: int, y: int) -> Json:
    position = {"x": 0, "y": y, "w": _COLUMNS, "h": 1}
    return {"id": identity, "type": "row", "title": title, "collapsed": False, "gridPos": position, "panels": []}


def _panel(panel: Panel, identity: int, position: Json) -> Json:
    return {
        "id": identity,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.look_for,
        "datasource": _DATASOURCE,
        "gridPos": position,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _DATASOURCE,
                "editorMode": "code",
                "expr": query.expression,
                "legendFormat": query.legend or "__auto",
                "range": True,
            }
            for index, query in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _OPTIONS[panel.kind],
    }


def _defaults(panel: Panel) -> Json:
    steps: list[Json] = [{"color": "green", "value": None}]
    if panel.limit is not None:
        steps.append({"color": "red", "value": panel.limit})
    defaults: Json = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.kind == "timeseries":
        defaults["min"] = 0
        defaults["custom"] = {
            "lineWidth": 1,
            "fillOpacity": 10,
            "showPoints": "never",
            "thresholdsStyle": {"mode": "off" if panel.limit is None else "dashed"},
        }
    if panel.mappings:
        options = {str(value): {"text": text, "color": colour} for value, (text, colour) in panel.mappings.items()}
        defaults["mappings"] = [{"type": "value", "options": options}]
    return defaults


_LEGEND: Json = {"showLegend": True, "displayMode": "table", "placement": "right", "calcs": ["lastNotNull", "max"]}
_OPTIONS: dict[str, Json] = {
    "stat": {
        "colorMode": "value",
        "graphMode": "area",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    },
    "timeseries": {"legend": _LEGEND, "tooltip": {"mode": "multi", "sort": "desc"}},
    "state-timeline": {"showValue": "never", "rowHeight": 0.8, "legend": {"showLegend": True, "displayMode": "list"}},
}
