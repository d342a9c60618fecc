"""Checks of the edges that the customer may take at any of their turns."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from subterra_api.v1alpha1.procedure import AnywhereEdge, Edge, Node, ProcedureSpec
from subterra_core.procedure.anywhere import condition_words, example_words, preferred_edges
from subterra_core.procedure.lint.findings import Finding, did_you_mean, error, located_anywhere, warning

_SHOWN = 5
Preferred = Sequence[tuple[Node, Mapping[str, Edge]]]
"""The customer's nodes, each with its edges that go before anywhere edges, by the targets of the latter."""


def check_anywhere(spec: ProcedureSpec) -> Iterator[Finding]:
    """Errors in targets, exceptions and wording; warnings where an ordinary edge goes before an anywhere edge."""
    nodes, preferred_at = {node.id: node for node in spec.nodes}, [*preferred_edges(spec)]
    for edge, where, path in located_anywhere(spec):
        yield from _check_target(edge, nodes, where, path)
        yield from _check_exceptions(edge, nodes, where, path)
        yield from _check_nodes(edge, preferred_at, where, path)
    yield from _check_alike(spec)


def _check_target(edge: AnywhereEdge, nodes: dict[str, Node], where: str, path: str) -> Iterator[Finding]:
    if edge.to not in nodes:
        fix = did_you_mean(edge.to, nodes, "add that node or correct the edge")
        yield error(where, f"{path}.to", f"there is no node {edge.to!r}", fix)
    elif nodes[edge.to].role == "user":
        problem = f"leads to {edge.to}, where the customer speaks again, but the agent answers"
        yield error(where, f"{path}.to", problem, "name a node of the agent")


def _check_exceptions(edge: AnywhereEdge, nodes: dict[str, Node], where: str, path: str) -> Iterator[Finding]:
    for index, name in enumerate(edge.except_):
        if name not in nodes:
            fix = did_you_mean(name, nodes, "correct it, or remove it from except")
            yield error(where, f"{path}.except[{index}]", f"there is no node {name!r}", fix)
        elif nodes[name].role == "agent":
            problem = f"excepts {name}, where the agent speaks: the edge is never open there"
            fix = "name the customer's node that follows, or remove it from except"
            yield error(where, f"{path}.except[{index}]", problem, fix)


def _check_nodes(edge: AnywhereEdge, preferred_at: Preferred, where: str, path: str) -> Iterator[Finding]:
    asked = [(node, own.get(edge.to)) for node, own in preferred_at if node.id not in edge.except_]
    if all(own is not None for _, own in asked):
        fix = "remove the edge, or take a node of the customer from except"
        yield error(where, path, "is open at no node of the customer", fix)
        return
    preferred = [f"{node.id} → {own.to}" for node, own in asked if own is not None]
    if preferred:
        shown = ", ".join(preferred[:_SHOWN]) + (f" and {len(preferred) - _SHOWN} more" if len(preferred) > _SHOWN else "")
        problem = f"has the target, the condition or an example of {shown}, which goes before it there"
        fix = "remove the ordinary edge if both mean the same, or add the node to except if its own edge is meant"
        yield warning(where, path, problem, fix)


def _check_alike(spec: ProcedureSpec) -> Iterator[Finding]:
    """Errors for two anywhere edges that a customer takes with the same words at one node, or that lead to the same node."""
    found: defaultdict[Any, list[AnywhereEdge]] = defaultdict(list)
    customers = [node.id for node in spec.nodes if node.role == "user"]
    for edge, where, path in located_anywhere(spec):
        if found["to", edge.to]:
            yield error(where, f"{path}.to", "another anywhere edge leads to the same node", "merge them")
        if other := _meeting(edge, found["when", condition_words(edge.when)], customers):
            fix = "make their conditions differ, or merge them"
            yield error(where, f"{path}.when", f"has the same condition as the anywhere edge to {other.to}", fix)
        for index, text in enumerate(edge.examples):
            if other := _meeting(edge, found["example", example_words(text)], customers):
                problem = f"{text!r} is also an example of the anywhere edge to {other.to}, so it decides nothing"
                yield error(where, f"{path}.examples[{index}]", problem, "keep it on one of them")
            found["example", example_words(text)].append(edge)
        found["when", condition_words(edge.when)].append(edge)
        found["to", edge.to].append(edge)


def _meeting(edge: AnywhereEdge, others: Sequence[AnywhereEdge], customers: Sequence[str]) -> AnywhereEdge | None:
    """The first of `others` that leads elsewhere and is open at one of the customer's nodes where `edge` is open too."""
    return next(
        (
            other
            for other in others
            if other.to != edge.to and any(node not in other.except_ and node not in edge.except_ for node in customers)
        ),
        None,
    )
