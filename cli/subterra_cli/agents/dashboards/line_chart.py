"""Lines over time as SVG, in colors that the page's style gives. Pure."""

import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence

from subterra_cli.agents.dashboards.figures import axis_figure, clock
from subterra_cli.agents.dashboards.queries import Points, Scope, Series
from subterra_core.drawing.svg import add
from subterra_core.monitoring.grafana import Unit

WIDTH, HEIGHT = 480, 180
COLORS = 8
"""Classes `s0` to `s7` of the page's style; further series repeat them."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 8, 8, 20
_GAP_STEPS = 2.5
"""Missing steps after which a line is broken."""
_TIME_TICKS, _VALUE_TICKS = 4, 4
_PERIODS = (15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14_400, 43_200, 86_400)
"""Round steps of an axis that has seconds, up to a day."""


def draw_lines(series: Sequence[Series], scope: Scope, unit: Unit, title: str) -> ET.Element:
    """The chart of all finite points, with axes."""
    svg = ET.Element("svg", {"viewBox": f"0 0 {WIDTH} {HEIGHT}", "role": "img", "aria-label": title})
    values = [value for each in series for _, value in each.points if math.isfinite(value)]
    ticks = nice_ticks(min(values, default=0.0), max(values, default=1.0), unit)
    low, high = ticks[0], ticks[-1]

    def place(at: float, value: float) -> tuple[float, float]:
        x = _LEFT + (at - scope.start) / (scope.end - scope.start) * (WIDTH - _LEFT - _RIGHT)
        y = HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM)
        return round(x, 1), round(y, 1)

    for tick in ticks:
        _, y = place(scope.start, tick)
        add(svg, "line", class_="grid", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y, y2=y)
        add(svg, "text", axis_figure(tick, unit), class_="axis end", x=_LEFT - 6, y=y + 4)
    for number in range(_TIME_TICKS + 1):
        at = scope.start + number * (scope.end - scope.start) / _TIME_TICKS
        anchor = {0: "", _TIME_TICKS: " end"}.get(number, " middle")
        add(svg, "text", clock(at, scope.end - scope.start), class_=f"axis{anchor}", x=place(at, low)[0], y=HEIGHT - 4)
    for number, each in enumerate(series):
        for run in _unbroken(each.points, _GAP_STEPS * scope.step):
            _draw_run(svg, [place(at, value) for at, value in run], f"s{number % COLORS}")
    return svg


def nice_ticks(low: float, high: float, unit: Unit = "short") -> list[float]:
    """Round values around all that is between `low` and `high`, from 0 where nothing is negative."""
    low, high = min(0.0, low), max(0.0, high)
    if high == low:
        high = low + 1
    raw = (high - low) / _VALUE_TICKS
    step = _step(raw, unit)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def _step(raw: float, unit: Unit) -> float:
    """The smallest round step that is not below `raw`."""
    if unit == "s" and raw > _PERIODS[0] / 2:
        days = math.ceil(raw / _PERIODS[-1]) * float(_PERIODS[-1])
        return next((float(period) for period in _PERIODS if period >= raw), days)
    size = 10.0 ** math.floor(math.log10(raw))
    return next(factor * size for factor in (1, 2, 5, 10) if factor * size >= raw * (1 - 1e-9))


def _unbroken(points: Points, gap: float) -> Iterator[list[tuple[float, float]]]:
    """Runs of finite points without a gap between them."""
    run: list[tuple[float, float]] = []
    for at, value in points:
        if run and (not math.isfinite(value) or at - run[-1][0] > gap):
            yield run
            run = []
        if math.isfinite(value):
            run.append((at, value))
    if run:
        yield run


def _draw_run(svg: ET.Element, places: Sequence[tuple[float, float]], color: str) -> None:
    if len(places) == 1:
        (x, y) = places[0]
        add(svg, "circle", class_=f"dot {color}", cx=x, cy=y, r=2)
        return
    add(svg, "polyline", class_=f"line {color}", points=" ".join(f"{x},{y}" for x, y in places))
