"""Counts the gaps of imported procedures. Pure."""

from dataclasses import dataclass
from typing import Any

from subterra_core.procedure.lint.gaps import GAP


@dataclass(frozen=True)
class Figures:
    """Nodes of an imported procedure, those without a gap in them or in the tool that they call, and gaps in all."""

    nodes: int
    complete: int
    gaps: int

    @property
    def share(self) -> float:
        """Share of the nodes without a gap."""
        return self.complete / self.nodes if self.nodes else 0.0

    def __str__(self) -> str:
        gaps = "1 gap" if self.gaps == 1 else f"{self.gaps} gaps"
        return f"{self.nodes} nodes, {self.complete} of them without a gap; {gaps} to fill in"


def figures(procedure: dict[str, Any]) -> Figures:
    """How much of an imported procedure is complete."""
    spec = procedure["spec"]
    incomplete = {tool["name"] for tool in spec.get("tools", []) if find_gaps(tool)}
    complete = sum(not find_gaps(node) and node.get("tool") not in incomplete for node in spec["nodes"])
    return Figures(len(spec["nodes"]), complete, len(find_gaps(procedure)))


def find_gaps(document: Any, field: str = "") -> list[str]:
    """Field paths of all texts that begin with ``GAP:``."""
    if isinstance(document, str):
        return [field] if document.startswith(GAP) else []
    if isinstance(document, dict):
        return [path for key, value in document.items() for path in find_gaps(value, f"{field}.{key}" if field else key)]
    if isinstance(document, list):
        return [path for index, value in enumerate(document) for path in find_gaps(value, f"{field}[{index}]")]
    return []
