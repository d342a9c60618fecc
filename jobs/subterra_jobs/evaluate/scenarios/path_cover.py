"""Paths that cover a procedure's edges."""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import networkx as nx

from subterra_api.job_contract.messages import Evaluation
from subterra_api.v1alpha1.procedure import Edge, Node
from subterra_core.procedure.graph import Graph, Path
from subterra_jobs.dialogue.sampling import choose_by_weight, sample_path
from subterra_jobs.evaluate.scenarios.scenario import Scenario

EdgeKey = tuple[str, str]
BRANCH_PLAYS = 12
"""Conversations that a branch needs: one that always fails is then told from one that fails in 40 % of them, among 75 branches."""
MAX_MORE = 0.2
"""Largest share of further conversations for this."""
_TRIES = 50


def draw_paths(graph: Graph, settings: Evaluation) -> list[Path]:
    """One path per scenario, drawn by the edges' weights."""
    rng = random.Random(f"evaluate/{settings.seed}/paths")
    return [sample_path(graph, rng) for _ in range(settings.scenarios)]


def cover_edges(graph: Graph, paths: list[Path], rng: random.Random) -> list[Path]:
    """`paths` with some replaced, so that every reachable edge, and so every terminal, is on one of them."""
    covered = list(paths)
    counts = Counter(hop for path in covered for hop in path_edges(path))
    for hop in [(node.id, edge.to) for node in graph.spec.nodes for edge in node.next]:
        if counts[hop] or (through := path_through(graph, hop, rng)) is None:
            continue
        # Replace a path whose edges are all on others; from the end, so that the first scenarios stay as drawn.
        spare = next((i for i in range(len(covered) - 1, -1, -1) if all(counts[h] > 1 for h in path_edges(covered[i]))), None)
        if spare is not None:
            counts.subtract(path_edges(covered[spare]))
            counts.update(path_edges(through))
            covered[spare] = through
    return covered


def rare_branch_paths(graph: Graph, paths: Sequence[Path], seed: int) -> list[Path]:
    """Further paths, so that every branch of a hub is taken `BRANCH_PLAYS` times, if a fifth of the number of `paths` suffices.

    The rarest branches come first.
    """
    rng = random.Random(f"evaluate/{seed}/branches")
    counts = Counter(hop for path in paths for hop in path_edges(path))
    branches = [(node.id, edge.to) for node in graph.spec.nodes if len(node.next) > 1 for edge in node.next]
    more: list[Path] = []
    for hop in sorted(branches, key=lambda hop: (counts[hop], hop)):
        while counts[hop] < BRANCH_PLAYS and len(more) < MAX_MORE * len(paths):
            if (through := path_through(graph, hop, rng)) is None:
                break
            more.append(through)
            counts.update(path_edges(through))
    return more


def path_edges(path: Path) -> set[EdgeKey]:
    """Edges of a path."""
    return set(pairwise(path))


def path_through(graph: Graph, edge_key: EdgeKey, rng: random.Random) -> Path | None:
    """A path through one edge, or `None` when guards or bounds seem to forbid it."""
    backwards = nx.DiGraph((edge.to, node.id) for node in graph.spec.nodes for edge in node.next)
    distance: dict[str, int] = nx.single_source_shortest_path_length(backwards, edge_key[0])
    for _ in range(_TRIES):
        try:
            path = graph.walk(_choose_towards(edge_key, distance, rng), attempts=1)
        except ValueError:
            continue
        if edge_key in path_edges(path):
            return path
    return None


def _choose_towards(edge_key: EdgeKey, distance: Mapping[str, int], rng: random.Random) -> Callable[[Node, Sequence[Edge]], Edge]:
    """Chooses edges that lead to `edge_key` and, once past it, by weight."""
    passed = False

    def choose(node: Node, edges: Sequence[Edge]) -> Edge:
        nonlocal passed
        if not passed and (wanted := next((edge for edge in edges if (node.id, edge.to) == edge_key), None)) is not None:
            passed = True
            return wanted
        if passed or rng.random() < 0.3:  # sometimes a detour, because guards may close the shortest path
            return choose_by_weight(edges, rng)
        return min(edges, key=lambda edge: distance.get(edge.to, len(distance) + 1))

    return choose


def uncovered_edges(graph: Graph, scenarios: Sequence[Scenario]) -> list[EdgeKey]:
    """Edges on no scenario's path."""
    taken = {hop for scenario in scenarios for hop in path_edges(scenario.path)}
    return [(node.id, edge.to) for node in graph.spec.nodes for edge in node.next if (node.id, edge.to) not in taken]
