"""Paths that cover a procedure's edges."""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import networkx as nx

from subterra_api.job_contract.messages import Evaluation
from subterra_api.v1alpha1.procedure import Edge, Node
from subterra_core.procedure.graph import Graph, Path
from subterra_jobs.dialogue.sampling import sample_path
from subterra_jobs.evaluate.scenarios.scenario import Scenario

Hop = tuple[str, str]
_TRIES = 50


def draw_paths(graph: Graph, settings: Evaluation) -> list[Path]:
    """One path per scenario, by the edges' weights."""
    rng = random.Random(f"evaluate/{settings.seed}/paths")
    return [sample_path(graph, rng) for _ in range(settings.scenarios)]


def cover(graph: Graph, paths: list[Path], rng: random.Random) -> list[Path]:
    """``paths`` with some exchanged, so that every reachable edge, and with it every terminal, is on one of them."""
    covered = list(paths)
    for hop in [(node.id, edge.to) for node in graph.spec.nodes for edge in node.next]:
        counts = Counter(hop for path in covered for hop in hops(path))
        if hop in counts or (through := path_through(graph, hop, rng)) is None:
            continue
        # A path can go when all its edges are also on others; from the end, so that the first scenarios stay as drawn.
        spare = next((i for i in range(len(covered) - 1, -1, -1) if all(counts[h] > 1 for h in hops(covered[i]))), None)
        if spare is not None:
            covered[spare] = through
    return covered


def hops(path: Path) -> set[Hop]:
    """The edges on a path."""
    return set(pairwise(path))


def path_through(graph: Graph, hop: Hop, rng: random.Random) -> Path | None:
    """A path that takes one edge; none when guards or bounds seem to forbid it."""
    backwards = nx.DiGraph((edge.to, node.id) for node in graph.spec.nodes for edge in node.next)
    distance: dict[str, int] = nx.single_source_shortest_path_length(backwards, hop[0])
    for _ in range(_TRIES):
        try:
            path = graph.walk(_towards(hop, distance, rng), attempts=1)
        except ValueError:
            continue
        if hop in hops(path):
            return path
    return None


def _towards(hop: Hop, distance: Mapping[str, int], rng: random.Random) -> Callable[[Node, Sequence[Edge]], Edge]:
    """Chooses edges that lead to a hop and, once past it, by weight."""
    passed = False

    def choose(node: Node, edges: Sequence[Edge]) -> Edge:
        nonlocal passed
        if not passed and (wanted := next((edge for edge in edges if (node.id, edge.to) == hop), None)) is not None:
            passed = True
            return wanted
        if passed or rng.random() < 0.3:  # now and then another way, because guards may close the shortest one
            return rng.choices(edges, weights=[edge.weight for edge in edges])[0]
        return min(edges, key=lambda edge: distance.get(edge.to, len(distance) + 1))

    return choose


def missed(graph: Graph, scenarios: Sequence[Scenario]) -> list[Hop]:
    """Edges that no scenario takes."""
    taken = {hop for scenario in scenarios for hop in hops(scenario.path)}
    return [(node.id, edge.to) for node in graph.spec.nodes for edge in node.next if (node.id, edge.to) not in taken]
