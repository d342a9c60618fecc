"""The procedure's graph, colored by the share of failed conversations."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from subterra_core.drawing.svg import draw_svg
from subterra_core.procedure.graph import Graph
from subterra_jobs.evaluate.analysis.summary import traversal_counts
from subterra_jobs.evaluate.judge.results import Result


@dataclass(frozen=True)
class Heatmap:
    """SVG for a page, with its natural width in pixels."""

    svg: Markup
    width: int


def draw_heatmap(graph: Graph, results: Sequence[Result]) -> Heatmap:
    """The colored graph; the XML writer escapes all texts."""
    drawn = draw_svg(graph.spec, "The procedure, with the share of failed conversations on each edge", traversal_counts(results))
    return Heatmap(Markup(ET.tostring(drawn, encoding="unicode")), int(drawn.attrib["width"]))  # noqa: S704
