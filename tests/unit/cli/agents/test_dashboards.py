"""Dashboards without Grafana: what a Prometheus answers, as a page."""

import json
import math
import re
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest
from typer.testing import CliRunner

from subterra_cli.agents.dashboards.draw import seconds_of
from subterra_cli.agents.dashboards.figures import axis_figure, clock, figure
from subterra_cli.agents.dashboards.line_chart import draw_lines, nice_ticks
from subterra_cli.agents.dashboards.page import Filled, page
from subterra_cli.agents.dashboards.queries import Scope, Series, legend
from subterra_cli.errors import CommandError
from subterra_cli.main import app
from subterra_core.monitoring.dashboards import AGENT, DASHBOARDS
from subterra_core.monitoring.grafana import Dashboard, Panel, Query, Unit

HOUR = Scope(1_790_000_000, 1_790_003_600)


def line(*points: tuple[float, float], legend: str = "x") -> Series:
    return Series(legend, {"agent": legend}, points)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.000386, "currencyUSD", "$0.000386"),
        (1234.5, "currencyUSD", "$1,234.50"),
        (0, "currencyUSD", "$0.00"),
        (0.5, "currencyUSD", "$0.50"),
        (0.0731, "percentunit", "7.31 %"),
        (5400, "s", "1.5 h"),
        (0.0042, "s", "4.2 ms"),
        (172_800, "s", "2 d"),
        (12_345, "short", "12.3 k"),
        (35.2, "tokens", "35.2/s"),
        (1_789_996_400, "dateTimeFromNow", "2 h ago"),
        (math.nan, "short", "–"),
        (math.inf, "short", "never"),
    ],
)
def test_figures_are_read_with_their_units(value: float, unit: Unit, text: str) -> None:
    assert figure(value, unit, "never", 1_790_003_600) == text


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.2, 0.9, [0, 0.5, 1]),
        (0, 100, [0, 50, 100]),
        (-3, 7, [-5, 0, 5, 10]),
        (0, 0, [0, 0.5, 1]),
        (3e-6, 4e-6, [0, 1e-6, 2e-6, 3e-6, 4e-6]),
    ],
)
def test_axes_have_round_values_and_zero(low: float, high: float, ticks: list[float]) -> None:
    assert nice_ticks(low, high) == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("high", "ticks"), [(90, [0, 30, 60, 90]), (5400, [0, 1800, 3600, 5400]), (787_000, [0, 259_200, 518_400, 777_600, 1_036_800])]
)
def test_an_axis_of_seconds_has_round_periods(high: float, ticks: list[float]) -> None:
    assert nice_ticks(0, high, "s") == ticks


def test_a_line_is_broken_where_nothing_was_scraped_and_where_there_is_no_number() -> None:
    points = [(HOUR.start + 15 * n, 1.0) for n in (*range(10), *range(60, 70), *range(100, 110))]
    points[14] = (points[14][0], math.nan)
    svg = draw_lines([line(*points)], HOUR, "short", "Requests")
    assert len(svg.findall("polyline")) == 4


def test_a_single_point_is_a_dot_and_infinity_breaks_no_axis() -> None:
    svg = draw_lines([line((HOUR.start, 2.0)), line((HOUR.start, math.inf))], HOUR, "short", "Requests")
    assert len(svg.findall("circle")) == 1
    assert not svg.findall("polyline")


def test_legends_are_grafanas() -> None:
    assert legend("{{namespace}}/{{ agent }} {{gone}}", {"namespace": "a", "agent": "b"}) == "a/b"
    assert legend("", {"b": "2", "a": "1"}) == "a=1, b=2"


def test_variables_are_filled_in_and_a_quote_ends_no_string() -> None:
    scope = Scope(0, 86_400, {"namespace": 'a".*', "agent": "x|y"})
    assert scope.fill('rate(m{namespace=~"$namespace", agent=~"$agent"}[$__rate_interval])') == (
        'rate(m{namespace=~"a\\".*", agent=~"x|y"}[1440s])'
    )


def test_what_labels_hold_cannot_become_markup() -> None:
    evil = "<script>alert(1)</script>\x00"
    board = Dashboard(
        "u", "T", ((Panel("A", (Query("x"),)), Panel("B", (Query("x"),), kind="stat"), Panel("C", (Query("x"),), kind="table")),)
    )
    series = [Series(evil, {evil: evil}, ((HOUR.start, 1.0), (HOUR.end, 2.0)))]
    text = page([Filled(board, dict.fromkeys("ABC", series))], HOUR, "about")
    assert "<script" not in text
    assert "script-src" not in text
    assert text.count("&lt;script&gt;") >= 4


def test_a_long_table_says_how_many_rows_it_leaves_out() -> None:
    board = Dashboard("u", "T", ((Panel("C", (Query("x"),), kind="table"),),))
    many = [line((HOUR.end, 1.0), legend=str(n)) for n in range(23)]
    assert "and 3 more; choose with --namespace and --agent" in page([Filled(board, {"C": many})], HOUR, "about")


@pytest.mark.parametrize("text", ["", "6", "h", "0h", "6 hours", "-1h", "1.5h"])
def test_a_time_span_that_is_none_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(CommandError, match="write a number and s, m, h, d or w, such as 6h"):
        seconds_of(text)


class Server:
    """Answers each query with one series, or as it is asked to."""

    def __init__(self) -> None:
        self.queries: list[dict[str, str]] = []
        self.body: Any = None
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                address = urlparse(self.path)
                server.queries.append(
                    {"path": address.path} | {name: values[0] for name, values in parse_qs(address.query).items()}
                )
                body = server.body if server.body is not None else server.answer(server.queries[-1])
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def answer(self, query: dict[str, str]) -> dict[str, Any]:
        metric = {"__name__": "m", "namespace": "shop", "agent": "travel"}
        one = {"metric": metric, "value": [float(query.get("time", 0)), "0.5"]}
        many = {"metric": metric, "values": [[float(query.get("start", 0)) + 60 * n, str(n)] for n in range(5)]}
        result = [] if "refused_writes" in query["query"] else [many if query["path"].endswith("query_range") else one]
        return {"status": "success", "data": {"result": result}}

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def run(server: Server, tmp_path: Path, *arguments: str) -> Any:
    return CliRunner().invoke(
        app, ["dashboards", "--prometheus", server.url, "-o", str(tmp_path / "x.html"), "--no-open", *arguments]
    )


def test_the_page_has_every_panel_of_every_dashboard(server: Server, tmp_path: Path) -> None:
    result = run(server, tmp_path)
    assert result.exit_code == 0, result.output
    text = (tmp_path / "x.html").read_text()
    headings = re.findall(r"<h3>(.*?)</h3>", text)
    assert headings == [panel.title for board in DASHBOARDS for panel in board.panels]
    assert text.count("<polyline") >= sum(panel.kind == "timeseries" for board in DASHBOARDS for panel in board.panels)
    assert len(server.queries) == sum(len(panel.queries) for board in DASHBOARDS for panel in board.panels)


def test_standard_output_has_the_page_alone(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["dashboards", "agent", "--prometheus", server.url, "-o", "-"])
    assert (result.exit_code, [*tmp_path.iterdir()]) == (0, [])
    assert (result.stdout.startswith("<!doctype html>"), result.stdout.strip().endswith("</html>")) == (True, True)
    assert result.stderr.startswith("-: agent from http")


def test_one_dashboard_of_one_agent_can_be_asked_for(server: Server, tmp_path: Path) -> None:
    result = run(server, tmp_path, "agent", "--agent", "travel", "-n", "shop", "--since", "1d")
    assert result.exit_code == 0, result.output
    assert AGENT.title in (tmp_path / "x.html").read_text()
    assert len(server.queries) == sum(len(panel.queries) for panel in AGENT.panels)
    assert all("$" not in query["query"] for query in server.queries)
    asked = next(query for query in server.queries if query["path"].endswith("query_range"))
    assert float(asked["end"]) - float(asked["start"]) == pytest.approx(86_400, abs=2)


def test_panels_without_data_are_named(server: Server, tmp_path: Path) -> None:
    server.body = {"status": "success", "data": {"result": []}}
    result = run(server, tmp_path, "runs")
    assert result.exit_code == 0
    assert "no data for " in result.output
    assert "Verdicts" in result.output


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>Grafana</html>", "no JSON of Prometheus; --prometheus is the address of its API"),
        ({"status": "error", "error": "parse error"}, "refuses a query: parse error in"),
        ([], "no JSON of Prometheus"),
    ],
)
def test_what_is_no_prometheus_is_named(server: Server, tmp_path: Path, body: Any, message: str) -> None:
    server.body = body
    result = run(server, tmp_path)
    assert result.exit_code == 1
    assert message in result.stderr
    assert not (tmp_path / "x.html").exists()


def test_no_server_and_no_folder_are_named_with_the_option(server: Server, tmp_path: Path) -> None:
    silent = CliRunner().invoke(app, ["dashboards", "--prometheus", "http://127.0.0.1:9", "--no-open"])
    assert silent.exit_code == 1
    assert "does not answer" in silent.stderr
    assert "check --prometheus" in silent.stderr
    unwritable = CliRunner().invoke(
        app, ["dashboards", "--prometheus", server.url, "-o", str(tmp_path / "no" / "x.html"), "--no-open"]
    )
    assert unwritable.exit_code == 1
    assert "choose another with --output" in unwritable.stderr


def test_the_page_is_well_formed(server: Server, tmp_path: Path) -> None:
    run(server, tmp_path)
    text = (tmp_path / "x.html").read_text().removeprefix("<!doctype html>\n")
    ET.fromstring(re.sub(r"<meta([^>]*)>", r"<meta\1/>", text))


def test_an_axis_of_minutes_never_has_the_same_time_twice() -> None:
    assert clock(90, 180) == "00:01:30"
    assert clock(90, 3600) == "00:01"
    assert clock(90, 7 * 86400) == "01 Jan"


def test_amounts_on_an_axis_are_short_enough_for_its_margin() -> None:
    assert [axis_figure(value, "currencyUSD") for value in (0, 0.015, 150, 1_000, 300_000)] == [
        "$0.00",
        "$0.015",
        "$150.00",
        "$1 k",
        "$300 k",
    ]
    assert axis_figure(30, "tokens") == "30/s"
