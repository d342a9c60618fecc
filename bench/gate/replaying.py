"""Does replay find violations injected into faultless conversations, and accept the others?

Replay gets the right labels here, as from a perfect labeller; the accuracy of the rule labeller is measured separately.
"""

import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from bench.generation.planning import EXAMPLES, example, settings

from subterra_core.procedure.graph import Graph, Path
from subterra_jobs.dialogue.sampling import fit_values_to_path, sample_values
from subterra_jobs.dialogue.scripted import chat_messages, scripted_utterances
from subterra_jobs.evaluate.judge.conformance import Nodes, prescribed_turns, replay
from subterra_jobs.evaluate.judge.rule_labeller import Label, RuleLabeller
from subterra_jobs.generate.plan.plan import plan_conversations

CONVERSATIONS = 1000
WRITTEN = 100
"""Conversations of each example that the labeller reads."""
Turns = list[Nodes]
Fault = Callable[[Graph, Path, Turns, random.Random], Turns | None]
"""Returns the agent's turns with a violation, or `None` where the path allows none of this kind."""


def illegal(graph: Graph, path: Path, turns: Turns, rng: random.Random) -> Turns | None:
    """A step that no edge leads to."""
    at = rng.randrange(len(turns))
    place = prescribed_turns(graph, path)[at].indexes[0]
    legal = {edge.to for edge in graph.nodes[path[place - 1]].next} if place else {path[0]}
    others = [node.id for node in graph.spec.nodes if node.role == "agent" and node.id not in legal]
    return [*turns[:at], (rng.choice(others),), *turns[at + 1 :]] if others else None


def skipped(graph: Graph, path: Path, turns: Turns, rng: random.Random) -> Turns | None:
    """A step omitted: one of several in a reply, or the whole reply."""
    at = rng.randrange(len(turns))
    nodes = list(turns[at])
    del nodes[rng.randrange(len(nodes))]
    return [*turns[:at], *([tuple(nodes)] if nodes else []), *turns[at + 1 :]]


def wrong_branch(graph: Graph, path: Path, turns: Turns, rng: random.Random) -> Turns | None:
    """A step of another branch than the one that customer, fact or history decided."""
    occasions = [
        (at, cut, edge.to)
        for at, turn in enumerate(prescribed_turns(graph, path))
        for cut, place in enumerate(turn.indexes)
        if place
        for edge in graph.nodes[path[place - 1]].next
        if edge.to != path[place] and graph.nodes[edge.to].role == "agent"
    ]
    if not occasions:
        return None
    at, cut, other = rng.choice(occasions)
    return [*turns[:at], (*turns[at][:cut], other), *turns[at + 1 :]]


def too_often(graph: Graph, path: Path, turns: Turns, rng: random.Random) -> Turns | None:
    """A step repeated beyond its maxVisits (or once, without one)."""
    at = rng.randrange(len(turns))
    if not graph.nodes[turns[at][-1]].next:
        return None
    bound = max(graph.nodes[node].max_visits or 1 for node in turns[at])
    return [*turns[:at], *[turns[at]] * (bound + 1), *turns[at + 1 :]]


def wrong_end(graph: Graph, path: Path, turns: Turns, rng: random.Random) -> Turns | None:
    """A terminal other than the path's."""
    ends = [node.id for node in graph.spec.nodes if node.role == "agent" and not node.next and node.id != path[-1]]
    if graph.nodes[path[-1]].role != "agent" or not ends:
        return None
    return [*turns[:-1], (*turns[-1][:-1], rng.choice(ends))]


FAULTS: dict[str, Fault] = {
    "illegal transition": illegal,
    "skipped step": skipped,
    "wrong branch": wrong_branch,
    "beyond maxVisits": too_often,
    "wrong terminal": wrong_end,
}


def paths(graph: Graph) -> list[Path]:
    """The paths of a plan that contain an agent's turn."""
    return [
        planned.path for planned in plan_conversations(graph.spec, settings(CONVERSATIONS)) if prescribed_turns(graph, planned.path)
    ]


def conformant(graph: Graph, path: Path, turns: Turns) -> bool:
    """Whether replay accepts the turns."""
    return replay(graph, path, {}, [[Label(nodes, ())] for nodes in turns]).conformant


def counts(graph: Graph, seed: int) -> Iterator[tuple[str, bool]]:
    """For each conversation, the injected violation and whether replay found it conformant."""
    rng = random.Random(seed)
    for path in paths(graph):
        turns = [turn.nodes for turn in prescribed_turns(graph, path)]
        yield "none", conformant(graph, path, turns)
        for name, fault in FAULTS.items():
            if (broken := fault(graph, path, turns, rng)) is not None:
                yield name, conformant(graph, path, broken)


def labelled(graph: Graph, seed: int) -> tuple[int, int]:
    """Number of scripted replies that the rule labeller labels correctly, and number of all."""
    rng, labeller = random.Random(seed), RuleLabeller(graph)
    right = total = 0
    for path in paths(graph)[:WRITTEN]:
        values = fit_values_to_path(graph, path, sample_values(graph.spec.variables, rng, unseen=False), rng)
        chat = chat_messages("", None, scripted_utterances(graph, path, values, rng))[1:]
        replies = [message["content"] for message in chat if message["role"] == "assistant"]
        for turn, reply in zip(prescribed_turns(graph, path), replies, strict=True):
            right += any(label.nodes == turn.nodes for label in labeller.label(reply))
            total += 1
    return right, total


def measure() -> dict[str, Any]:
    """Prints the table, and returns the figures."""
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
