"""``python -m bench.labeller``: how often sentence embeddings label free words correctly, and in what time.

Words of known steps that the labeller was not shown: every turn's own phrasing is left out while the turn is labelled. Customers
speak the author's phrasings, or those of the phrases file of ``bench.wordings_shift``. Prints a table and one line of JSON.
"""

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.generation.planning import EXAMPLES, example
from bench.wordings_shift.__main__ import PHRASES
from bench.wordings_shift.phrases import load_phrases, rephrase_procedure

from subterra_api.job_contract.messages import Evaluation
from subterra_api.v1alpha1.compilerun import Provider
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.graph import Path as NodePath
from subterra_core.procedure.template import render
from subterra_jobs.dialogue.scripted import agent_templates, chat_messages, scripted_utterances
from subterra_jobs.dialogue.similarity.closest_examples import CandidateLabel
from subterra_jobs.dialogue.similarity.sentence_encoder import MODEL, SentenceEncoder
from subterra_jobs.evaluate.judge.conformance import prescribed_turns, replay
from subterra_jobs.evaluate.judge.free_words.embedding_labeller import EmbeddingLabeller, Templates
from subterra_jobs.evaluate.judge.rule_labeller import Label
from subterra_jobs.evaluate.scenarios.build import build_scenarios
from subterra_jobs.evaluate.simulate.vllm_client import ChatMessages

SEED = 7
HEAD = """\
| procedure | customer | n | agent's turns | customer's turns | conversations | turn by turn | wrong steps found | false alarms |
|---|---|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Known:
    """A conversation and its steps; ``turns`` has ``None`` for an opener, and labels of the agent lead nowhere."""

    path: NodePath
    values: dict[str, str]
    chat: ChatMessages
    turns: tuple[CandidateLabel | None, ...]


def conversations(graph: Graph, words: Graph, count: int) -> Iterator[Known]:
    """Scenarios of an evaluation, written with the examples of ``words``."""
    settings = Evaluation(simulator=Provider(), judge=Provider(), scenarios=count, seed=SEED)
    for scenario in build_scenarios(graph, settings):
        rng = random.Random(f"bench/labeller/{scenario.id}")
        utterances = scripted_utterances(words, scenario.path, scenario.values, rng)
        chat = chat_messages("", scenario.opener, utterances)[1:]
        turns = _turns(graph, scenario.path)
        opener = [None] * (len(chat) - len(turns))  # an opener before a customer's first turn is part of it
        yield Known(scenario.path, scenario.values, chat, (*opener, *turns))


def _turns(graph: Graph, path: NodePath) -> list[CandidateLabel]:
    turns: list[CandidateLabel] = []
    for index, node in enumerate(path):
        role, to = graph.nodes[node].role, path[index + 1] if index + 1 < len(path) else None
        joined = (*turns.pop().nodes, node) if turns and graph.nodes[turns[-1].nodes[-1]].role == role else (node,)
        turns.append(CandidateLabel(joined, to if role == "user" else None))
    return turns


def count_hits(graph: Graph, labeller: EmbeddingLabeller, known: Known, rng: random.Random) -> Counter[tuple[str, bool]]:
    """What the labeller gets right in one conversation."""
    sources = labeller.sources(known.chat, known.values)
    alignment = labeller.align(known.chat, known.values, sources)
    hits = Counter({("conversation", alignment.path == known.path): 1})
    turns = labeller.turns(known.chat, known.values, sources)
    for expected, found, turn in zip(known.turns, alignment.turns, turns, strict=True):
        if expected is not None:
            speaker = graph.nodes[expected.nodes[0]].role
            hits["alone", expected in turn.candidates[:1]] += 1
            hits[speaker, found is not None and found.nodes == expected.nodes and expected.to in (None, found.to)] += 1
    labels = [
        labeller.nearest(message["content"], known.values, without)
        for message, without in zip(known.chat, sources, strict=True)
        if message["role"] == "assistant"
    ]
    hits["accepted", replay(graph, known.path, known.values, labels).conformant] += 1
    hits["wrong step", _finds_wrong_step(graph, labeller, known, labels, rng)] += 1
    return hits


def _finds_wrong_step(
    graph: Graph, labeller: EmbeddingLabeller, known: Known, labels: Sequence[Sequence[Label]], rng: random.Random
) -> bool:
    """Whether another step in place of one of the agent's turns is found: half the time one of another branch, if there is one."""
    due = prescribed_turns(graph, known.path)
    at = rng.randrange(len(due))
    before = due[at].indexes[0] - 1
    branches = [edge.to for edge in graph.nodes[known.path[before]].next] if before >= 0 else []
    others = [node.id for node in graph.spec.nodes if node.role == "agent" and node.id not in due[at].nodes]
    siblings = [node for node in branches if node in others]
    template = rng.choice(agent_templates(graph.nodes[rng.choice(siblings if siblings and rng.random() < 0.5 else others)]))
    wrong = labeller.nearest(render(template, known.values), known.values, Templates([template]))
    found = replay(graph, known.path, known.values, [*labels[:at], wrong, *labels[at + 1 :]]).violation
    return found is not None and found.turn == at


def foreign_replies(labellers: dict[str, EmbeddingLabeller]) -> tuple[int, int]:
    """Replies of each example's agent that the other examples' labellers refuse, and all of them."""
    texts = {
        name: [t for node in example(name).spec.nodes if node.role == "agent" for t in agent_templates(node)] for name in labellers
    }
    refused = [
        not labeller.nearest(text, {})
        for name, labeller in labellers.items()
        for other in texts
        if other != name
        for text in texts[other]
    ]
    return sum(refused), len(refused)


def milliseconds_per_turn(folder: Path) -> dict[str, float]:
    """Time to label a turn whose text is new, of an encoder that is loaded."""
    graph = example("travel")
    labeller = EmbeddingLabeller(graph, SentenceEncoder(folder))
    labeller.nearest("Hello", {})
    replies = [m["content"] for known in conversations(graph, graph, 40) for m in known.chat if m["role"] == "assistant"]
    new = [f"{reply} ({number})" for number, reply in enumerate(replies)]
    wall, processor = time.perf_counter(), time.process_time()
    labeller.labels(new, {})
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return {"ms_per_turn": round(1000 * wall / len(new), 1), "cpu_ms_per_turn": round(1000 * processor / len(new), 1)}


def measure(folder: Path, count: int, write: Callable[[str], object]) -> dict[str, float]:
    """Writes the table, and returns the other figures."""
    encoder = SentenceEncoder(folder)
    graphs = {name: example(name) for name in EXAMPLES}
    labellers = {name: EmbeddingLabeller(graph, encoder) for name, graph in graphs.items()}
    unseen = Graph(rephrase_procedure(graphs["travel"].spec, load_phrases(PHRASES)))
    rows = [(name, "the author's", graph, count) for name, graph in graphs.items()]
    write(HEAD)
    for name, phrasings, words, conversation_count in [*rows, ("travel", "unseen", unseen, min(count, 40))]:
        graph, rng, hits = graphs[name], random.Random(SEED), Counter[tuple[str, bool]]()
        for known in conversations(graph, words, conversation_count):
            hits += count_hits(graph, labellers[name], known, rng)
        right = [_share(hits, what) for what in ("agent", "user", "conversation", "alone", "wrong step")]
        alarms = hits["accepted", False] / conversation_count
        write(f"| {name} | {phrasings} | {conversation_count} | {' | '.join(right)} | {alarms:.1%} |\n")
    refused, foreign = foreign_replies(labellers)
    return {"foreign_replies_refused": round(refused / foreign, 3), **milliseconds_per_turn(folder)}


def _share(hits: Counter[tuple[str, bool]], what: str) -> str:
    total = hits[what, True] + hits[what, False]
    return f"{hits[what, True] / total:.1%} of {total:,}"


def main() -> int:
    """0 when measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.labeller", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--models", type=Path, default=Path("out/models"), help=f"folder with {MODEL} (default: %(default)s)")
    parser.add_argument("--conversations", type=int, default=100, help="conversations of each example (default: %(default)s)")
    arguments = parser.parse_args()
    figures = measure(arguments.models / MODEL, arguments.conversations, sys.stdout.write)
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
