"""The Grafana dashboard as a JSON value: one row of panels for each group of the table of metrics.

The same table gives the same dashboard, down to the identifiers, so that it can be compared with what a server has.
It names no data source: a variable of the dashboard does, and each Grafana fills in its own. The fields are those of
Grafana's dashboard JSON model, schema 36; a newer Grafana migrates them when it opens the dashboard.
"""

from collections.abc import Iterable
from typing import Any

from cluster.metrics import GROUPS, METRICS, GroupName, Metric

UID = "equimodels"  # the address of the dashboard: /d/equimodels
TITLE = "Equimodels"
SCHEMA_VERSION = 36
WIDTH, HEIGHT, ACROSS = 8, 8, 3  # of a panel in grid units; a dashboard is 24 wide
DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
ROW_TITLES: dict[GroupName, str] = {"training": "Training", "sweeps": "Sweeps", "endpoints": "Endpoints"}


def render_dashboard(metrics: Iterable[Metric] = METRICS.values()) -> dict[str, Any]:
    """The dashboard. It has no `id` and no `version`: those are the server's."""
    rows = list(metrics)
    panels: list[dict[str, Any]] = []
    top = 0
    for group in GROUPS:
        members = [metric for metric in rows if metric.group == group]
        panels.append(_row(len(panels) + 1, ROW_TITLES[group], top))
        for place, metric in enumerate(members):
            x, y = place % ACROSS * WIDTH, top + 1 + place // ACROSS * HEIGHT
            panels.append(_panel(len(panels) + 1, metric, x, y))
        top += 1 + -(-len(members) // ACROSS) * HEIGHT
    return {
        "uid": UID,
        "title": TITLE,
        "description": "Made from the table of metrics by `equi dashboards render`; changes made here are overwritten.",
        "tags": ["equimodels", "ray"],
        "timezone": "browser",
        "editable": True,
        "schemaVersion": SCHEMA_VERSION,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [
                _data_source_variable(),
                _label_variable("run", "Run", "run_id", rows),
                _label_variable("endpoint", "Endpoint", "endpoint", rows),
            ]
        },
        "panels": panels,
    }


def _row(number: int, title: str, top: int) -> dict[str, Any]:
    return {
        "id": number,
        "type": "row",
        "title": title,
        "collapsed": False,
        "gridPos": {"x": 0, "y": top, "w": 24, "h": 1},
        "panels": [],
    }


def _panel(number: int, metric: Metric, x: int, y: int) -> dict[str, Any]:
    return {
        "id": number,
        "type": "timeseries",
        "title": metric.title,
        "description": f"{metric.help} ({metric.name})",
        "datasource": DATA_SOURCE,
        "gridPos": {"x": x, "y": y, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": metric.unit}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": "A", "datasource": DATA_SOURCE, "expr": metric.expression, "legendFormat": metric.legend}
        ],
    }


def _data_source_variable() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1}


def _label_variable(name: str, label: str, key: str, metrics: Iterable[Metric]) -> dict[str, Any]:
    """A variable with every value that the label has in any of our series; all of them to begin with."""
    names = sorted(metric.series[-1] for metric in metrics if key in metric.labels)
    query = f'label_values({{__name__=~"{"|".join(names)}"}}, {key})'
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATA_SOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,  # whenever the time range changes
        "sort": 2,  # descending: ids end with a date, so the newest run comes first
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }
