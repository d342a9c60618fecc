"""Grafana's JSON of dashboards: rows of panels, each with its queries."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Json = dict[str, Any]
Unit = Literal["short", "s", "currencyUSD", "percentunit", "reqps", "tokens", "dateTimeFromNow", "bytes"]
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH = 24


@dataclass(frozen=True)
class Query:
    """A PromQL expression; `$namespace`, `$agent` and `$__rate_interval` are variables. The legend is a template of Grafana."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One panel."""

    title: str
    queries: tuple[Query, ...]
    unit: Unit = "short"
    kind: Literal["timeseries", "stat", "table"] = "timeseries"
    description: str = ""
    infinite: str = ""
    """Text for infinity, such as `never`."""

    def to_json(self, number: int, position: Json) -> Json:
        """The panel at a position of the grid."""
        instant = self.kind != "timeseries"
        targets = [
            {
                "refId": chr(65 + index),
                "expr": query.expr,
                "legendFormat": query.legend or "__auto",
                "instant": instant,
                "range": not instant,
                "format": "table" if self.kind == "table" else "time_series",
                "datasource": _DATASOURCE,
            }
            for index, query in enumerate(self.queries)
        ]
        never = {"type": "value", "options": {"Infinity": {"text": self.infinite}, "+Inf": {"text": self.infinite}}}
        defaults = {"unit": self.unit, "mappings": [never] if self.infinite else []}
        return {
            "id": number,
            "title": self.title,
            "type": self.kind,
            "description": self.description,
            "datasource": _DATASOURCE,
            "gridPos": position,
            "fieldConfig": {"defaults": defaults, "overrides": []},
            "options": {},
            "targets": targets,
        }


@dataclass(frozen=True)
class Dashboard:
    """A dashboard: rows of panels of equal width."""

    uid: str
    title: str
    rows: tuple[tuple[Panel, ...], ...]
    variables: tuple[str, ...] = ("namespace", "agent")

    @property
    def panels(self) -> Sequence[Panel]:
        """All panels, row by row."""
        return [panel for row in self.rows for panel in row]

    def to_json(self) -> Json:
        """What Grafana imports."""
        panels: list[Json] = []
        top = 0
        for row in self.rows:
            width, height = _WIDTH // len(row), 5 if all(panel.kind == "stat" for panel in row) else 8
            for column, panel in enumerate(row):
                position = {"x": column * width, "y": top, "w": width, "h": height}
                panels.append(panel.to_json(len(panels) + 1, position))
            top += height
        return {
            "uid": self.uid,
            "title": self.title,
            "tags": ["subterra"],
            "schemaVersion": 39,
            "version": 1,
            "editable": True,
            "refresh": "30s",
            "time": {"from": "now-6h", "to": "now"},
            "templating": {"list": [_datasource(), *(_variable(name) for name in self.variables)]},
            "panels": panels,
        }


def _datasource() -> Json:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}


def _variable(name: str) -> Json:
    """Namespaces, and the agents in them."""
    scope = '{namespace=~"$namespace"}' if name == "agent" else ""
    query = f"label_values(subterra_compiledagent_phase{scope}, {name})"
    return {
        "name": name,
        "type": "query",
        "label": name.capitalize(),
        "datasource": _DATASOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "sort": 1,
    }
