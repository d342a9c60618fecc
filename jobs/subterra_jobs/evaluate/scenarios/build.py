"""Evaluation scenarios: who the customer is, which way the conversation goes, and what the customer says or wants.

Half of the customers have values as in training, half have only values that training never sees. Paths follow the edges' weights,
but every edge that can be reached is on some path as far as the number of scenarios allows.
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path as FilePath

import networkx as nx

from subterra_api.digest import sha256, short
from subterra_api.job_contract.messages import Evaluation
from subterra_api.v1alpha1.procedure import Edge, Node
from subterra_core.procedure.graph import Graph, Path
from subterra_core.procedure.template import render
from subterra_jobs.dialogue.sampling import context, fitting, sample_path, sample_values
from subterra_jobs.dialogue.scripted import messages, write
from subterra_jobs.evaluate.scenarios import customer_profiles
from subterra_jobs.evaluate.scenarios.customer_profiles import Challenge, Profile

Hop = tuple[str, str]
Lines = tuple[str, ...]
Mark = tuple[object, ...]
"""What tells whether a customer was in the training data: the words, or path and values where the words are not known yet."""
_TRIES = 50


@dataclass(frozen=True)
class Scenario:
    """One customer. ``id`` is a digest of what the customer does.

    A scripted customer has ``lines``: the turns in order, the opener first. One that a model plays has a profile and ``wishes``.
    """

    id: str
    unseen: bool
    path: Path
    values: dict[str, str]
    opener: str | None
    lines: Lines
    agent_first: bool
    context: str = ""
    """What the agent is told about this customer, beyond its system prompt."""
    profile: Profile | None = None
    wishes: tuple[str, ...] = ()
    """What the customer says or decides, turn by turn, with ``{{name}}`` for values; the words are the simulator's."""
    challenge: Challenge | None = None
    touched: bool = False
    """Whether an edit since a reference was compiled changes what is right here: the two are not compared then."""

    @property
    def mark(self) -> Mark:
        """See `Mark`."""
        return self.lines or customer(self.path, self.values)


def build(graph: Graph, settings: Evaluation, trained: frozenset[Mark] = frozenset()) -> list[Scenario]:
    """The scenarios of these settings; the same for every candidate, so that candidates can be compared scenario by scenario."""
    paths = cover(graph, draw_paths(graph, settings), random.Random(f"evaluate/{settings.seed}/cover"))
    played = settings.simulator.name != "scripted"
    people = customer_profiles.deal(graph.spec, len(paths), settings.seed) if played else [None] * len(paths)
    found: dict[str, Scenario] = {}
    for index, (path, profile) in enumerate(zip(paths, people, strict=True)):
        scenario = _fresh(graph, path, profile, settings.seed, index, trained, found.keys())
        found[scenario.id] = scenario
    return list(found.values())


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


def _fresh(
    graph: Graph, path: Path, profile: Profile | None, seed: int, index: int, trained: frozenset[Mark], known: Collection[str],
) -> Scenario:  # fmt: skip
    """A scenario that is neither in training nor among the others; a procedure without variables may leave no choice."""
    for attempt in range(_TRIES):
        # The prefix keeps these draws apart from those of the dataset, whatever the numbers are.
        scenario = _scenario(graph, path, profile, index, random.Random(f"evaluate/{seed}/{index}/{attempt}"))
        if scenario.id not in known and scenario.mark not in trained:
            return scenario
    return scenario if scenario.id not in known else replace(scenario, id=f"{scenario.id}-{index}")


def _scenario(graph: Graph, path: Path, profile: Profile | None, index: int, rng: random.Random) -> Scenario:
    unseen = index % 2 == 1
    values = fitting(graph, path, sample_values(graph.spec.variables, rng, unseen=unseen), rng)
    opener = rng.choice(graph.spec.openers) if graph.spec.openers and index // 2 % 2 == 0 else None
    scenario = Scenario("", unseen, path, values, opener, (), True, profile=profile)
    return speak(graph, scenario, rng) if profile is None else _wish(graph, scenario, profile, rng)


def speak(graph: Graph, scenario: Scenario, rng: random.Random) -> Scenario:
    """The scenario with the customer's lines written from the graph's wordings, and the id that follows from them."""
    chat = messages("", scenario.opener, write(graph, scenario.path, scenario.values, rng))[1:]
    lines = tuple(message["content"] for message in chat if message["role"] == "user")
    said = [scenario.path, sorted(scenario.values.items()), lines]
    told = context(graph.spec, scenario.values)
    return replace(scenario, id=short(sha256(said), 12), lines=lines, agent_first=chat[0]["role"] == "assistant", context=told)


def _wish(graph: Graph, scenario: Scenario, profile: Profile, rng: random.Random) -> Scenario:
    """The scenario of a customer that a model plays."""
    path, values, start = scenario.path, scenario.values, graph.nodes[scenario.path[0]]
    opener = render(scenario.opener, values) if scenario.opener and start.role == "agent" else None
    drawn = customer_profiles.challenge(
        graph, path, values, profile.challenge, rng, unseen=scenario.unseen, greeted=opener is not None
    )
    profile = replace(profile, challenge=drawn.kind if drawn else None)
    wants, persona = tuple(wishes(graph, path)), [each.description for each in graph.spec.personas if each.name == profile.persona]
    meant = [variable.description for variable in graph.spec.variables if variable.visibility == "customer"]
    does = [path, sorted(values.items()), opener, asdict(profile), drawn and asdict(drawn), wants, persona, meant]
    return replace(
        scenario, id=short(sha256(does), 12), opener=opener, agent_first=start.role == "agent" and opener is None,
        context=context(graph.spec, values), profile=profile, wishes=wants, challenge=drawn,
    )  # fmt: skip


def wishes(graph: Graph, path: Path) -> list[str]:
    """What the customer says or decides at each own node; never what the agent does, nor what else could be decided."""
    found = []
    for place, node in enumerate(graph.nodes[each] for each in path):
        if node.role == "user":
            edge = graph.edge(node.id, path[place + 1]) if place + 1 < len(path) else None
            found.append((edge.when if edge else None) or node.prompt)
    return [text for text in found if text]


def customer(path: Path, values: Mapping[str, str]) -> Mark:
    """Who takes which way, whatever the words."""
    return (tuple(path), tuple(sorted(values.items())))


def training_marks(dataset: FilePath) -> frozenset[Mark]:
    """What the customers say in each conversation of a dataset, and who takes which way in it."""
    found = set[Mark]()
    for file in sorted(dataset.glob("*.jsonl")):
        with file.open() as rows:
            for row in map(json.loads, rows):
                if "path" in row:
                    found.add(customer(row["path"], row["values"]))
                found.add(tuple(message["content"] for message in row.get("messages", ()) if message["role"] == "user"))
    return frozenset(found - {()})


def overlap(scenarios: Sequence[Scenario], trained: frozenset[Mark]) -> int:
    """How many scenarios are also training conversations; above 0 only where the procedure leaves no choice."""
    return sum(scenario.mark in trained for scenario in scenarios)


def missed(graph: Graph, scenarios: Sequence[Scenario]) -> list[Hop]:
    """Edges that no scenario takes."""
    taken = {hop for scenario in scenarios for hop in hops(scenario.path)}
    return [(node.id, edge.to) for node in graph.spec.nodes for edge in node.next if (node.id, edge.to) not in taken]
