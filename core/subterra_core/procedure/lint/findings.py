"""Findings of lint, and the wording they share."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from subterra_api.v1alpha1.procedure import Edge, Node, ProcedureSpec

READABLE = 10**12
"""Larger counts are told by their order of magnitude."""


@dataclass(frozen=True)
class Finding:
    """Something that the author should know. ``field`` is a path such as ``spec.nodes[3].next[1].when``."""

    severity: Literal["error", "warning"]
    where: str
    field: str
    problem: str
    cure: str

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}; {self.cure}"


@dataclass(frozen=True)
class Analysis:
    """What a procedure amounts to. Counts of paths and turns are present only when there is no error."""

    findings: tuple[Finding, ...]
    nodes: int
    edges: int
    hubs: int
    terminals: int
    paths: int = 0
    truncated: bool = False
    min_turns: int | None = None
    max_turns: int | None = None
    """None also when paths could not all be counted: longer ones may exist."""

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity == "warning")

    @property
    def path_count(self) -> str:
        """The number of paths, or "more than" a number."""
        if self.paths >= READABLE:
            return f"more than 10^{len(str(self.paths - 1)) - 1}"
        return f"more than {self.paths}" if self.truncated else str(self.paths)


def _error(where: str, field: str, problem: str, cure: str) -> Finding:
    return Finding("error", where, field, problem, cure)


def _warning(where: str, field: str, problem: str, cure: str) -> Finding:
    return Finding("warning", where, field, problem, cure)


def _each_node(spec: ProcedureSpec) -> Iterator[tuple[Node, str, str]]:
    """Nodes with their name for people and their field path."""
    for place, node in enumerate(spec.nodes):
        yield node, f"node {node.id}", f"spec.nodes[{place}]"


def _each_edge(node: Node, field: str) -> Iterator[tuple[Edge, str, str]]:
    """Edges with their name for people and their field path."""
    for place, edge in enumerate(node.next):
        yield edge, f"edge {node.id} → {edge.to}", f"{field}.next[{place}]"
