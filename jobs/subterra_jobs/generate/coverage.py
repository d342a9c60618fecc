"""How much of the procedure the dataset shows: counts per node, edge and terminal. Pure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from subterra_api.graph import Path
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_jobs.generate.plan import edges_of


@dataclass(frozen=True)
class Coverage:
    """Visits in the training conversations."""

    nodes: dict[str, int]
    edges: dict[tuple[str, str], int]
    terminals: dict[str, int]

    @property
    def covered(self) -> int:
        """Number of edges that are trained on."""
        return sum(1 for count in self.edges.values() if count)

    def dump(self) -> dict[str, Any]:
        """What goes into ``coverage.json``."""
        return {
            "edgesCovered": self.covered,
            "edgesTotal": len(self.edges),
            "nodes": self.nodes,
            "edges": [{"from": source, "to": to, "count": count} for (source, to), count in self.edges.items()],
            "terminals": self.terminals,
        }


def cover(procedure: ProcedureSpec, paths: Iterable[Path]) -> Coverage:
    """Counts over ``paths``; what never comes up is there with 0."""
    nodes: Counter[str] = Counter()
    edges: Counter[tuple[str, str]] = Counter()
    endings: Counter[str] = Counter()
    for path in paths:
        nodes.update(path)
        edges.update(edges_of(path))
        endings[path[-1]] += 1
    return Coverage(
        {node.id: nodes[node.id] for node in procedure.nodes},
        {(node.id, edge.to): edges[node.id, edge.to] for node in procedure.nodes for edge in node.next},
        {node.id: endings[node.id] for node in procedure.nodes if not node.next},
    )
