"""What is written: one slot per conversation, with its path, its scenario and its side of the split. Pure.

The plan depends on the procedure, the number of conversations and the seeds only; workers, teachers and what was written before do
not change it. Most slots go where chance sends them, by the edges' weights; each of their decisions is a hash of seed, slot, node
and visit, so that an edit elsewhere leaves them as they are. As many slots as needed are *top-ups*, each named by the run of nodes
that it is for: until every edge and every two edges in a row are trained on `FLOOR` times, and no ending has less than its share.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from subterra_api.job_contract.messages import Generation
from subterra_api.v1alpha1.procedure import Edge, Node, ProcedureSpec
from subterra_core.procedure.graph import Graph, Path
from subterra_core.procedure.template import variables_of
from subterra_jobs.dialogue.sampling import fitting, sample_values
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.generate.plan.customer_style import Manner, manner
from subterra_jobs.generate.plan.hash_random import pick, rng
from subterra_jobs.generate.plan.path_space import Run, Ways, runs_of
from subterra_jobs.generate.plan.pilot import Decision, decisions, pilot

FLOOR = 3
"""How often each edge, and each two edges in a row, are trained on at least, where the number of conversations allows."""
TERMINAL_SHARE = 0.10
"""Share of the training conversations that each terminal ends at least; where there are many, all together claim half."""
SUCCESS_SHARE = 0.20
"""Share that all terminals with outcome success end together at least."""
_HELD_OUT_TRIES = 20


@dataclass(frozen=True)
class Slot:
    """One conversation to be written. ``values`` are the scenario's, as the customer writes them."""

    id: str
    seed: int
    path: Path
    values: dict[str, str]
    scenario: str
    """Hex digest of what happens: equal scenarios always land on the same side of the split."""
    held_out: bool
    manner: Manner
    audited: tuple[Decision, ...] = ()
    """Decisions that the blind reader has to find, in a conversation of the pilot."""

    @property
    def trained_on(self) -> int:
        """1 for a training conversation, 0 for one that is held out."""
        return 0 if self.held_out else 1


def plan(procedure: ProcedureSpec, generation: Generation) -> list[Slot]:
    """All slots, by seed as given. Some are held out whenever there are two scenarios."""
    graph = Graph(procedure)
    ways = Ways(graph)
    drafts = [_Draft(graph, ways, seed, generation) for seed in dict.fromkeys(generation.seeds)]
    return _with_pilot(graph, _with_held_out([slot for draft in drafts for slot in draft.slots()]))


def shares(procedure: ProcedureSpec) -> dict[str, float]:
    """The least share of the training conversations for each terminal."""
    endings = [node for node in procedure.nodes if not node.next]
    successes = sum(node.outcome == "success" for node in endings)
    least = min(TERMINAL_SHARE, 0.5 / len(endings))
    return {node.id: max(least, SUCCESS_SHARE / successes) if node.outcome == "success" else least for node in endings}


def _with_held_out(slots: list[Slot]) -> list[Slot]:
    """Holds out the scenario with the lowest hash when chance held out none: training cannot be watched without."""
    if any(slot.held_out for slot in slots) or len({slot.scenario for slot in slots}) < 2:
        return slots
    lowest = min(slot.scenario for slot in slots)
    return [replace(slot, held_out=slot.scenario == lowest) for slot in slots]


def _with_pilot(graph: Graph, slots: list[Slot]) -> list[Slot]:
    chosen = set(pilot(graph, {slot.id: slot.path for slot in slots}))
    return [replace(slot, audited=decisions(graph, slot.path)) if slot.id in chosen else slot for slot in slots]


class _Scenarios:
    """Names what happens on a path: the path itself, and the values of what is said on it or is in the context."""

    def __init__(self, graph: Graph) -> None:
        spec = graph.spec
        self._context = [variable.name for variable in spec.variables if variable.visibility == "context"]
        self._nodes = {node.id: set(variables_of(" ".join((node.prompt, *node.examples)))) for node in spec.nodes}
        self._edges = {(node.id, edge.to): set(variables_of(" ".join(edge.examples))) for node in spec.nodes for edge in node.next}

    def digest(self, path: Path, values: Mapping[str, str]) -> str:
        told = set(self._context).union(*(self._nodes[node] for node in path), *(self._edges[hop] for hop in pairwise(path)))
        return hashlib.sha256(json.dumps([path, sorted((name, values[name]) for name in told)]).encode()).hexdigest()


class _Draft:
    """One seed's part of a plan."""

    def __init__(self, graph: Graph, ways: Ways, seed: int, generation: Generation) -> None:
        self._graph, self._ways, self._seed = graph, ways, seed
        self._count, self._percent = generation.conversations, generation.held_out_percent
        self._scenarios = _Scenarios(graph)
        self._shares = {(ending,): least for ending, least in shares(graph.spec).items()}
        chances = ways.runs
        floored = [run for run in chances if len(run) > 1]
        self._floored = sorted(floored, key=lambda run: (chances[run], run))  # a rare run brings many common ones along
        self._made: dict[str, Slot] = {}

    def slots(self) -> list[Slot]:
        """As many conversations by chance as leave room for the top-ups that they make necessary."""
        base = [self._base(index) for index in range(self._count)]
        size, tally = len(base), _tally(base)
        while size + len(more := self._top_ups(base[:size], tally)) > self._count and size:
            smaller = max(0, min(size - 1, self._count - len(more)))
            tally.subtract(_tally(base[smaller:size]))
            size = smaller
        more = more[: self._count]
        return [*base[: self._count - len(more)], *sorted(more, key=lambda slot: slot.id)]

    def _base(self, index: int) -> Slot:
        """A conversation as chance has it. What is true decides before any word does, so values come first."""
        name = f"s{self._seed}-{index:06d}"
        values = self._values(name)
        try:
            path = self._graph.walk(_hashed(name), values=values)
        except ValueError as error:
            raise InvalidInputError(str(error)) from None
        return self._slot(name, path, values, index, self._seed, index)

    def _top_up(self, run: Run, number: int) -> Slot:
        """The ``number``-th conversation for a run."""
        name = f"s{self._seed}-top.{'.'.join(run)}.{number:03d}"
        if name not in self._made:
            path = self._ways.path(run, name)
            values = fitting(self._graph, path, self._values(name), rng(name, "facts"))
            self._made[name] = self._slot(name, path, values, number, self._seed, *run, number)
        return self._made[name]

    def _slot(self, name: str, path: Path, values: dict[str, str], index: int, *key: object) -> Slot:
        scenario = self._scenarios.digest(path, values)
        held_out = int(scenario[:8], 16) % 100 < self._percent
        return Slot(name, self._seed, path, values, scenario, held_out, manner(self._graph, path, values, index, *key))

    def _values(self, name: str) -> dict[str, str]:
        """Each by itself, so that another variable changes none of them."""
        found: dict[str, str] = {}
        for variable in self._graph.spec.variables:
            found |= sample_values([variable], rng(name, "value", variable.name), unseen=False)
        return found

    def _top_ups(self, base: Sequence[Slot], tally: Counter[Run]) -> list[Slot]:
        """What is missing beside ``base``: everything once, and the endings' shares, before anything twice."""
        adding = _Adding(self._top_up, base, Counter(tally))
        for floor in range(1, FLOOR + 1):
            for run in self._floored:
                while adding.counts[run] < floor and adding.add(run):
                    pass
            self._raise_endings(adding)
        return adding.slots

    def _raise_endings(self, adding: "_Adding") -> None:
        endings = [run for run in self._shares if run in self._ways.runs]
        while lagging := [run for run in endings if adding.counts[run] < self._shares[run] * adding.trained_of(self._count)]:
            endings = [run for run in endings if run not in lagging or adding.add(run)]


class _Adding:
    """Top-ups on their way, and how often each run is trained on with them."""

    def __init__(self, make: Callable[[Run, int], Slot], base: Sequence[Slot], counts: Counter[Run]) -> None:
        self.slots: list[Slot] = []
        self.counts = counts
        self._make, self._base = make, len(base)
        self._trained = sum(slot.trained_on for slot in base)
        self._known = {slot.scenario for slot in base}
        self._numbers: Counter[Run] = Counter()

    def add(self, run: Run) -> bool:
        """Adds one training conversation for a run; not when all that are drawn turn out to be held out."""
        for _ in range(_HELD_OUT_TRIES):
            slot = self._make(run, self._numbers[run])
            self._numbers[run] += 1
            if not slot.held_out or slot.scenario not in self._known:
                self.slots.append(slot)
                self._known.add(slot.scenario)
            if not slot.held_out:
                self.counts.update(runs_of(slot.path))
                self._trained += 1
                return True
        return False

    def trained_of(self, count: int) -> int:
        """The most training conversations that a plan of ``count`` can have, these among them."""
        return self._trained + max(0, count - self._base - len(self.slots))


def _tally(slots: Sequence[Slot]) -> Counter[Run]:
    """How often the slots train on each run."""
    return Counter(run for slot in slots if not slot.held_out for run in runs_of(slot.path))


def _hashed(name: str) -> Callable[[Node, Sequence[Edge]], Edge]:
    """Chooses edges by weight: each choice is a hash of the slot, the node and how often it was visited."""
    visits: Counter[str] = Counter()

    def choose(node: Node, edges: Sequence[Edge]) -> Edge:
        visits[node.id] += 1
        return edges[pick([edge.to for edge in edges], [edge.weight for edge in edges], name, node.id, visits[node.id])]

    return choose
