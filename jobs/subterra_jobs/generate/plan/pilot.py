"""Which conversations are written first and read by a blind reader, and what it is asked. Pure."""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from subterra_core.procedure.graph import Graph, Hop, Path
from subterra_jobs.generate.plan.hash_random import share

PILOT = 50
"""Conversations."""


@dataclass(frozen=True)
class Decision:
    """A choice of the customer: its place on the path, and the nodes to which the conversation could go from there."""

    position: int
    options: tuple[str, ...]


def decisions(graph: Graph, path: Path) -> tuple[Decision, ...]:
    """The choices on a path that words have to carry.

    Where a fact or history decides, nothing has to be said: the fact is in the system message or was told before, and history is
    the conversation itself. Branches that bounds or guards close are no options: that, too, history tells.
    """
    step, found = graph.begin(), list[Decision]()
    for position, target in enumerate(path[1:]):
        edges = graph.open_edges(step)
        if graph.nodes[step.node].decided_by == "customer" and len(edges) > 1:
            found.append(Decision(position, tuple(edge.to for edge in edges)))
        step = graph.take(step, next(edge for edge in edges if edge.to == target))
    return tuple(found)


def pilot(graph: Graph, paths: Mapping[str, Path], size: int = PILOT) -> list[str]:
    """Names of conversations in which every branch that the customer decides comes up about equally often."""
    hubs = [node for node in graph.spec.nodes if node.decided_by == "customer" and len(node.next) > 1]
    branches = {(node.id, edge.to) for node in hubs for edge in node.next}
    waiting: dict[Hop, deque[str]] = {branch: deque() for branch in branches}
    for name in sorted(paths, key=lambda name: share("pilot", name)):
        for hop in branches.intersection(pairwise(paths[name])):
            waiting[hop].append(name)
    chosen, seen = list[str](), Counter[Hop]()
    while len(chosen) < size and (open_ := [hop for hop, names in waiting.items() if names]):
        name = waiting[min(open_, key=lambda hop: (seen[hop], hop))].popleft()
        if name not in chosen:
            chosen.append(name)
            seen.update(branches.intersection(pairwise(paths[name])))
    return chosen
