"""Dashboards as one HTML file that works offline, on a phone and on a desktop. Pure.

The XML writer escapes what labels hold; the page's policy allows no script at all.
"""

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from subterra_cli.agents.dashboards.figures import figure, moment
from subterra_cli.agents.dashboards.line_chart import COLORS, draw_lines
from subterra_cli.agents.dashboards.queries import Scope, Series
from subterra_core.drawing.svg import add
from subterra_core.monitoring.grafana import Dashboard, Panel

EMPTY = "no data"
_ROWS = 20
"""Rows of a table and entries of a legend that are shown; how many more there are is said."""
STYLE = """
:root { color-scheme: light dark; --back: #f4f6f8; --text: #1c2430; --dim: #5b6675; --rule: #d4dae1; --card: #ffffff;
  --c0: #1f6fb4; --c1: #c2571a; --c2: #2d7d46; --c3: #8a4bb3; --c4: #b3264a; --c5: #6b6a1f; --c6: #0f7f86; --c7: #6b5044; }
@media (prefers-color-scheme: dark) { :root { --back: #0e1116; --text: #e6eaf0; --dim: #9aa6b5; --rule: #323a45; --card: #14181f;
  --c0: #6db3f2; --c1: #f2995c; --c2: #6fcf8e; --c3: #c79bea; --c4: #f2809b; --c5: #cdc864; --c6: #5cd0d6; --c7: #c9a894; } }
body { margin: 0; background: var(--back); color: var(--text);
  font: 14px/1.45 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main, header { padding: 8px 16px; } h1 { font-size: 20px; margin: 4px 0; } h2 { font-size: 17px; margin: 20px 0 8px; }
h3 { font-size: 14px; margin: 0 0 4px; } p { margin: 0 0 4px; color: var(--dim); } nav a { margin-right: 12px; color: var(--c0); }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); gap: 10px; margin-bottom: 10px; }
.panel { background: var(--card); border: 1px solid var(--rule); border-radius: 6px; padding: 8px 10px; min-width: 0;
  overflow: auto; }
.figures { display: flex; flex-wrap: wrap; gap: 4px 20px; } .figures b { display: block; font-size: 22px; font-weight: 600; }
.legend { display: flex; flex-wrap: wrap; gap: 0 14px; font-size: 12px; color: var(--dim); overflow-wrap: anywhere; }
.legend b { color: var(--text); font-weight: 600; } .empty { color: var(--dim); padding: 24px 0; text-align: center; }
table { border-collapse: collapse; font-size: 12px; } td, th { border: 1px solid var(--rule); padding: 2px 8px; text-align: left; }
svg { display: block; width: 100%; } .grid { stroke: var(--rule); } .axis { fill: var(--dim); font-size: 11px; }
.end { text-anchor: end; } .middle { text-anchor: middle; } .line { fill: none; stroke-width: 1.6; }
""" + "".join(
    f".s{n} {{ stroke: var(--c{n}); }} .dot.s{n} {{ fill: var(--c{n}); }} .key.s{n} {{ color: var(--c{n}); }}\n"
    for n in range(COLORS)
)


@dataclass(frozen=True)
class Filled:
    """A dashboard with the series of its panels, by title."""

    dashboard: Dashboard
    series: Mapping[str, Sequence[Series]]


def page(boards: Sequence[Filled], scope: Scope, about: str) -> str:
    """The HTML file's text; `about` says where the figures come from."""
    html = ET.Element("html", lang="en")
    _head(html)
    body = add(html, "body")
    header = add(body, "header")
    add(header, "h1", "Subterra")
    add(header, "p", f"{about}, {moment(scope.start)} to {moment(scope.end)} UTC")
    nav = add(header, "nav")
    main = add(body, "main")
    for board in boards:
        add(nav, "a", board.dashboard.title, href=f"#{board.dashboard.uid}")
        add(main, "h2", board.dashboard.title, id=board.dashboard.uid)
        for panels in board.dashboard.rows:
            row = add(main, "div", class_="row")
            for panel in panels:
                _panel(add(row, "section", class_="panel"), panel, board.series.get(panel.title, ()), scope)
    return "<!doctype html>\n" + ET.tostring(html, encoding="unicode", method="html") + "\n"


def _head(html: ET.Element) -> None:
    head = add(html, "head")
    add(head, "meta", charset="utf-8")
    ET.SubElement(
        head, "meta", {"http-equiv": "Content-Security-Policy", "content": "default-src 'none'; style-src 'unsafe-inline'"}
    )
    add(head, "meta", name="viewport", content="width=device-width")
    add(head, "title", "Subterra dashboards")
    add(head, "style").text = STYLE


def _panel(section: ET.Element, panel: Panel, series: Sequence[Series], scope: Scope) -> None:
    add(section, "h3", panel.title)
    if panel.description:
        add(section, "p", panel.description)
    if not series:
        add(section, "div", EMPTY, class_="empty")
    elif panel.kind == "stat":
        _figures(section, panel, series, scope)
    elif panel.kind == "table":
        _table(section, panel, series, scope)
    else:
        section.append(draw_lines(series, scope, panel.unit, panel.title))
        _legend(section, panel, series, scope)


def _figures(section: ET.Element, panel: Panel, series: Sequence[Series], scope: Scope) -> None:
    box = add(section, "div", class_="figures")
    for each in series[:_ROWS]:
        entry = add(box, "div")
        add(entry, "b", _last(panel, each, scope))
        add(entry, "span", each.legend)
    _rest(section, series)


def _table(section: ET.Element, panel: Panel, series: Sequence[Series], scope: Scope) -> None:
    names = sorted({name for each in series for name in each.labels if name not in ("instance", "job", "pod", "endpoint")})
    varying = any(each.points[-1][1] != 1 for each in series)  # a series that says something by its labels has the value 1
    table = add(section, "table")
    heading = add(table, "tr")
    for name in [*names, *(["value"] if varying else [])]:
        add(heading, "th", name)
    for each in series[:_ROWS]:
        row = add(table, "tr")
        for name in names:
            add(row, "td", each.labels.get(name, ""))
        if varying:
            add(row, "td", _last(panel, each, scope))
    _rest(section, series)


def _legend(section: ET.Element, panel: Panel, series: Sequence[Series], scope: Scope) -> None:
    box = add(section, "div", class_="legend")
    for number, each in enumerate(series[:_ROWS]):
        entry = add(box, "span")
        key = add(entry, "span", "●", class_=f"key s{number % COLORS}")
        key.tail = f" {each.legend} " if each.legend else " "
        add(entry, "b", _last(panel, each, scope))
    _rest(section, series)


def _last(panel: Panel, series: Series, scope: Scope) -> str:
    """The newest value."""
    return figure(series.points[-1][1], panel.unit, panel.infinite, scope.end)


def _rest(section: ET.Element, series: Sequence[Series]) -> None:
    if len(series) > _ROWS:
        add(section, "p", f"and {len(series) - _ROWS} more; choose with --namespace and --agent")
