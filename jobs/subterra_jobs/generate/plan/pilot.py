"""Chooses the pilot: conversations that are written first and whose decisions a blind reader has to identify. Pure."""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from subterra_core.procedure.graph import Graph, Hop, Path
from subterra_jobs.generate.plan.hash_random import unit_hash

PILOT_SIZE = 50
"""Conversations in the pilot."""


@dataclass(frozen=True)
class BranchDecision:
    """A choice made by the customer."""

    position: int
    """Index of the hub in the path."""
    options: tuple[str, ...]
    """The nodes that could follow."""


def customer_decisions(graph: Graph, path: Path) -> tuple[BranchDecision, ...]:
    """The choices on a path that the customer's words have to convey.

    Choices decided by a fact or by history need no words: the fact is known from the system message or an earlier turn, and the
    history is the conversation itself. Branches closed by bounds or guards are not options, for the same reason.
    """
    step, decisions = graph.begin(), list[BranchDecision]()
    for position, target in enumerate(path[1:]):
        leaves = graph.leaves(step.node, target)
        edges = graph.choices(step, again=False) if leaves else graph.open_edges(step)
        decided = graph.nodes[step.node].decided_by == "customer" or leaves
        if decided and len(edges) > 1:
            decisions.append(BranchDecision(position, tuple(edge.to for edge in edges)))
        step = graph.take(step, next(edge for edge in edges if edge.to == target))
    return tuple(decisions)


def select_pilot(graph: Graph, paths: Mapping[str, Path], size: int = PILOT_SIZE) -> list[str]:
    """Names of conversations in which all branches decided by the customer occur about equally often."""
    hubs = [node for node in graph.spec.nodes if node.decided_by == "customer" and len(node.next) > 1]
    branches = {(node.id, edge.to) for node in hubs for edge in node.next}
    candidates = _candidates(branches, paths)
    chosen, counts = list[str](), Counter[Hop]()
    while len(chosen) < size and (open_branches := [branch for branch, names in candidates.items() if names]):
        name = candidates[min(open_branches, key=lambda branch: (counts[branch], branch))].popleft()
        if name not in chosen:
            chosen.append(name)
            counts.update(branches.intersection(pairwise(paths[name])))
    return chosen


def _candidates(branches: set[Hop], paths: Mapping[str, Path]) -> dict[Hop, deque[str]]:
    """The conversations that take each branch, in random order."""
    candidates: dict[Hop, deque[str]] = {branch: deque() for branch in branches}
    for name in sorted(paths, key=lambda name: unit_hash("pilot", name)):
        for branch in branches.intersection(pairwise(paths[name])):
            candidates[branch].append(name)
    return candidates
