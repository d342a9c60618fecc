"""The procedure's graph, coloured by where conversations went and where they failed."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from subterra_core.drawing.svg import draw
from subterra_core.procedure.graph import Graph
from subterra_jobs.evaluate.analysis.summary import visits
from subterra_jobs.evaluate.judge.results import Result


@dataclass(frozen=True)
class Picture:
    """SVG to stand in a page, with its natural width in pixels."""

    svg: Markup
    width: int


def picture(graph: Graph, results: Sequence[Result]) -> Picture:
    """The graph in colours; texts are escaped by the XML writer."""
    drawn = draw(graph.spec, "The procedure, with the share of failed conversations on each way", visits(results))
    return Picture(Markup(ET.tostring(drawn, encoding="unicode")), int(drawn.attrib["width"]))  # noqa: S704
