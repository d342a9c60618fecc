"""Does replay find violations that were put into dialogues without fault, and does it leave the others alone?

Replay is told the right labels here, as a perfect labeller would; how often the rule labeller gives them is a figure of its own.
"""

import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from bench.generation.planning import EXAMPLES, example, settings

from subterra_core.procedure.graph import Graph, Path
from subterra_jobs.dialogue.sampling import fitting, sample_values
from subterra_jobs.dialogue.scripted import messages, write
from subterra_jobs.evaluate.judge.conformance import Nodes, prescribe, replay
from subterra_jobs.evaluate.judge.rule_labeller import Label, Labeller
from subterra_jobs.generate.plan.plan import plan

CONVERSATIONS = 1000
WRITTEN = 100
"""Conversations of each example that the labeller reads."""
Turns = list[Nodes]
Fault = Callable[[Graph, Path, Turns, random.Random], Turns | None]
"""The agent's turns with a violation in them; none where the path gives no occasion for this kind."""


def illegal(graph: Graph, path: Path, turns: Turns, rng: random.Random) -> Turns | None:
    """A step that no edge leads to."""
    at = rng.randrange(len(turns))
    place = prescribe(graph, path)[at].places[0]
    legal = {edge.to for edge in graph.nodes[path[place - 1]].next} if place else {path[0]}
    others = [node.id for node in graph.spec.nodes if node.role == "agent" and node.id not in legal]
    return [*turns[:at], (rng.choice(others),), *turns[at + 1 :]] if others else None


def skipped(graph: Graph, path: Path, turns: Turns, rng: random.Random) -> Turns | None:
    """A step left out: of a reply that has several, or the whole reply."""
    at = rng.randrange(len(turns))
    nodes = list(turns[at])
    del nodes[rng.randrange(len(nodes))]
    return [*turns[:at], *([tuple(nodes)] if nodes else []), *turns[at + 1 :]]


def wrong_branch(graph: Graph, path: Path, turns: Turns, rng: random.Random) -> Turns | None:
    """What belongs to another branch than the one that customer, fact or history decided."""
    occasions = [
        (at, cut, edge.to)
        for at, turn in enumerate(prescribe(graph, path)) for cut, place in enumerate(turn.places) if place
        for edge in graph.nodes[path[place - 1]].next if edge.to != path[place] and graph.nodes[edge.to].role == "agent"
    ]  # fmt: skip
    if not occasions:
        return None
    at, cut, other = rng.choice(occasions)
    return [*turns[:at], (*turns[at][:cut], other), *turns[at + 1 :]]


def too_often(graph: Graph, path: Path, turns: Turns, rng: random.Random) -> Turns | None:
    """A step said again until it was said more often than its maxVisits, or than once."""
    at = rng.randrange(len(turns))
    if not graph.nodes[turns[at][-1]].next:
        return None
    bound = max(graph.nodes[node].max_visits or 1 for node in turns[at])
    return [*turns[:at], *[turns[at]] * (bound + 1), *turns[at + 1 :]]


def wrong_end(graph: Graph, path: Path, turns: Turns, rng: random.Random) -> Turns | None:
    """Another terminal than the path's."""
    ends = [node.id for node in graph.spec.nodes if node.role == "agent" and not node.next and node.id != path[-1]]
    if graph.nodes[path[-1]].role != "agent" or not ends:
        return None
    return [*turns[:-1], (*turns[-1][:-1], rng.choice(ends))]


FAULTS: dict[str, Fault] = {
    "illegal transition": illegal, "skipped step": skipped, "wrong branch": wrong_branch, "beyond maxVisits": too_often,
    "wrong terminal": wrong_end,
}  # fmt: skip


def paths(graph: Graph) -> list[Path]:
    """The paths of a plan, those with an agent's turn on them."""
    return [slot.path for slot in plan(graph.spec, settings(CONVERSATIONS)) if prescribe(graph, slot.path)]


def conformant(graph: Graph, path: Path, turns: Turns) -> bool:
    """What replay says."""
    return replay(graph, path, {}, [[Label(nodes, ())] for nodes in turns]).conformant


def counts(graph: Graph, seed: int) -> Iterator[tuple[str, bool]]:
    """For each dialogue, what was done to it and whether replay called it conformant."""
    rng = random.Random(seed)
    for path in paths(graph):
        turns = [turn.nodes for turn in prescribe(graph, path)]
        yield "none", conformant(graph, path, turns)
        for name, fault in FAULTS.items():
            if (broken := fault(graph, path, turns, rng)) is not None:
                yield name, conformant(graph, path, broken)


def labelled(graph: Graph, seed: int) -> tuple[int, int]:
    """How many of the agent's replies the rule labeller reads right, and of how many, in scripted conversations."""
    rng, labeller = random.Random(seed), Labeller(graph)
    right = total = 0
    for path in paths(graph)[:WRITTEN]:
        values = fitting(graph, path, sample_values(graph.spec.variables, rng, unseen=False), rng)
        chat = messages("", None, write(graph, path, values, rng))[1:]
        replies = [message["content"] for message in chat if message["role"] == "assistant"]
        for turn, reply in zip(prescribe(graph, path), replies, strict=True):
            right += any(label.nodes == turn.nodes for label in labeller.label(reply))
            total += 1
    return right, total


def figures() -> dict[str, Any]:
    """All of them; writes the table on the way."""
    sys.stdout.write("\n| violation | dialogues | found |\n|---|---|---|\n")
    graphs = [example(name) for name in EXAMPLES]
    seen = Counter(found for seed, graph in enumerate(graphs) for found in counts(graph, seed))
    for name in FAULTS:
        found, total = seen[name, False], seen[name, False] + seen[name, True]
        sys.stdout.write(f"| {name} | {total:,} | {found / total:.2%} |\n")
    injected = sum(count for (name, _), count in seen.items() if name != "none")
    missed = sum(seen[name, True] for name in FAULTS)
    clean = seen["none", True] + seen["none", False]
    sys.stdout.write(f"| none | {clean:,} | {seen['none', False] / clean:.2%} (false alarms) |\n")
    reads = [labelled(graph, seed) for seed, graph in enumerate(graphs)]
    return {
        "replay_recall": round(1 - missed / injected, 4),
        "replay_false_alarms": round(seen["none", False] / clean, 4),
        "labeller_accuracy_on_scripted_replies": round(sum(right for right, _ in reads) / sum(total for _, total in reads), 4),
    }
