"""Which planned conversations take an anywhere edge, and at which turn. Pure.

Each edge has its share of the base conversations, evenly over the plan. The turn is drawn so that rare nodes come up about as often
as frequent ones. Top-ups then bring every node at which an edge is open, as far as the share allows: twice the share at most. A
procedure without anywhere edges is planned as if they did not exist.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise

from subterra_core.procedure.anywhere import anywhere_shares
from subterra_core.procedure.graph import Graph, Hop, Path
from subterra_jobs.dialogue.anywhere_paths import Choose, anywhere_hops, leave, leaving_points
from subterra_jobs.generate.plan.hash_random import golden_ratio_sequence, index_at, unit_hash, weighted_rendezvous
from subterra_jobs.generate.plan.path_space import NodeNgram, PathSpace, ngrams_of
from subterra_jobs.generate.plan.split import Planned

_MOST = 2
"""Conversations that take anywhere edges, top-ups included, as a multiple of their share."""


class AnywherePlan:
    """The anywhere edges of one plan."""

    def __init__(self, graph: Graph, space: PathSpace, floor: int) -> None:
        self._graph, self._floor = graph, floor
        self._shares = anywhere_shares(graph.spec)
        self._expected = {ngram[0]: count for ngram, count in space.ngrams.items() if len(ngram) == 1}
        hops = [ngram for ngram in space.ngrams if len(ngram) == 2 and graph.leaves(*ngram)]
        self.hops: tuple[NodeNgram, ...] = tuple(sorted(hops, key=lambda hop: unit_hash("anywhere", *hop)))
        """Ways along anywhere edges that a conversation can take, in random order: where not all fit, no part is left out."""

    def path(self, path: Path, values: Mapping[str, str], index: int, seed: int, name: str, choose: Choose) -> Path:
        """The base path number ``index`` of a seed: as it is, or up to the turn at which the customer leaves by an edge."""
        if not self._shares or (target := self._target(index, seed)) is None:
            return path
        points = [point for point in leaving_points(self._graph, path, values) if point.edge.to == target]
        while points:
            nodes = [path[point.position] for point in points]
            names = [f"{node}/{number}" for number, node in enumerate(nodes)]
            weights = [1 / max(self._expected.get(node, 0.0), 1e-6) for node in nodes]
            point = points.pop(weighted_rendezvous(names, weights, name, "anywhere", len(points)))
            if (left := leave(self._graph, path, point, choose)) is not None:
                return left
        return path

    def most(self, conversations: int) -> float:
        """The largest number of conversations of a plan that top-ups may bring to take anywhere edges."""
        return max(_MOST * sum(self._shares.values()) * conversations, self._floor * len(self._shares))

    def _target(self, index: int, seed: int) -> str | None:
        """The edge whose turn it is, or none."""
        targets, shares = [*self._shares], [*self._shares.values()]
        chosen = index_at(golden_ratio_sequence(index, seed, "anywhere"), [*shares, 1 - sum(shares)])
        return targets[chosen] if chosen < len(targets) else None


def leaving_to_hold_out(graph: Graph, specs: Sequence[Planned]) -> set[str]:
    """For each anywhere edge that is only trained on, a scenario that takes it and that training can do without."""
    if not graph.anywhere:
        return set()
    trained = Counter(ngram for spec in specs if not spec.held_out for ngram in _needed(graph, spec.path))
    by_scenario: defaultdict[str, list[Planned]] = defaultdict(list)
    for spec in specs:
        if not spec.held_out:
            by_scenario[spec.scenario].append(spec)
    held_out = {target for spec in specs if spec.held_out for _, target in anywhere_hops(graph, spec.path)}
    chosen = set[str]()
    for target in (each.to for each in graph.spec.anywhere if each.to not in held_out):
        for scenario in sorted(by_scenario):
            own = Counter(ngram for spec in by_scenario[scenario] for ngram in _needed(graph, spec.path))
            takes_it = any(graph.leaves(*ngram) and ngram[1] == target for ngram in own if len(ngram) == 2)
            if takes_it and scenario not in chosen and all(trained[ngram] > count for ngram, count in own.items()):
                trained.subtract(own)
                chosen.add(scenario)
                break
    return chosen


def _needed(graph: Graph, path: Path) -> list[NodeNgram]:
    return [ngram for ngram in ngrams_of(path) if len(ngram) < 3 or not has_leaving(graph, ngram)]


def has_leaving(graph: Graph, ngram: NodeNgram) -> bool:
    """Whether an n-gram has a way along an anywhere edge."""
    return bool(graph.anywhere) and any(graph.leaves(*hop) for hop in _hops(ngram))


def without_leaving_pairs(graph: Graph, ngrams: Iterable[NodeNgram]) -> Collection[NodeNgram]:
    """What training needs of these n-grams: not each way by which conversations come to a turn and leave from it."""
    return {ngram for ngram in ngrams if len(ngram) < 3 or not has_leaving(graph, ngram)} if graph.anywhere else set(ngrams)


def without_leaving(graph: Graph, ngrams: Iterable[NodeNgram]) -> Collection[NodeNgram]:
    """The n-grams without any way along an anywhere edge."""
    return {ngram for ngram in ngrams if not has_leaving(graph, ngram)} if graph.anywhere else set(ngrams)


def _hops(ngram: NodeNgram) -> Iterable[Hop]:
    return pairwise(ngram)
