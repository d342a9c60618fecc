"""The procedure's graph, coloured by where conversations went and where they failed."""

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from subterra_api.drawing.flow import Failures, Visits
from subterra_api.drawing.svg import draw
from subterra_api.graph import Graph
from subterra_jobs.evaluate.results import Result
from subterra_jobs.evaluate.scenarios import hops


def visits(results: Sequence[Result]) -> Visits:
    """How many conversations should have come to each node and edge, and how many of these failed."""
    nodes, edges = (Counter[str](), Counter[str]()), (Counter[tuple[str, str]](), Counter[tuple[str, str]]())
    for result in results:
        for kept in range(1 + result.failed):
            nodes[kept].update(set(result.replay.path))
            edges[kept].update(hops(result.replay.path))
    return Visits(len(results), nodes[0], edges[0], Failures(nodes[1], edges[1]))


@dataclass(frozen=True)
class Picture:
    """SVG to stand in a page, with its natural width in pixels."""

    svg: Markup
    width: int


def picture(graph: Graph, results: Sequence[Result]) -> Picture:
    """The graph in colours; texts are escaped by the XML writer."""
    drawn = draw(graph.spec, "The procedure, with the share of failed conversations on each way", visits(results))
    return Picture(Markup(ET.tostring(drawn, encoding="unicode")), int(drawn.attrib["width"]))  # noqa: S704
