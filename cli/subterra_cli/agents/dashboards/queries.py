"""What a Prometheus answers to the queries of a panel."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from subterra_cli.errors import CommandError
from subterra_core.monitoring.grafana import Panel, Query

TIMEOUT_SECONDS = 30
_POINTS = 240
_LEAST_STEP = 15
_LEAST_RATE_INTERVAL = 60
_LEGEND_LABEL = re.compile(r"{{\s*(\w+)\s*}}")

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Scope:
    """What a page is about: which namespaces and agents, as regular expressions of PromQL, and which seconds."""

    start: float
    end: float
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def step(self) -> int:
        """Seconds between two points."""
        return max(_LEAST_STEP, round((self.end - self.start) / _POINTS))

    def fill(self, expr: str) -> str:
        """The expression with the values of Grafana's variables."""
        rate = f"{max(_LEAST_RATE_INTERVAL, 4 * self.step)}s"
        for name, value in {"namespace": ".*", "agent": ".*", **self.variables, "__rate_interval": rate}.items():
            expr = expr.replace(f"${name}", value.replace("\\", "\\\\").replace('"', '\\"'))
        return expr


@dataclass(frozen=True)
class Series:
    """One series of a panel, with its legend; an instant query gives one point."""

    legend: str
    labels: Mapping[str, str]
    points: Points


class Prometheus:
    """The HTTP API of a server, or of what speaks the same: Thanos, Mimir, VictoriaMetrics."""

    def __init__(self, url: str, client: httpx.Client) -> None:
        self._url, self._client = url.rstrip("/"), client

    def series(self, panel: Panel, scope: Scope) -> list[Series]:
        """All series of a panel, in the order of its queries. Raises CommandError."""
        return [series for query in panel.queries for series in self._answer(panel, query, scope)]

    def _answer(self, panel: Panel, query: Query, scope: Scope) -> list[Series]:
        expr = scope.fill(query.expr)
        if panel.kind == "timeseries":
            times = {"start": f"{scope.start:.0f}", "end": f"{scope.end:.0f}", "step": str(scope.step)}
            found = self._get("query_range", {"query": expr, **times})
        else:
            found = self._get("query", {"query": expr, "time": f"{scope.end:.0f}"})
        return [_series(query, each) for each in found]

    def _get(self, path: str, parameters: Mapping[str, str]) -> Sequence[Mapping[str, Any]]:
        """The result of a query. Raises CommandError."""
        url = f"{self._url}/api/v1/{path}"
        try:
            response = self._client.get(url, params=dict(parameters), timeout=TIMEOUT_SECONDS)
            answer = response.json()
            if answer.get("status") == "success":
                result: Sequence[Mapping[str, Any]] = answer["data"]["result"]
                return result
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise CommandError(f"{self._url} does not answer: {error}; check --prometheus, and port-forward it if needed") from None
        except (ValueError, AttributeError, KeyError, TypeError):
            raise CommandError(
                f"{url} answers {response.status_code} and no JSON of Prometheus; --prometheus is the address of its API, such as "
                "http://localhost:9090"
            ) from None
        raise CommandError(f"{self._url} refuses a query: {answer.get('error', response.status_code)} in {parameters['query']}")


def _series(query: Query, answer: Mapping[str, Any]) -> Series:
    labels = {name: value for name, value in answer["metric"].items() if name != "__name__"}
    points = tuple((float(at), float(value)) for at, value in answer.get("values", [answer.get("value")]))
    return Series(legend(query.legend, labels), labels, points)


def legend(template: str, labels: Mapping[str, str]) -> str:
    """A series' legend; without a template its labels."""
    if template:
        return _LEGEND_LABEL.sub(lambda found: labels.get(found.group(1), ""), template).strip()
    return ", ".join(f"{name}={value}" for name, value in sorted(labels.items()))
