"""The procedure's graph, coloured by where conversations went and where they failed."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from subterra_api.drawing.svg import draw
from subterra_api.graph import Graph
from subterra_jobs.evaluate.results import Result
from subterra_jobs.evaluate.scoring import visits


@dataclass(frozen=True)
class Picture:
    """SVG to stand in a page, with its natural width in pixels."""

    svg: Markup
    width: int


def picture(graph: Graph, results: Sequence[Result]) -> Picture:
    """The graph in colours; texts are escaped by the XML writer."""
    drawn = draw(graph.spec, "The procedure, with the share of failed conversations on each way", visits(results))
    return Picture(Markup(ET.tostring(drawn, encoding="unicode")), int(drawn.attrib["width"]))  # noqa: S704
