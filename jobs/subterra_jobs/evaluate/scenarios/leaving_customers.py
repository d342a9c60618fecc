"""Customers who take anywhere edges: which paths leave, and at which turn. Pure."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence

from subterra_core.procedure.anywhere import anywhere_shares
from subterra_core.procedure.graph import Graph, Hop, Path
from subterra_jobs.dialogue.anywhere_paths import Choose, LeavingPoint, anywhere_hops, leave, leaving_points
from subterra_jobs.dialogue.sampling import choose_by_weight, sample_path


def with_leaving_paths(graph: Graph, paths: Sequence[Path], seed: int) -> list[Path]:
    """``paths``, of which each anywhere edge's share takes it, at the turns that have had it least; without edges as they are."""
    changed, rng = [*paths], random.Random(f"evaluate/{seed}/anywhere")
    if not graph.anywhere:
        return changed
    order = rng.sample(range(len(paths)), len(paths))
    points = {index: leaving_points(graph, paths[index], {}) for index in order}
    counts = Counter[Hop]()
    for target, share in anywhere_shares(graph.spec).items():
        for _ in range(max(1, round(share * len(paths)))):
            found = _rarest_leaving(graph, paths, points, target, counts, rng)
            if found is None:
                break
            index, changed[index] = found
            del points[index]
            counts.update(anywhere_hops(graph, changed[index]))
    return changed


def leaving_path(graph: Graph, target: str, counts: Counter[Hop], rng: random.Random, choose: Choose | None = None) -> Path | None:
    """A drawn path that takes the anywhere edge to ``target``; `None` if the draw has no place for it."""
    path = sample_path(graph, rng)
    found = _rarest_leaving(graph, [path], {0: leaving_points(graph, path, {})}, target, counts, rng, choose)
    return None if found is None else found[1]


def _rarest_leaving(
    graph: Graph,
    paths: Sequence[Path],
    points: Mapping[int, Sequence[LeavingPoint]],
    target: str,
    counts: Counter[Hop],
    rng: random.Random,
    choose: Choose | None = None,
) -> tuple[int, Path] | None:
    """Index of one of the paths with ``points``, and what becomes of it when it leaves at the turn that was used least."""
    found = [(index, point) for index, of_path in points.items() for point in of_path if point.edge.to == target]
    rng.shuffle(found)
    found.sort(key=lambda each: counts[paths[each[0]][each[1].position], target])
    onward: Choose = choose or (lambda _, edges: choose_by_weight(edges, rng))
    for index, point in found:
        if (left := leave(graph, paths[index], point, onward)) is not None:
            return index, left
    return None
