"""What an edit changes between two versions of a procedure. Pure.

One comparison of nodes, edges and variables answers two questions about a path: may a model of the old version be wrong there, and
which of its turns have to be written again.
"""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pydantic import ValidationError

from subterra_api.digest import significant_fields
from subterra_api.v1alpha1.base import ApiModel
from subterra_api.v1alpha1.procedure import AnywhereEdge, Edge, Node, ProcedureSpec
from subterra_core.procedure.anywhere import anywhere_edges_by_node
from subterra_core.procedure.dependencies import dependents
from subterra_core.procedure.graph import Hop, Path
from subterra_core.procedure.template import variables_of

_PROMPT_CONTEXT = frozenset({"systemPrompt", "knowledge", "personas", "openers", "tools"})
"""Settings that every request to a teacher holds: with another one, every turn may be worded differently."""
_STRUCTURAL = frozenset({"weight", "guards", "maxVisits", "except", "percent"})
"""Fields that decide how often an edge is taken, and no word of a turn."""


@dataclass(frozen=True)
class Changes:
    """Names that were added, removed, or mean something else; for the last, the changed fields in wire names."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: dict[str, tuple[str, ...]]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


class ProcedureDiff:
    """The changes from ``old`` to ``new``. When ``old`` is unknown (`None`), everything has changed."""

    def __init__(self, old: ProcedureSpec | None, new: ProcedureSpec) -> None:
        before = None if old is None else _Parts(old)
        after = _Parts(new)
        self.nodes = _changes({} if before is None else before.nodes, after.nodes, ignored={"next"})
        self.edges = _changes({} if before is None else before.edges, after.edges)
        self.variables = _changes({} if before is None else before.variables, after.variables)
        self.settings = _changed_fields(old, new, ignored={"nodes", "variables", "anywhere"})
        """Wire names of the changed fields that belong to no node, edge or variable."""
        self._new = new
        changed = {*self.variables.added, *self.variables.changed}
        self._unlike = changed | dependents(changed, new.variables)
        self._affects_all = old is None or _shared(old) != _shared(new)
        self._affected = self._affected_nodes(before, after)
        self._leaving = {(node, edge.to) for node, edges in anywhere_edges_by_node(new).items() for edge in edges}
        self._affected_hops = self._changed_leaving(
            {*self.edges.added, *(name for name, fields in self.edges.changed.items() if fields != ("percent",))}
        )
        self._rewrites_all = not _PROMPT_CONTEXT.isdisjoint(self.settings)
        self._rewritten_nodes, self._rewritten_hops = self._rewritten(old)

    def affects(self, path: Path) -> bool:
        """Whether what is right on ``path`` has changed: at a node, its edges, its variables, or for every conversation."""
        leaves_otherwise = not self._affected_hops.isdisjoint(pairwise(path))
        return self._affects_all or leaves_otherwise or not self._affected.isdisjoint(path)

    def must_rewrite(self, path: Path) -> Path:
        """The end of ``path`` from the first turn that may be worded differently: each turn follows from those before it."""
        for index, node in enumerate(path):
            if self._rewrites_all or node in self._rewritten_nodes or path[index : index + 2] in self._rewritten_hops:
                return path[index:]
        return ()

    def _affected_nodes(self, before: "_Parts | None", after: "_Parts") -> frozenset[str]:
        affected = {*self.nodes.added, *self.nodes.changed}
        for node in after.nodes.values():
            rerouted = before is not None and node.id in before.nodes and _routing(before.nodes[node.id]) != _routing(node)
            if rerouted or not self._unlike.isdisjoint(_mentioned(node)):
                affected.add(node.id)
        return frozenset(affected)

    def _rewritten(self, old: ProcedureSpec | None) -> tuple[frozenset[str], frozenset[Hop]]:
        edges = {*self.edges.added, *_worded(self.edges)}
        nodes, hops = {*self.nodes.added, *_worded(self.nodes)}, set[Hop]()
        if old is None or old.start != self._new.start:
            nodes.add(self._new.start)
        for node in self._new.nodes:
            decides = node.fact in self._unlike and len(node.next) > 1
            if decides or not self._unlike.isdisjoint(_variables_in(node.prompt, *node.examples)):
                nodes.add(node.id)
            for edge in node.next:
                if _edge_name(node, edge) in edges or not self._unlike.isdisjoint(_variables_in(*edge.examples)):
                    hops.add((node.id, edge.to))
        return frozenset(nodes), frozenset(hops | self._changed_leaving(edges))

    def _changed_leaving(self, edges: Set[str]) -> frozenset[Hop]:
        """Ways along anywhere edges that are among `edges` or mention a variable that changed."""
        changed = {
            each.to
            for each in self._new.anywhere
            if _anywhere_name(each) in edges or not self._unlike.isdisjoint(_variables_in(each.when, *each.examples))
        }
        return frozenset(hop for hop in self._leaving if hop[1] in changed)


def stored_procedure(content: bytes | None) -> ProcedureSpec | None:
    """The procedure in a model's file; `None` without a file, or when another version wrote it in another form."""
    try:
        return None if content is None else ProcedureSpec.model_validate_json(content)
    except ValidationError:
        return None


class _Parts:
    """The named parts of a procedure."""

    def __init__(self, spec: ProcedureSpec) -> None:
        self.nodes = {node.id: node for node in spec.nodes}
        self.edges: dict[str, ApiModel] = {_edge_name(node, edge): edge for node in spec.nodes for edge in node.next}
        self.edges |= {_anywhere_name(edge): edge for edge in spec.anywhere}
        self.variables = {variable.name: variable for variable in spec.variables}


def _edge_name(node: Node, edge: Edge) -> str:
    return f"{node.id} → {edge.to}"


def _anywhere_name(edge: AnywhereEdge) -> str:
    return f"anywhere → {edge.to}"


def _changes(old: Mapping[str, ApiModel], new: Mapping[str, ApiModel], ignored: Set[str] = frozenset()) -> Changes:
    kept = [name for name in new if name in old]
    changed = {name: fields for name in kept if (fields := _changed_fields(old[name], new[name], ignored))}
    return Changes(tuple(name for name in new if name not in old), tuple(name for name in old if name not in new), changed)


def _changed_fields(old: ApiModel | None, new: ApiModel, ignored: Set[str]) -> tuple[str, ...]:
    """Fields that mean something else, in wire names."""
    before, after = {} if old is None else significant_fields(old), significant_fields(new)
    return tuple(name for name in dict.fromkeys((*before, *after)) if name not in ignored and before.get(name) != after.get(name))


def _worded(changes: Changes) -> Iterator[str]:
    """Names whose change may change words."""
    return (name for name, fields in changes.changed.items() if not _STRUCTURAL.issuperset(fields))


def _shared(spec: ProcedureSpec) -> tuple[Any, ...]:
    """What decides every conversation: where it begins, what the agent knows, and what its prompt says about the customer."""
    context = [variable for variable in spec.variables if variable.visibility == "context"]
    return spec.start, {fact.text for fact in spec.knowledge}, context, spec.tools


def _routing(node: Node) -> list[Any]:
    """A node's edges in their order, without weights: how often training takes an edge changes nothing about what is right."""
    return [significant_fields(edge.model_copy(update={"weight": 1})) for edge in node.next]


def _mentioned(node: Node) -> set[str]:
    """Variables that a node, its edges or their conditions mention, or that decide at it."""
    edges = [text for edge in node.next for text in (edge.when or "", *edge.examples)]
    called = [argument.value for argument in node.arguments]
    return _variables_in(node.prompt, *node.examples, *edges, *called) | ({node.fact} if node.fact else set())


def _variables_in(*texts: str) -> set[str]:
    return {name for text in texts for name in variables_of(text)}
