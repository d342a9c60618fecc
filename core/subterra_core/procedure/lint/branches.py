"""Checks of hubs, guards, and the conditions and facts that decide."""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from subterra_api.v1alpha1.procedure import Edge, Guard, Node, ProcedureSpec
from subterra_core.procedure.anywhere import condition_words, example_words
from subterra_core.procedure.lint.findings import Finding, did_you_mean, error, located_edges, located_nodes


def check_hubs(spec: ProcedureSpec) -> Iterator[Finding]:
    """Errors in how branches are decided."""
    hubs = {node.id: node for node in spec.nodes if len(node.next) > 1}
    for node, where, field in located_nodes(spec):
        decided_by_fact = node.id in hubs and node.decided_by == "fact"
        for edge, name, path in located_edges(node, field):
            for index, guard in enumerate(edge.guards):
                yield from _check_guard(guard, hubs, name, f"{path}.guards[{index}]")
            if edge.values and not decided_by_fact:
                fix = "set decidedBy: fact and fact on the hub, or remove values"
                yield error(name, f"{path}.values", "has values, but no fact decides here", fix)
        if node.fact is not None and not decided_by_fact:
            fix = "set decidedBy: fact on a node with several edges, or remove fact"
            yield error(where, f"{field}.fact", "names a fact, but no fact decides here", fix)
        if node.id in hubs and node.decided_by == "customer":
            yield from _check_customer_hub(node, where, field)
        if decided_by_fact:
            yield from _check_fact_hub(spec, node, where, field)


def _check_guard(guard: Guard, hubs: dict[str, Node], name: str, path: str) -> Iterator[Finding]:
    if guard.hub not in hubs:
        fix = did_you_mean(guard.hub, hubs, "name a node with several edges")
        yield error(name, f"{path}.hub", f"its guard names {guard.hub!r}, which is not a hub", fix)
        return
    branches = {edge.to for edge in hubs[guard.hub].next}
    for target in sorted(set(guard.took) - branches):
        problem = f"its guard names {target!r}, which is not a branch of {guard.hub}"
        yield error(name, f"{path}.took", problem, did_you_mean(target, branches, "name targets of that hub's edges"))


def _check_customer_hub(node: Node, where: str, field: str) -> Iterator[Finding]:
    if node.role == "agent":
        problem = "is the agent's turn, so the customer cannot decide here"
        yield error(where, f"{field}.decidedBy", problem, "move the branch to the customer's node or set decidedBy")
        return
    if node.role == "tool":
        problem = "calls a tool, so the customer cannot decide here"
        yield error(where, f"{field}.decidedBy", problem, "set decidedBy: fact and fact: the tool's outcome or one of its results")
        return
    for edge, name, path in located_edges(node, field):
        if not edge.when:
            yield error(name, path, "the customer decides here, but this edge has no `when`", "set when on this edge")
    edges = list(located_edges(node, field))
    for first, second in _alike(node.next):
        one, (other, name, path) = edges[first][0], edges[second]
        if not _exclusive(one, other):
            yield from _check_distinguishable(one, other, name, path)


def _alike(edges: Sequence[Edge]) -> list[tuple[int, int]]:
    """Pairs of edges that have a condition or an example in common, by their index."""
    having: defaultdict[Any, set[int]] = defaultdict(set)
    for index, edge in enumerate(edges):
        if edge.when:
            having[condition_words(edge.when)].add(index)
        for text in edge.examples:
            having[example_words(text)].add(index)
    return sorted({pair for group in having.values() for pair in itertools.combinations(sorted(group), 2)})


def _check_distinguishable(one: Edge, other: Edge, name: str, path: str) -> Iterator[Finding]:
    """Errors if `other`, at `path`, has the condition or an example of `one`."""
    if one.when and other.when and condition_words(one.when) == condition_words(other.when):
        fix = "make their conditions differ, or guard them by different decisions"
        yield error(name, f"{path}.when", f"has the same condition as the branch to {one.to}", fix)
    examples = set(map(example_words, one.examples))
    for index, text in enumerate(other.examples):
        if example_words(text) in examples:
            problem = f"{text!r} is also an example of the branch to {one.to}, so it decides nothing"
            yield error(name, f"{path}.examples[{index}]", problem, "keep it on one branch")


def _exclusive(one: Edge, other: Edge) -> bool:
    """Whether guards never leave both edges open."""
    return any(a.hub == b.hub and not set(a.took) & set(b.took) for a in one.guards for b in other.guards)


def _check_fact_hub(spec: ProcedureSpec, node: Node, where: str, field: str) -> Iterator[Finding]:
    variable = next((variable for variable in spec.variables if variable.name == node.fact), None)
    if node.fact is None or variable is None:
        problem = f"there is no variable {node.fact!r}" if node.fact else "`fact` is not set"
        fix = did_you_mean(node.fact or "", [each.name for each in spec.variables], "set fact to one of spec.variables")
        yield error(where, f"{field}.fact", f"a fact decides, but {problem}", fix)
        return
    if variable.type != "string" or variable.open:
        fix = "list its values and remove open, or use a variable with a few values"
        yield error(where, f"{field}.fact", f"depends on {node.fact}, which may have any value", fix)
        return
    if variable.visibility == "hidden":
        problem = f"depends on {node.fact}, which only the teacher sees: the model would learn to invent it"
        yield error(where, f"{field}.fact", problem, "set its visibility to context, or let the customer say it")
    taken: dict[str, str] = {}
    possible = frozenset(variable.values)
    for edge, name, path in located_edges(node, field):
        for value in sorted(set(edge.values)):
            if value not in possible:
                fix = "correct it, or add it to the variable's values"
                yield error(name, f"{path}.values", f"{node.fact} is never {value!r}", fix)
            if value in taken:
                yield error(name, f"{path}.values", f"{value!r} already leads to {taken[value]}", "keep it on one edge")
            taken.setdefault(value, edge.to)
    yield from _check_rest(node, where, field, [value for value in variable.values if value not in taken])


def _check_rest(node: Node, where: str, field: str, rest: list[str]) -> Iterator[Finding]:
    """Errors unless exactly one edge takes `rest`, the values that no edge names."""
    without_values = [(name, path) for edge, name, path in located_edges(node, field) if not edge.values]
    if rest and not without_values:
        problem = f"has no branch for {node.fact} being {', '.join(map(repr, rest[:5]))}"
        yield error(where, f"{field}.next", problem, "add these values to an edge, or remove values from one edge")
    if not rest and without_values:
        yield error(*without_values[0], "no value is left for this edge", "give it values, or remove it")
    for name, path in without_values[1:]:
        yield error(name, path, "another edge also takes all other values", "give one of them values")
