"""What is written: one slot per conversation, with its path, its scenario and its side of the split. Pure.

The plan depends on the procedure, the number of conversations and the seeds only; workers and teachers do not change it.
Paths come by the edges' weights, which makes rare edges rarer than a model can learn from. So some conversations are given
another path until every edge is trained on at least `EDGE_FLOOR` times and no ending has less than its share.
"""

import hashlib
import itertools
import json
import random
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from subterra_api.contract import Generation
from subterra_api.graph import Graph, Path
from subterra_api.template import render
from subterra_api.v1alpha1.procedure import Edge, ProcedureSpec
from subterra_jobs.common.scenarios import fitting, sample_path, sample_values

EDGE_FLOOR = 3
"""How often each edge is trained on at least, where the number of conversations allows."""
TERMINAL_SHARE = 0.10
"""Share of the conversations that each terminal ends at least; all terminals together never claim more than half."""
OPENER_PROBABILITY = 0.5
GREETED_PROBABILITY = 0.2
"""Share of the openers that only return the agent's greeting."""
_NATURAL_TRIES = 40
_GUIDED_TRIES = 50
_HELD_OUT_TRIES = 50
_PULL = 0.25


@dataclass(frozen=True)
class Slot:
    """One conversation to be written. ``values`` are the scenario's, as the customer writes them."""

    id: str
    seed: int
    path: Path
    values: dict[str, str]
    opener: str | None
    persona: str | None
    held_out: bool
    greeted: bool = False
    """The agent had greeted already when the customer said the opener."""

    @property
    def scenario(self) -> str:
        """Hex digest of path and values: equal scenarios always land on the same side of the split."""
        return scenario(self.path, self.values)


def plan(procedure: ProcedureSpec, generation: Generation) -> list[Slot]:
    """All slots, sorted by seed as given and then by number. Some are held out whenever there are two scenarios."""
    graph = Graph(procedure)
    slots: list[Slot] = []
    for seed in dict.fromkeys(generation.seeds):
        draft = _Draft(graph, seed, generation.conversations, generation.held_out_percent)
        draft.top_up()
        slots += [_slot(procedure, draft, index) for index in range(generation.conversations)]
    return _with_held_out(slots)


def scenario(path: Path, values: Mapping[str, str]) -> str:
    """Hex digest of what happens in a conversation."""
    return hashlib.sha256(json.dumps([path, sorted(values.items())]).encode()).hexdigest()


def edges_of(path: Path) -> Counter[tuple[str, str]]:
    """How often each edge is taken."""
    return Counter(itertools.pairwise(path))


def _rng(seed: int, *parts: object) -> random.Random:
    return random.Random(":".join(map(str, (seed, *parts))))


def _slot(procedure: ProcedureSpec, draft: "_Draft", index: int) -> Slot:
    rng, values, path = _rng(draft.seed, index, "speaker"), draft.values[index], draft.paths[index]
    opens = draft.graph.nodes[procedure.start].role == "agent" and bool(procedure.openers) and rng.random() < OPENER_PROBABILITY
    opener = render(rng.choice(procedure.openers), values) if opens else None
    personas = procedure.personas
    persona = rng.choices(personas, weights=[each.weight for each in personas])[0].name if personas else None
    greeted = opens and rng.random() < GREETED_PROBABILITY
    return Slot(f"s{draft.seed}-{index:06d}", draft.seed, path, values, opener, persona, draft.held[index], greeted)


def _with_held_out(slots: list[Slot]) -> list[Slot]:
    """Holds out the scenario with the lowest hash when chance held out none: training cannot be watched without."""
    if any(slot.held_out for slot in slots) or len({slot.scenario for slot in slots}) < 2:
        return slots
    lowest = min(slot.scenario for slot in slots)
    return [replace(slot, held_out=slot.scenario == lowest) for slot in slots]


class _Draft:
    """One seed's conversations while their paths are being chosen. Counts cover training conversations only."""

    def __init__(self, graph: Graph, seed: int, count: int, held_out_percent: int) -> None:
        self.graph, self.seed, self._percent = graph, seed, held_out_percent
        variables = graph.spec.variables
        self.values = [sample_values(variables, _rng(seed, index, "values"), unseen=False) for index in range(count)]
        self.paths: list[Path] = [()] * count
        self.held = [True] * count
        self.edges: Counter[tuple[str, str]] = Counter()
        self.endings: dict[str, list[int]] = {node.id: [] for node in graph.spec.nodes if not node.next}
        for index in range(count):
            self._put(index, sample_path(graph, _rng(seed, index, "path")))
        self.quota = int(count * min(TERMINAL_SHARE, 0.5 / len(self.endings)) * (100 - held_out_percent) / 100)

    def top_up(self) -> None:
        """Gives some conversations another path until edges and endings are seen often enough, or nothing can be spared."""
        for floor in range(1, EDGE_FLOOR + 1):
            for node in self.graph.spec.nodes:
                for edge in node.next:
                    self._raise_edge(node.id, edge, floor)
        for ending in self.endings:
            self._raise_ending(ending)

    def _raise_edge(self, source: str, edge: Edge, floor: int) -> None:
        rng = _rng(self.seed, "edge", source, edge.to, floor)
        self._until(lambda: self.edges[source, edge.to] >= floor, lambda: through(self.graph, source, edge, rng), floor)

    def _raise_ending(self, ending: str) -> None:
        rng = _rng(self.seed, "ending", ending)
        self._until(lambda: len(self.endings[ending]) >= self.quota, lambda: ending_in(self.graph, ending, rng), EDGE_FLOOR)

    def _until(self, enough: Callable[[], bool], draw: Callable[[], Path | None], floor: int) -> None:
        wasted = 0
        while not enough() and wasted < _HELD_OUT_TRIES:
            path, spare = draw(), self._spare(floor)
            if path is None or spare is None:
                return
            self._put(spare, path)
            wasted += self.held[spare]  # the new path moved this conversation to the held-out side

    def _spare(self, floor: int) -> int | None:
        """A training conversation with a frequent ending whose edges are all seen more than ``floor`` times."""
        for _, indices in sorted(self.endings.items(), key=lambda item: (-len(item[1]), item[0])):
            if len(indices) <= self.quota:
                return None
            for index in reversed(indices):
                if all(self.edges[edge] - times >= floor for edge, times in edges_of(self.paths[index]).items()):
                    return index
        return None

    def _put(self, index: int, path: Path) -> None:
        if not self.held[index]:
            self.edges -= edges_of(self.paths[index])
            self.endings[self.paths[index][-1]].remove(index)
        self.paths[index] = path
        self.values[index] = fitting(self.graph, path, self.values[index], _rng(self.seed, index, "facts"))
        self.held[index] = int(scenario(path, self.values[index])[:8], 16) % 100 < self._percent
        if not self.held[index]:
            self.edges += edges_of(path)
            self.endings[path[-1]].append(index)


def ending_in(graph: Graph, ending: str, rng: random.Random) -> Path | None:
    """A path to a terminal: a natural one when chance finds it soon, else one that is drawn there."""
    for _ in range(_NATURAL_TRIES):
        path = sample_path(graph, rng)
        if path[-1] == ending:
            return path
    ways = [(node.id, edge) for node in graph.spec.nodes for edge in node.next if edge.to == ending]
    source, edge = rng.choices(ways, weights=[edge.weight for _, edge in ways])[0]
    return through(graph, source, edge, rng)


def through(graph: Graph, source: str, edge: Edge, rng: random.Random) -> Path | None:
    """A path that takes ``edge`` out of ``source``; none when bounds and guards seem to forbid it."""
    distance = _distances(graph, source)
    for _ in range(_GUIDED_TRIES):
        step, path, taken = graph.begin(), [graph.spec.start], False
        while edges := graph.open_edges(step):
            here = not taken and step.node == source and any(each is edge for each in edges)
            chosen = edge if here else _drawn(edges, {} if taken else distance, rng)
            taken = taken or here
            step = graph.take(step, chosen)
            path.append(chosen.to)
        if taken and not graph.nodes[step.node].next:
            return tuple(path)
    return None


def _drawn(edges: list[Edge], distance: Mapping[str, int], rng: random.Random) -> Edge:
    """One of the edges by weight, the sooner ones strongly preferred."""
    far = len(distance)
    weights = [edge.weight * max(_PULL ** distance.get(edge.to, far), 1e-12) for edge in edges]
    return rng.choices(edges, weights=weights)[0]


def _distances(graph: Graph, target: str) -> dict[str, int]:
    """Number of edges from each node to ``target``; nodes that do not lead there are absent."""
    into: dict[str, list[str]] = {node.id: [] for node in graph.spec.nodes}
    for node in graph.spec.nodes:
        for edge in node.next:
            into[edge.to].append(node.id)
    found, queue = {target: 0}, deque([target])
    while queue:
        node_id = queue.popleft()
        for before in into[node_id]:
            if before not in found:
                found[before] = found[node_id] + 1
                queue.append(before)
    return found
