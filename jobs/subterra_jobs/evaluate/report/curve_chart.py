"""The learning curve as SVG, readable in light and dark mode."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence

from markupsafe import Markup

from subterra_jobs.evaluate.analysis.learning_curve import LearningCurve, Losses, thinned

WIDTH, HEIGHT = 640.0, 260.0
LEFT, RIGHT, TOP, BOTTOM = 48.0, 12.0, 12.0, 34.0
TICKS = 5
STYLE = """
svg.curve { font: 12px system-ui, sans-serif; max-width: 100%; height: auto; }
.curve text { fill: currentColor; } .curve .grid { stroke: currentColor; opacity: .15; }
.curve .line { fill: none; stroke-width: 1.6; }
.curve .train { stroke: var(--soft); } .curve .held { stroke: var(--accent); stroke-width: 2.4; }
.curve circle.held { fill: var(--accent); stroke-width: 1; } .curve .best { stroke: var(--good); stroke-dasharray: 4 3; }
"""


class _Scale:
    """Places steps and losses in the picture. Losses begin at 0, so that heights can be compared."""

    def __init__(self, lines: Sequence[Losses]) -> None:
        points = [point for line in lines for point in line]
        self.last_step = max(1, *(step for step, _ in points))
        self.highest = max(loss for _, loss in points) or 1.0

    def x(self, step: float) -> float:
        return round(LEFT + step / self.last_step * (WIDTH - LEFT - RIGHT), 1)

    def y(self, loss: float) -> float:
        return round(TOP + (1 - loss / self.highest) * (HEIGHT - TOP - BOTTOM), 1)


def draw_curve(curve: LearningCurve) -> Markup:
    """An SVG with both losses by step, and a mark at the step whose weights were kept."""
    train, held_out = thinned(curve.train), thinned(curve.held_out)
    scale = _Scale([train, held_out])
    drawn = ET.Element("svg", {"class": "curve", "viewBox": f"0 0 {WIDTH:g} {HEIGHT:g}", "role": "img", "width": f"{WIDTH:g}"})
    ET.SubElement(drawn, "title").text = _title(curve)
    ET.SubElement(drawn, "style").text = STYLE
    drawn.extend([*_axes(scale), *_line(train, "train", scale), *_line(held_out, "held", scale)])
    if len(held_out) <= HEIGHT / 4:
        drawn.extend(_element("circle", "held", cx=scale.x(step), cy=scale.y(loss), r=2.5) for step, loss in held_out)
    if curve.best_step is not None:
        at = scale.x(curve.best_step)
        drawn.append(_element("line", "best", x1=at, x2=at, y1=TOP, y2=HEIGHT - BOTTOM))
    return Markup(ET.tostring(drawn, encoding="unicode"))  # noqa: S704


def _title(curve: LearningCurve) -> str:
    ends = [f"{name} from {line[0][1]:.3f} to {line[-1][1]:.3f}" for name, line in _named(curve) if line]
    return "Loss by step: " + ", ".join(ends)


def _named(curve: LearningCurve) -> Iterator[tuple[str, Losses]]:
    yield "training loss", curve.train
    yield "held-out loss", curve.held_out


def _axes(scale: _Scale) -> Iterator[ET.Element]:
    for number in range(TICKS + 1):
        loss, step = scale.highest * number / TICKS, round(scale.last_step * number / TICKS)
        y, x = scale.y(loss), scale.x(step)
        yield _element("line", "grid", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y)
        yield _text(f"{loss:.2f}", LEFT - 6, y + 4, "end")
        anchor = "start" if number == 0 else "end" if number == TICKS else "middle"
        yield _text(f"{step:,}", x, HEIGHT - BOTTOM + 16, anchor)
    yield _text("step", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, "middle")


def _line(points: Losses, name: str, scale: _Scale) -> Iterator[ET.Element]:
    if len(points) > 1:
        places = " ".join(f"{scale.x(step):g},{scale.y(loss):g}" for step, loss in points)
        yield ET.Element("polyline", {"class": f"line {name}", "points": places})


def _element(tag: str, name: str, **places: float) -> ET.Element:
    return ET.Element(tag, {"class": name, **{key: f"{value:g}" for key, value in places.items()}})


def _text(words: str, x: float, y: float, anchor: str) -> ET.Element:
    found = ET.Element("text", {"x": f"{x:g}", "y": f"{y:g}", "text-anchor": anchor})
    found.text = words
    return found
