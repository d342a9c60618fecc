"""What changed between two versions of a procedure, and how much of what is said would have to be written again. Pure."""

import random
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import islice

from subterra_api.digest import meaning, procedure_digest
from subterra_api.v1alpha1.base import ApiModel
from subterra_api.v1alpha1.procedure import Edge, Node, ProcedureSpec
from subterra_core.drawing.summary import LISTED_PATHS
from subterra_core.procedure.graph import Graph, Hop, Path
from subterra_core.procedure.template import variables_of

WALKS = 2_000
_CONTEXT = ("systemPrompt", "knowledge", "personas", "openers")
"""What every conversation rests on: a teacher who reads another prompt may say everything differently."""
_STRUCTURAL = frozenset({"weight", "guards", "maxVisits"})
"""Fields that change how often a way is taken, and no word that is said on it."""


@dataclass(frozen=True)
class Changes:
    """Names that came, went, or mean something else; for the last, the fields."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: dict[str, tuple[str, ...]]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


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
class Difference:
    """All changes. Gained and lost paths are none when there are too many paths to list them."""

    new_run: bool
    nodes: Changes
    edges: Changes
    variables: Changes
    settings: tuple[str, ...]
    gained: tuple[Path, ...] | None
    lost: tuple[Path, ...] | None
    rewrite: Rewrite


def compare(old: ProcedureSpec, new: ProcedureSpec, walks: int = WALKS) -> Difference:
    """What leads from ``old`` to ``new``. Expects procedures without errors."""
    nodes = _changes({node.id: node for node in old.nodes}, {node.id: node for node in new.nodes}, leave_out={"next"})
    edges = _changes(_edges(old), _edges(new))
    variables = _changes({each.name: each for each in old.variables}, {each.name: each for each in new.variables})
    settings = _fields(old, new, leave_out={"nodes", "variables"})
    before, after = _listed(old), _listed(new)
    known = before is not None and after is not None
    return Difference(
        new_run=procedure_digest(old) != procedure_digest(new),
        nodes=nodes,
        edges=edges,
        variables=variables,
        settings=settings,
        gained=tuple(path for path in after or () if path not in (before or {})) if known else None,
        lost=tuple(path for path in before or () if path not in (after or {})) if known else None,
        rewrite=_rewrite(new, _touching(old, new, nodes, edges, variables, settings), walks),
    )


def _changes(old: Mapping[str, ApiModel], new: Mapping[str, ApiModel], leave_out: Set[str] = frozenset()) -> Changes:
    both = [name for name in new if name in old]
    changed = {name: fields for name in both if (fields := _fields(old[name], new[name], leave_out))}
    return Changes(tuple(name for name in new if name not in old), tuple(name for name in old if name not in new), changed)


def _fields(old: ApiModel, new: ApiModel, leave_out: Set[str]) -> tuple[str, ...]:
    """Fields that mean something else, in wire names."""
    before, after = meaning(old), meaning(new)
    return tuple(name for name in dict.fromkeys((*before, *after)) if name not in leave_out and before.get(name) != after.get(name))


def _edges(spec: ProcedureSpec) -> dict[str, Edge]:
    return {f"{node.id} → {edge.to}": edge for node in spec.nodes for edge in node.next}


def _listed(spec: ProcedureSpec) -> dict[Path, None] | None:
    paths = dict.fromkeys(islice(Graph(spec).paths(), LISTED_PATHS + 1))
    return paths if len(paths) <= LISTED_PATHS else None


@dataclass(frozen=True)
class _Touching:
    """Where a conversation of the new procedure meets its first change."""

    everything: bool
    nodes: frozenset[str]
    hops: frozenset[Hop]

    def first(self, path: Path) -> int:
        """The number of turns before it."""
        for place, node in enumerate(path):
            if self.everything or node in self.nodes or path[place : place + 2] in self.hops:
                return place
        return len(path)


def _touching(
    old: ProcedureSpec, new: ProcedureSpec, nodes: Changes, edges: Changes, variables: Changes, settings: Sequence[str]
) -> _Touching:
    worded = {name for name, fields in nodes.changed.items() if not _STRUCTURAL.issuperset(fields)}
    ways = {name for name, fields in edges.changed.items() if not _STRUCTURAL.issuperset(fields)}
    named = {*variables.added, *variables.changed}
    moved = {new.start} if old.start != new.start else set[str]()
    touched, hops = worded | set(nodes.added) | moved, set[Hop]()
    for node in new.nodes:
        if _mentions(node.prompt, node.examples, named) or (node.fact in named and len(node.next) > 1):
            touched.add(node.id)
        for edge in node.next:
            if f"{node.id} → {edge.to}" in {*edges.added, *ways} or _mentions("", edge.examples, named):
                hops.add((node.id, edge.to))
    return _Touching(any(name in _CONTEXT for name in settings), frozenset(touched), frozenset(hops))


def _mentions(prompt: str, examples: Sequence[str], names: set[str]) -> bool:
    return any(name in names for text in (prompt, *examples) for name in variables_of(text))


def _rewrite(spec: ProcedureSpec, touching: _Touching, walks: int) -> Rewrite:
    graph, rng = Graph(spec), random.Random(0)
    listed = {variable.name: variable.values for variable in spec.variables}

    def choose(_: Node, edges: Sequence[Edge]) -> Edge:
        return rng.choices(edges, weights=[edge.weight for edge in edges])[0]

    turns = touched = 0
    for _ in range(walks):
        path = graph.walk(choose, values={name: rng.choice(listed[name]) for name in graph.facts})
        turns += len(path)
        touched += len(path) - touching.first(path)
    return Rewrite(turns, touched, walks)
