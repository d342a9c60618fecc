"""What `subterra diff` reports: changes, gained and lost paths, and how much of what is said has to be written again. Pure."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from subterra_api.digest import procedure_digest
from subterra_api.v1alpha1.procedure import Edge, Node, ProcedureSpec
from subterra_core.drawing.graph_summary import MAX_LISTED_PATHS
from subterra_core.procedure.anywhere import anywhere_shares
from subterra_core.procedure.diff import Changes, ProcedureDiff
from subterra_core.procedure.graph import Graph, Path
from subterra_jobs.dialogue.anywhere_paths import Choose, leave, leaving_points

WALKS = 2_000


@dataclass(frozen=True)
class Rewrite:
    """Turns at or after the first change of their conversation, of all turns of ``conversations`` drawn by the edges' weights."""

    turns: int
    touched: int
    conversations: int = WALKS

    @property
    def share(self) -> float:
        return self.touched / self.turns


@dataclass(frozen=True)
class DiffReport:
    """All changes. ``gained`` and ``lost`` are `None` when there are too many paths to list them."""

    new_run: bool
    nodes: Changes
    edges: Changes
    variables: Changes
    settings: tuple[str, ...]
    gained: tuple[Path, ...] | None
    lost: tuple[Path, ...] | None
    rewrite: Rewrite


def compare(old: ProcedureSpec, new: ProcedureSpec, walks: int = WALKS) -> DiffReport:
    """The changes from ``old`` to ``new``. Expects procedures without errors."""
    diff = ProcedureDiff(old, new)
    before, after = _listed_paths(old), _listed_paths(new)
    known = before is not None and after is not None
    return DiffReport(
        new_run=procedure_digest(old) != procedure_digest(new),
        nodes=diff.nodes,
        edges=diff.edges,
        variables=diff.variables,
        settings=diff.settings,
        gained=tuple(path for path in after or () if path not in (before or {})) if known else None,
        lost=tuple(path for path in before or () if path not in (after or {})) if known else None,
        rewrite=_rewrite(new, diff, walks),
    )


def _listed_paths(spec: ProcedureSpec) -> dict[Path, None] | None:
    paths = dict.fromkeys(islice(Graph(spec).paths(), MAX_LISTED_PATHS + 1))
    return paths if len(paths) <= MAX_LISTED_PATHS else None


def _rewrite(spec: ProcedureSpec, diff: ProcedureDiff, walks: int) -> Rewrite:
    graph, rng = Graph(spec), random.Random(0)
    values = {variable.name: variable.values for variable in spec.variables}

    def choose(_: Node, edges: Sequence[Edge]) -> Edge:
        return rng.choices(edges, weights=[edge.weight for edge in edges])[0]

    turns = touched = 0
    for _ in range(walks):
        path = graph.walk(choose, values={name: rng.choice(values[name]) for name in graph.facts})
        path = _with_leaving(graph, path, choose, rng)
        turns += len(path)
        touched += len(diff.must_rewrite(path))
    return Rewrite(turns, touched, walks)


def _with_leaving(graph: Graph, path: Path, choose: Choose, rng: random.Random) -> Path:
    """The path, or for an anywhere edge's share of the walks, one that leaves it by this edge."""
    shares = anywhere_shares(graph.spec)
    if not shares or rng.random() >= sum(shares.values()):
        return path
    (target,) = rng.choices([*shares], [*shares.values()])
    points = [point for point in leaving_points(graph, path, {}) if point.edge.to == target]
    return (leave(graph, path, rng.choice(points), choose) if points else None) or path
