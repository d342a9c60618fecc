"""Checks of hubs, guards and the words that decide."""

import itertools
import re
from collections.abc import Iterator

from subterra_api.v1alpha1.procedure import Edge, Guard, Node, ProcedureSpec
from subterra_core.procedure.lint.findings import Finding, _each_edge, _each_node, _error

_ARTICLES = frozenset({"a", "an", "the"})


def _hubs(spec: ProcedureSpec) -> Iterator[Finding]:
    hubs = {node.id: node for node in spec.nodes if len(node.next) > 1}
    for node, where, field in _each_node(spec):
        for edge, name, at in _each_edge(node, field):
            for place, guard in enumerate(edge.guards):
                yield from _guard(guard, hubs, name, f"{at}.guards[{place}]")
            if edge.values and (node.id not in hubs or node.decided_by != "fact"):
                cure = "set decidedBy: fact and fact on the hub, or remove values"
                yield _error(name, f"{at}.values", "has values, but no fact decides here", cure)
        if node.fact is not None and (node.id not in hubs or node.decided_by != "fact"):
            cure = "set decidedBy: fact on a node with several edges, or remove fact"
            yield _error(where, f"{field}.fact", "names a fact that decides nothing", cure)
        if node.id not in hubs:
            continue
        if node.decided_by == "customer":
            yield from _customer_hub(node, where, field)
        if node.decided_by == "fact":
            yield from _fact_hub(spec, node, where, field)


def _guard(guard: Guard, hubs: dict[str, Node], name: str, at: str) -> Iterator[Finding]:
    if guard.hub not in hubs:
        yield _error(name, f"{at}.hub", f"its guard asks for {guard.hub!r}, which is no hub", "name a node with several edges")
        return
    for took in sorted(set(guard.took) - {edge.to for edge in hubs[guard.hub].next}):
        problem = f"its guard asks whether {guard.hub} took {took!r}, which is none of its branches"
        yield _error(name, f"{at}.took", problem, "name targets of that hub's edges")


def _customer_hub(node: Node, where: str, field: str) -> Iterator[Finding]:
    if node.role == "agent":
        problem = "is the agent's turn, so no customer decides there"
        yield _error(where, f"{field}.decidedBy", problem, "move the branch to the customer's node or set decidedBy")
        return
    for edge, name, at in _each_edge(node, field):
        if not edge.when:
            yield _error(name, at, "the customer decides, but it does not say when", "set when on this edge")
    for (one, _, _), (other, name, at) in itertools.combinations(_each_edge(node, field), 2):
        if _exclusive(one, other):
            continue
        if one.when and other.when and _words(one.when) == _words(other.when):
            cure = "make their conditions differ, or guard them by different decisions"
            yield _error(name, f"{at}.when", f"means the same as the branch to {one.to}", cure)
        said = {tuple(text.lower().split()): text for text in one.examples}
        for place, text in enumerate(other.examples):
            if tuple(text.lower().split()) in said:
                problem = f"{text!r} is also said on the branch to {one.to}, so the words decide nothing"
                yield _error(name, f"{at}.examples[{place}]", problem, "keep it on one branch")


def _exclusive(one: Edge, other: Edge) -> bool:
    """Whether guards never leave both open."""
    return any(a.hub == b.hub and not set(a.took) & set(b.took) for a in one.guards for b in other.guards)


def _words(text: str) -> frozenset[str]:
    """What a condition is compared by: order, case, articles and punctuation do not make a difference."""
    return frozenset(re.findall(r"\w+", text.lower())) - _ARTICLES


def _fact_hub(spec: ProcedureSpec, node: Node, where: str, field: str) -> Iterator[Finding]:
    variable = next((each for each in spec.variables if each.name == node.fact), None)
    if node.fact is None or variable is None:
        problem = f"a fact decides, but there is no variable {node.fact!r}" if node.fact else "a fact decides, but none is named"
        yield _error(where, f"{field}.fact", problem, "set fact to one of spec.variables")
        return
    if variable.type != "string" or variable.open:
        cure = "list its values and leave open out, or put a variable with a few values in its place"
        yield _error(where, f"{field}.fact", f"rests on {node.fact}, which may have any value", cure)
        return
    if variable.visibility == "hidden":
        problem = f"rests on {node.fact}, which only the writer sees: training would teach the agent to make it up"
        yield _error(where, f"{field}.fact", problem, "set its visibility to context, or let the customer say it")
    taken: dict[str, str] = {}
    for edge, name, at in _each_edge(node, field):
        for value in sorted(set(edge.values)):
            if value not in variable.values:
                cure = "correct it, or add it to the variable's values"
                yield _error(name, f"{at}.values", f"{node.fact} is never {value!r}", cure)
            if value in taken:
                yield _error(name, f"{at}.values", f"{value!r} already leads to {taken[value]}", "keep it on one edge")
            taken.setdefault(value, edge.to)
    yield from _rest(node, where, field, [value for value in variable.values if value not in taken])


def _rest(node: Node, where: str, field: str, left: list[str]) -> Iterator[Finding]:
    """Whether the values that no edge names have exactly one way to go."""
    without = [(name, at) for edge, name, at in _each_edge(node, field) if not edge.values]
    if left and not without:
        problem = f"has no branch for {node.fact} being {', '.join(map(repr, left[:5]))}"
        yield _error(where, f"{field}.next", problem, "add these values to an edge, or leave values out on one of them")
    if not left and without:
        yield _error(*without[0], "no value is left for it", "give it values, or remove it")
    for name, at in without[1:]:
        yield _error(name, at, "two edges are for all other values", "give one of them values")
