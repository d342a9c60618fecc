"""Every conversation a procedure allows, as an unfolded graph: exact frequencies of node n-grams, and paths through them. Pure.

A *node n-gram* is one to three consecutive nodes: a node, an edge, or a pair of consecutive edges. Walks at equal steps have equal
futures, so the steps of all walks form an acyclic graph. It gives the exact expected count of each n-gram, shows which n-grams no
conversation can take, and lets a path through an n-gram be drawn directly, with the probability it has among all such paths.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

from subterra_api.v1alpha1.procedure import Edge
from subterra_core.procedure.anywhere import anywhere_shares
from subterra_core.procedure.graph import Graph, Path, Step
from subterra_jobs.generate.plan.hash_random import weighted_rendezvous

NodeNgram = tuple[str, ...]
MAX_STEPS = 60_000
"""Limit on unfolded steps. A larger procedure is unfolded in part, visiting all nodes about equally often."""

_TURNS = 5
"""Turns of the customer in a conversation, about: over these the share of an anywhere edge is spread."""


@lru_cache(maxsize=4096)  # a plan counts the same paths again and again
def ngrams_of(path: Path) -> tuple[NodeNgram, ...]:
    """All n-grams of a path, repeated as often as they occur."""
    nodes = [(node,) for node in path]
    return (*nodes, *pairwise(path), *zip(path, path[1:], path[2:], strict=False))


@dataclass(frozen=True)
class _Occurrence:
    """One occurrence of an n-gram in the unfolded graph."""

    first: int
    last: int
    """Numbers of its first and last step."""
    expected_count: float
    """How often a conversation takes it, on average."""


class PathSpace:
    """The unfolded procedure."""

    def __init__(self, graph: Graph, max_steps: int = MAX_STEPS) -> None:
        self._graph, self._shares = graph, anywhere_shares(graph.spec)
        self._steps: list[Step] = []
        self._after: dict[int, list[tuple[int, float]]] = {}
        self._unfold(max_steps)
        self._before: defaultdict[int, list[int]] = defaultdict(list)
        self._prune_dead_ends()
        self._probability = self._visit_probabilities()
        self._occurrences: defaultdict[NodeNgram, list[_Occurrence]] = defaultdict(list)
        self._find_occurrences()

    @cached_property
    def ngrams(self) -> dict[NodeNgram, float]:
        """Every n-gram that a conversation can take, with its expected count per conversation."""
        return {
            ngram: sum(occurrence.expected_count for occurrence in occurrences) for ngram, occurrences in self._occurrences.items()
        }

    def path(self, ngram: NodeNgram, *key: object) -> Path:
        """A path that takes ``ngram``, one of `ngrams`; the draw depends on ``key``."""
        occurrences = self._occurrences[ngram]
        names = [str(number) for number in range(len(occurrences))]
        chosen = occurrences[weighted_rendezvous(names, [occurrence.expected_count for occurrence in occurrences], *key)]
        return (*self._nodes_before(chosen.first, *key), *ngram, *self._nodes_after(chosen.last, *key))

    def _unfold(self, max_steps: int) -> None:
        """Expands steps in the order of their nodes' visits so far, so that a partial graph still contains every node."""
        start = self._graph.begin()
        numbers, visits = {start: 0}, Counter[str]()
        self._steps.append(start)
        queue = [(0, 0)]
        while queue and len(self._after) < max_steps:
            _, number = heapq.heappop(queue)
            step, successors = self._steps[number], list[tuple[int, float]]()
            edges = [(edge, self._weight(step, edge)) for edge in self._graph.open_edges(step)]
            for edge, weight in (*edges, *self._leaving(step, edges)):
                following = self._graph.take(step, edge)
                if following not in numbers:
                    numbers[following] = len(self._steps)
                    heapq.heappush(queue, (visits[following.node], len(self._steps)))
                    self._steps.append(following)
                    visits[following.node] += 1
                successors.append((numbers[following], weight))
            self._after[number] = successors

    def _leaving(self, step: Step, edges: Sequence[tuple[Edge, float]]) -> list[tuple[Edge, float]]:
        """Anywhere edges with their weights: a small part of what the node's own edges weigh, since each turn has them."""
        total = sum(weight for _, weight in edges) or 1.0
        return [(edge, total * self._shares[edge.to] / _TURNS) for edge in self._graph.leaving_edges(step)]

    def _weight(self, step: Step, edge: Edge) -> float:
        """The edge's weight among its siblings; at a fact node, the number of the fact's values that lead there."""
        node = self._graph.nodes[step.node]
        if node.fact is None:
            return edge.weight
        return len(dict(step.facts)[node.fact] & self._graph.values_for(node, edge))

    def _prune_dead_ends(self) -> None:
        """Removes steps that reach no terminal, and normalizes the weights of the rest to probabilities."""
        alive = self._steps_that_end()
        for number in sorted(alive & self._after.keys()):
            remaining = [(following, weight) for following, weight in self._after[number] if following in alive]
            total = sum(weight for _, weight in remaining)
            self._after[number] = [(following, weight / total) for following, weight in remaining]
            for following, _ in remaining:
                self._before[following].append(number)
        self._after = {number: self._after.get(number, []) for number in alive}

    def _steps_that_end(self) -> set[int]:
        """The steps from which a terminal can be reached."""
        before: defaultdict[int, list[int]] = defaultdict(list)
        for number, successors in self._after.items():
            for following, _ in successors:
                before[following].append(number)
        queue = [number for number, step in enumerate(self._steps) if not self._graph.nodes[step.node].next]
        alive = set(queue)
        for number in queue:  # grows while iterating
            new = [previous for previous in before[number] if previous not in alive]
            alive.update(new)
            queue += new
        return alive

    def _visit_probabilities(self) -> dict[int, float]:
        """The probability that a conversation visits each step."""
        probability: defaultdict[int, float] = defaultdict(float, {0: 1.0})
        missing = {number: len(before) for number, before in self._before.items()}
        ready = [0] if self._after else []
        for number in ready:  # grows while iterating, in topological order
            for following, weight in self._after[number]:
                probability[following] += probability[number] * weight
                missing[following] -= 1
                if not missing[following]:
                    ready.append(following)
        return probability

    def _find_occurrences(self) -> None:
        for first, successors in sorted(self._after.items()):
            node, probability = self._steps[first].node, self._probability[first]
            self._occurrences[(node,)].append(_Occurrence(first, first, probability))
            for second, weight in successors:
                edge = (node, self._steps[second].node)
                self._occurrences[edge].append(_Occurrence(first, second, probability * weight))
                for third, next_weight in self._after[second]:
                    pair = (*edge, self._steps[third].node)
                    self._occurrences[pair].append(_Occurrence(first, third, probability * weight * next_weight))

    def _nodes_before(self, number: int, *key: object) -> Path:
        """Draws the nodes that lead from the start to a step."""
        nodes: list[str] = []
        while before := self._before[number]:
            names = [f"{self._steps[previous].node}/{rank}" for rank, previous in enumerate(before)]
            weights = [self._probability[previous] * dict(self._after[previous])[number] for previous in before]
            number = before[weighted_rendezvous(names, weights, *key, "before", len(nodes))]
            nodes.append(self._steps[number].node)
        return tuple(reversed(nodes))

    def _nodes_after(self, number: int, *key: object) -> Path:
        """Draws the nodes that follow a step, up to a terminal."""
        nodes: list[str] = []
        while after := self._after[number]:
            names = [self._steps[following].node for following, _ in after]
            number = after[weighted_rendezvous(names, [weight for _, weight in after], *key, "after", len(nodes))][0]
            nodes.append(self._steps[number].node)
        return tuple(nodes)
