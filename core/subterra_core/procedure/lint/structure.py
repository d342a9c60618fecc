"""Structural checks: size, start, identifiers, edges to nowhere."""

from collections import Counter
from collections.abc import Iterator, Sequence

import networkx as nx

from subterra_api.digest import canonical, meaning
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.lint.findings import Finding, _each_edge, _each_node, _error

LARGEST = 512 * 1024
"""Bytes of a procedure's canonical form. A ConfigMap holds one MiB, and a run's input has the procedure in it."""


def _size(spec: ProcedureSpec) -> Iterator[Finding]:
    size = len(canonical(meaning(spec)))
    if size > LARGEST:
        problem = f"it has {size / 1024:,.0f} KiB in its canonical form, and no more than {LARGEST // 1024} fit into a run's input"
        yield _error("the procedure", "spec", problem, "shorten prompts, or list fewer examples and values")


def _structure(spec: ProcedureSpec) -> Iterator[Finding]:
    known = {node.id for node in spec.nodes}
    yield from _named_twice("node", "nodes", "id", [node.id for node in spec.nodes])
    yield from _named_twice("variable", "variables", "name", [variable.name for variable in spec.variables])
    yield from _named_twice("persona", "personas", "name", [persona.name for persona in spec.personas])
    yield from _named_twice("fact", "knowledge", "id", [fact.id for fact in spec.knowledge])
    if spec.start not in known:
        yield _error("spec.start", "spec.start", f"there is no node {spec.start!r}", "name one of the nodes")
        return
    drawn: nx.DiGraph[str] = nx.DiGraph()
    drawn.add_nodes_from(known)
    for node, _, field in _each_node(spec):
        for edge, name, at in _each_edge(node, field):
            if edge.to in known:
                drawn.add_edge(node.id, edge.to)
            else:
                yield _error(name, f"{at}.to", f"there is no node {edge.to!r}", "add that node or correct the edge")
    reachable = nx.descendants(drawn, spec.start) | {spec.start}
    ends = [node.id for node in spec.nodes if not node.next]
    ending = set(ends).union(*(nx.ancestors(drawn, end) for end in ends))
    for node, where, field in _each_node(spec):
        if node.id not in reachable:
            yield _error(where, field, "cannot be reached from the start", "add an edge to it or remove it")
        elif node.id not in ending:
            cure = "add an edge that ends the conversation"
            yield _error(where, f"{field}.next", "leads to no terminal: a loop without a way out", cure)


def _named_twice(kind: str, field: str, key: str, names: Sequence[str]) -> Iterator[Finding]:
    """What the API server refuses as well."""
    seen = Counter[str]()
    for place, name in enumerate(names):
        seen[name] += 1
        if seen[name] == 2:
            at, cure = f"spec.{field}[{place}].{key}", f"give every {kind} its own {key}"
            yield _error(f"{kind} {name}", at, f"its {key} is used more than once", cure)


def _nodes(spec: ProcedureSpec) -> Iterator[Finding]:
    for node, where, field in _each_node(spec):
        if not node.next and node.outcome is None:
            cure = "set outcome to success, abandonment or escalation, or give it a way out (next)"
            yield _error(where, field, "is a dead end without an outcome", cure)
        if node.next and node.outcome is not None:
            yield _error(where, f"{field}.outcome", "has an outcome and a way out", "remove outcome, or next")
        if node.role == "agent" and not node.prompt.strip():
            yield _error(where, f"{field}.prompt", "has no prompt", "say what the agent should do here")
        targets = Counter(edge.to for edge in node.next)
        for edge, name, at in _each_edge(node, field):
            if targets[edge.to] > 1:
                targets[edge.to] = 0
                yield _error(name, f"{at}.to", "there are two edges between these nodes", "merge them")
