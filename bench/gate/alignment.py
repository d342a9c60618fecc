"""Does alignment correct a labeller's errors without hiding the agent's violations?

The labeller is simulated: with some probability its first label of a turn is another step of the same speaker or another edge, and
then the right one comes second in seven of ten cases. The customer's path is not given; alignment has to find it.
"""

import random
import sys
from collections import Counter
from collections.abc import Iterator

from bench.gate.replaying import FAULTS, Turns, paths
from bench.generation.planning import EXAMPLES, example

from subterra_core.procedure.graph import Graph, Path
from subterra_jobs.dialogue.sampling import fit_values_to_path, sample_values
from subterra_jobs.dialogue.similarity.closest_examples import CandidateLabel
from subterra_jobs.evaluate.judge.alignment import LabelledTurn, align
from subterra_jobs.evaluate.judge.conformance import prescribed_turns, replay

SLIPS = (0.0, 0.02, 0.05, 0.1)
SECOND_RIGHT = 0.7
READ = 300
"""Conversations of each example."""
WITHIN_A_CHAT = ("illegal transition", "skipped step", "wrong branch", "wrong terminal")
"""Violations that keep speakers alternating."""


def said(graph: Graph, path: Path, agent: Turns) -> list[LabelledTurn]:
    """A conversation with correct labels: the customer's turns on ``path``, and the agent's turns ``agent``."""
    turns: list[LabelledTurn] = []
    replies = iter(agent)
    for place, node in enumerate(path):
        role, to = graph.nodes[node].role, path[place + 1] if place + 1 < len(path) else None
        if turns and turns[-1].role == role:
            if role == "user":
                turns[-1] = LabelledTurn(role, (CandidateLabel((*turns[-1].candidates[0].nodes, node), to),))
        else:
            nodes = next(replies) if role == "agent" else (node,)
            turns.append(LabelledTurn(role, (CandidateLabel(nodes, None if role == "agent" else to),) if nodes else ()))
    return turns


def heard(graph: Graph, turns: list[LabelledTurn], slips: float, rng: random.Random) -> list[LabelledTurn]:
    """``turns`` as the simulated labeller labels them."""
    return [_slip(graph, turn, rng) if turn.candidates and rng.random() < slips else turn for turn in turns]


def _slip(graph: Graph, turn: LabelledTurn, rng: random.Random) -> LabelledTurn:
    right = turn.candidates[0]
    ways = [edge.to for edge in graph.nodes[right.nodes[-1]].next if edge.to != right.to] if turn.role == "user" else []
    others = [node.id for node in graph.spec.nodes if node.role == turn.role and node.id not in right.nodes]
    wrong = CandidateLabel(right.nodes, rng.choice(ways)) if ways else CandidateLabel((rng.choice(others),)) if others else right
    return LabelledTurn(turn.role, (wrong, right) if rng.random() < SECOND_RIGHT else (wrong,))


def counts(graph: Graph, slips: float, seed: int) -> Iterator[tuple[str, bool]]:
    """For each conversation, the injected violation and whether alignment found it conformant."""
    rng = random.Random(seed)
    for path in paths(graph)[:READ]:
        values = fit_values_to_path(graph, path, sample_values(graph.spec.variables, rng, unseen=False), rng)
        turns = [turn.nodes for turn in prescribed_turns(graph, path)]
        damaged = {name: FAULTS[name](graph, path, turns, rng) for name in WITHIN_A_CHAT}
        for name, agent in {"none": turns, **damaged}.items():
            if agent is not None and len(agent) == len(turns):
                listened = heard(graph, said(graph, path, agent), slips, rng)
                if name == "none":
                    yield "first guess alone", all(turn.candidates[0].nodes in turns for turn in listened if turn.role == "agent")
                read = align(graph, values, listened)
                yield name, replay(graph, read.path, values, read.labels).conformant


def measure() -> dict[str, float]:
    """Prints the table, and returns the figures for each rate of labelling errors."""
    sys.stdout.write("\n| slips of the labeller | violations found | false alarms | … without decoding |\n|---|---|---|---|\n")
    figures = {}
    for slips in SLIPS:
        graphs = [example(name) for name in EXAMPLES]
        seen = Counter(found for seed, graph in enumerate(graphs) for found in counts(graph, slips, seed))
        injected = sum(seen[name, passed] for name in WITHIN_A_CHAT for passed in (True, False))
        recall = sum(seen[name, False] for name in WITHIN_A_CHAT) / injected
        alarms, raw = (seen[name, False] / (seen[name, True] + seen[name, False]) for name in ("none", "first guess alone"))
        sys.stdout.write(f"| {slips:.0%} | {recall:.1%} of {injected:,} | {alarms:.1%} | {raw:.1%} |\n")
        name = f"{slips:.0%}".removesuffix("%")
        figures |= {f"decoded_recall_{name}": round(recall, 4), f"decoded_false_alarms_{name}": round(alarms, 4)}
    return figures


if __name__ == "__main__":
    sys.stdout.write(f"{measure()}\n")
