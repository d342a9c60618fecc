"""Customers who take anywhere edges: which paths leave, and at which turn. Pure."""

import random
from collections import Counter
from collections.abc import Sequence

from subterra_core.procedure.anywhere import anywhere_shares
from subterra_core.procedure.graph import Graph, Hop, Path
from subterra_jobs.dialogue.anywhere_paths import Choose, anywhere_hops, leave, leaving_points
from subterra_jobs.dialogue.sampling import choose_by_weight, sample_path


def with_leaving_paths(graph: Graph, paths: Sequence[Path], seed: int) -> list[Path]:
    """``paths``, of which each anywhere edge's share takes it, at the turns that have had it least; without edges as they are."""
    changed, rng = [*paths], random.Random(f"evaluate/{seed}/anywhere")
    if not graph.anywhere:
        return changed
    free = rng.sample(range(len(paths)), len(paths))
    counts = Counter[Hop]()
    for target, share in anywhere_shares(graph.spec).items():
        for _ in range(max(1, round(share * len(paths)))):
            found = _first_leaving(graph, paths, free, target, counts, rng)
            if found is None:
                break
            index, path = found
            free.remove(index)
            changed[index] = path
            counts.update(anywhere_hops(graph, path))
    return changed


def leaving_path(graph: Graph, target: str, counts: Counter[Hop], rng: random.Random, choose: Choose | None = None) -> Path | None:
    """A drawn path that takes the anywhere edge to ``target``; `None` if the draw has no place for it."""
    return _leaving(graph, sample_path(graph, rng), target, counts, rng, choose)


def _first_leaving(
    graph: Graph, paths: Sequence[Path], free: Sequence[int], target: str, counts: Counter[Hop], rng: random.Random
) -> tuple[int, Path] | None:
    """The first path not used yet that can take the edge, by its index, and what becomes of it."""
    for index in free:
        if (path := _leaving(graph, paths[index], target, counts, rng)) is not None:
            return index, path
    return None


def _leaving(
    graph: Graph, path: Path, target: str, counts: Counter[Hop], rng: random.Random, choose: Choose | None = None
) -> Path | None:
    points = [point for point in leaving_points(graph, path, {}) if point.edge.to == target]
    rng.shuffle(points)
    onward: Choose = choose or (lambda _, edges: choose_by_weight(edges, rng))
    for point in sorted(points, key=lambda point: counts[path[point.position], target]):
        if (left := leave(graph, path, point, onward)) is not None:
            return left
    return None
