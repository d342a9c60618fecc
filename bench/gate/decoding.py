"""Does decoding mend a labeller's slips without hiding what the agent did wrong?

A labeller is made up: with some chance its first guess at a turn is another step of the same speaker, or another way on, and then
the right one comes second in seven of ten cases. The way that the customer went is not told; decoding has to find it.
"""

import random
import sys
from collections import Counter
from collections.abc import Iterator

from bench.gate.replaying import FAULTS, Turns, paths
from bench.generation.planning import EXAMPLES, example

from subterra_core.procedure.graph import Graph, Path
from subterra_jobs.dialogue.sampling import fitting, sample_values
from subterra_jobs.evaluate.judge.alignment import Guess, Heard, decode
from subterra_jobs.evaluate.judge.conformance import prescribe, replay

SLIPS = (0.0, 0.02, 0.05, 0.1)
SECOND_RIGHT = 0.7
READ = 300
"""Conversations of each example."""
WITHIN_A_CHAT = ("illegal transition", "skipped step", "wrong branch", "wrong terminal")
"""Violations after which speakers still take turns."""


def said(graph: Graph, path: Path, agent: Turns) -> list[Heard]:
    """A conversation as it was: the customer's turns on a path, and what the agent said in its turns."""
    turns: list[Heard] = []
    replies = iter(agent)
    for place, node in enumerate(path):
        role, to = graph.nodes[node].role, path[place + 1] if place + 1 < len(path) else None
        if turns and turns[-1].role == role:
            if role == "user":
                turns[-1] = Heard(role, (Guess((*turns[-1].guesses[0].nodes, node), to),))
        else:
            nodes = next(replies) if role == "agent" else (node,)
            turns.append(Heard(role, (Guess(nodes, None if role == "agent" else to),) if nodes else ()))
    return turns


def heard(graph: Graph, turns: list[Heard], slips: float, rng: random.Random) -> list[Heard]:
    """As the made-up labeller hears it."""
    return [_slip(graph, turn, rng) if turn.guesses and rng.random() < slips else turn for turn in turns]


def _slip(graph: Graph, turn: Heard, rng: random.Random) -> Heard:
    right = turn.guesses[0]
    ways = [edge.to for edge in graph.nodes[right.nodes[-1]].next if edge.to != right.to] if turn.role == "user" else []
    others = [node.id for node in graph.spec.nodes if node.role == turn.role and node.id not in right.nodes]
    wrong = Guess(right.nodes, rng.choice(ways)) if ways else Guess((rng.choice(others),)) if others else right
    return Heard(turn.role, (wrong, right) if rng.random() < SECOND_RIGHT else (wrong,))


def counts(graph: Graph, slips: float, seed: int) -> Iterator[tuple[str, bool]]:
    """For each conversation, what was done to it and whether it was found to follow the procedure."""
    rng = random.Random(seed)
    for path in paths(graph)[:READ]:
        values = fitting(graph, path, sample_values(graph.spec.variables, rng, unseen=False), rng)
        turns = [turn.nodes for turn in prescribe(graph, path)]
        damaged = {name: FAULTS[name](graph, path, turns, rng) for name in WITHIN_A_CHAT}
        for name, agent in {"none": turns, **damaged}.items():
            if agent is not None and len(agent) == len(turns):
                listened = heard(graph, said(graph, path, agent), slips, rng)
                if name == "none":
                    yield "first guess alone", all(turn.guesses[0].nodes in turns for turn in listened if turn.role == "agent")
                read = decode(graph, values, listened)
                yield name, replay(graph, read.path, values, read.labels).conformant


def figures() -> dict[str, float]:
    """With and without slips; writes the table on the way."""
    sys.stdout.write("\n| slips of the labeller | violations found | false alarms | … without decoding |\n|---|---|---|---|\n")
    told = {}
    for slips in SLIPS:
        graphs = [example(name) for name in EXAMPLES]
        seen = Counter(found for seed, graph in enumerate(graphs) for found in counts(graph, slips, seed))
        injected = sum(seen[name, passed] for name in WITHIN_A_CHAT for passed in (True, False))
        recall = sum(seen[name, False] for name in WITHIN_A_CHAT) / injected
        alarms, raw = (seen[name, False] / (seen[name, True] + seen[name, False]) for name in ("none", "first guess alone"))
        sys.stdout.write(f"| {slips:.0%} | {recall:.1%} of {injected:,} | {alarms:.1%} | {raw:.1%} |\n")
        name = f"{slips:.0%}".removesuffix("%")
        told |= {f"decoded_recall_{name}": round(recall, 4), f"decoded_false_alarms_{name}": round(alarms, 4)}
    return told


if __name__ == "__main__":
    sys.stdout.write(f"{figures()}\n")
