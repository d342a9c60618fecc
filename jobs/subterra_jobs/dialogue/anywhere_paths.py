"""Paths on which the customer takes an anywhere edge: where that is possible, and how the conversation goes on. Pure."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from subterra_api.v1alpha1.procedure import Edge, Node
from subterra_core.procedure.graph import Graph, Hop, Path, Step

Choose = Callable[[Node, Sequence[Edge]], Edge]


class LeavingPoint(NamedTuple):
    """A turn of a path at which the customer could take an anywhere edge instead."""

    position: int
    """Index of the customer's node in the path."""
    step: Step
    edge: Edge


def leaving_points(graph: Graph, path: Path, values: Mapping[str, str]) -> list[LeavingPoint]:
    """All such turns, in the order of the path."""
    if not graph.anywhere:
        return []
    points, step = list[LeavingPoint](), graph.begin(facts_of(graph, values))
    for position, node in enumerate(path):
        points += [LeavingPoint(position, step, edge) for edge in graph.leaving_edges(step)]
        if position + 1 < len(path) and (taken := graph.edge(node, path[position + 1])) is not None:
            step = graph.take(step, taken)
    return points


def leave(graph: Graph, path: Path, point: LeavingPoint, choose: Choose) -> Path | None:
    """The path up to `point`, then along its anywhere edge to an end; `None` where bounds or guards leave no edge open."""
    step = graph.take(point.step, point.edge)
    nodes = [*path[: point.position + 1], step.node]
    while edges := graph.open_edges(step):
        step = graph.take(step, choose(graph.nodes[step.node], edges))
        nodes.append(step.node)
    return None if graph.nodes[step.node].next else tuple(nodes)


def anywhere_hops(graph: Graph, path: Path) -> list[Hop]:
    """The ways along anywhere edges that a path has, in order."""
    return [hop for hop in pairwise(path) if graph.leaves(*hop)] if graph.anywhere else []


def leaves_at(graph: Graph, path: Path, position: int) -> bool:
    """Whether the customer takes an anywhere edge at this turn of the path."""
    return position + 1 < len(path) and graph.leaves(path[position], path[position + 1])


def facts_of(graph: Graph, values: Mapping[str, str]) -> dict[str, str]:
    """The values that decide at hubs."""
    return {name: values[name] for name in graph.facts if name in values}
