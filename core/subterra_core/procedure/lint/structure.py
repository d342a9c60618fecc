"""Structural checks: start, unique ids, edges to missing nodes, terminals."""

from collections import Counter
from collections.abc import Iterator, Sequence

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.anywhere import anywhere_edges_by_node
from subterra_core.procedure.counting.digraph import Edges, distances, reversed_edges
from subterra_core.procedure.lint.findings import Finding, did_you_mean, error, located_edges, located_nodes


def check_structure(spec: ProcedureSpec) -> Iterator[Finding]:
    """Errors in ids, start, edges and reachability of the drawn graph."""
    known = {node.id for node in spec.nodes}
    yield from _duplicates("node", "nodes", "id", [node.id for node in spec.nodes])
    yield from _duplicates("variable", "variables", "name", [variable.name for variable in spec.variables])
    yield from _duplicates("persona", "personas", "name", [persona.name for persona in spec.personas])
    yield from _duplicates("fact", "knowledge", "id", [fact.id for fact in spec.knowledge])
    if spec.start not in known:
        yield error(
            "spec.start",
            "spec.start",
            f"there is no node {spec.start!r}",
            did_you_mean(spec.start, known, "set start to the id of a node"),
        )
        return
    if next(node for node in spec.nodes if node.id == spec.start).role == "tool":
        fix = "begin with somebody's words, and call the tool after them"
        yield error("spec.start", "spec.start", f"{spec.start} calls a tool, but a conversation begins with words", fix)
    drawn: dict[str, set[str]] = {node: set() for node in known}
    for node, _, field in located_nodes(spec):
        for edge, name, path in located_edges(node, field):
            if edge.to in known:
                drawn[node.id].add(edge.to)
            else:
                drawn[node.id] |= known  # it may be meant for any node, so it is no reason to find others cut off
                fix = did_you_mean(edge.to, known, "add that node or correct the edge")
                yield error(name, f"{path}.to", f"there is no node {edge.to!r}", fix)
    yield from _disconnected(spec, drawn)


def _disconnected(spec: ProcedureSpec, drawn: Edges) -> Iterator[Finding]:
    """Nodes that the start does not lead to, or that lead to no terminal by the edges of nodes: customers need not leave."""
    leaving = {node: {edge.to for edge in edges} & drawn.keys() for node, edges in anywhere_edges_by_node(spec).items()}
    reachable = distances({node: {*targets, *leaving.get(node, ())} for node, targets in drawn.items()}, [spec.start])
    terminating = distances(reversed_edges(drawn), [node.id for node in spec.nodes if not node.next])
    for node, where, field in located_nodes(spec):
        if node.id not in reachable:
            yield error(where, field, "cannot be reached from the start", "add an edge to it or remove it")
        elif node.id not in terminating:
            fix = "add an edge that ends the conversation"
            yield error(where, f"{field}.next", "leads to no terminal: the loop has no exit", fix)


def _duplicates(kind: str, field: str, key: str, names: Sequence[str]) -> Iterator[Finding]:
    """Errors for keys used more than once, which the API server rejects as well."""
    seen = Counter[str]()
    for index, name in enumerate(names):
        seen[name] += 1
        if seen[name] == 2:
            path, fix = f"spec.{field}[{index}].{key}", f"give every {kind} its own {key}"
            yield error(f"{kind} {name}", path, f"its {key} is used more than once", fix)


def check_nodes(spec: ProcedureSpec) -> Iterator[Finding]:
    """Errors within single nodes: last word, outcome, prompt, parallel edges."""
    for node, where, field in located_nodes(spec):
        if not node.next and node.role == "user":
            fix = f"add an edge (next) to an agent's node that answers and has outcome: {node.outcome or 'success'}"
            yield error(where, field, "ends the conversation with the customer's words, but the agent has the last word", fix)
        elif not node.next and node.outcome is None and node.role != "tool":  # see `check_tools`
            fix = "set outcome to success, abandonment or escalation, or add edges (next)"
            yield error(where, field, "is a dead end without an outcome", fix)
        if node.next and node.outcome is not None:
            yield error(where, f"{field}.outcome", "has both an outcome and edges", "remove outcome, or next")
        if node.role == "agent" and not node.prompt.strip():
            yield error(where, f"{field}.prompt", "has no prompt", "describe what the agent should do here")
        targets = Counter(edge.to for edge in node.next)
        for edge, name, path in located_edges(node, field):
            if targets[edge.to] > 1:
                targets[edge.to] = 0
                yield error(name, f"{path}.to", "there are several edges between these nodes", "merge them")
