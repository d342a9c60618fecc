"""``python -m bench.labeller.states``: how often the state of a conversation is right, unknown or wrong, and what it costs.

After each reply of the agent the node is asked for, and after the last one the outcome. Customers speak the author's phrasings, or
those of the phrases file of ``bench.wordings_shift``. Agents speak the author's phrasings, or words of their own: then every turn
is read by similarity alone, without the phrasing that it was made from. Prints a table and one line of JSON.
"""

import argparse
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.generation.planning import EXAMPLES, example
from bench.labeller.__main__ import Known, conversations
from bench.wordings_shift.__main__ import PHRASES
from bench.wordings_shift.phrases import load_phrases, rephrase_procedure

from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.similarity.sentence_encoder import MODEL, SentenceEncoder
from subterra_jobs.evaluate.analysis.served.state.conversation_state import ConversationState, StateReader
from subterra_jobs.evaluate.analysis.served.state.state_server import WARM_UP
from subterra_jobs.evaluate.judge.alignment import LabelledTurn
from subterra_jobs.evaluate.judge.free_words.embedding_labeller import EmbeddingLabeller
from subterra_jobs.evaluate.judge.rule_labeller import Label

HEAD = """\
| procedure | customer | agent | n | node right | unknown | wrong | outcome right | unknown | wrong | CPU ms: median, 95 %, most |
|---|---|---|---|---|---|---|---|---|---|---|
"""
Hits = Counter[tuple[str, str]]


class Forgetful(SentenceEncoder):
    """Remembers the vectors of one conversation's turns, as a pod does that has seen none of its earlier ones."""

    def forget(self) -> None:
        """Forgets all texts; examples have their vectors elsewhere."""
        self._vectors.clear()


class HeldOut(EmbeddingLabeller):
    """Labels without the phrasings that turns were made from, when their customer has these values."""

    values: dict[str, str] = {}

    def turns(self, chat: Any, values: Any, left_out: Any = None) -> list[LabelledTurn]:
        """See `EmbeddingLabeller`."""
        return super().turns(chat, values, self.sources(chat, self.values))


class NoRules:
    """Recognizes nothing by its wording."""

    def label(self, reply: str) -> list[Label]:
        """See `RuleLabeller`."""
        return []


def reader_of(graph: Graph, labeller: EmbeddingLabeller) -> StateReader:
    """A reader that has labelled something."""
    reader = StateReader(graph, labeller)
    reader.read(WARM_UP)
    if isinstance(labeller, HeldOut):
        turns: Any = reader._reader
        turns._rules, turns._customers = NoRules(), []
    return reader


def asked(known: Known) -> Iterator[tuple[list[dict[str, str]], str, bool]]:
    """The conversation up to each reply, the node that the reply came to, and whether it is the last."""
    replies = [index for index, message in enumerate(known.chat) if message["role"] == "assistant"]
    for index in replies:
        label = known.turns[index]
        assert label is not None, "openers are the customer's"
        yield [dict(message) for message in known.chat[: index + 1]], label.nodes[-1], index == replies[-1]


def measure(graph: Graph, known: Sequence[Known], labeller: EmbeddingLabeller, encoder: Forgetful) -> tuple[Hits, list[float]]:
    """What was right, unknown and wrong, and the processor seconds of each answer."""
    reader, hits, seconds = reader_of(graph, labeller), Hits(), list[float]()
    for each in known:
        if isinstance(labeller, HeldOut):
            labeller.values = each.values
        for messages, node, last in asked(each):
            encoder.forget()
            begin = time.process_time()
            state = reader.read(messages)
            seconds.append(time.process_time() - begin)
            hits["node", _verdict(state, state.node == node)] += 1
            if last:
                hits["outcome", _verdict(state, state.outcome == graph.nodes[node].outcome)] += 1
    return hits, seconds


def _verdict(state: ConversationState, right: bool) -> str:
    return "unknown" if state.node is None else "right" if right else "wrong"


def _row(names: Sequence[str], hits: Hits, seconds: Sequence[float]) -> str:
    shares = [str(hits[what, verdict]) for what in ("node", "outcome") for verdict in ("right", "unknown", "wrong")]
    ordered = sorted(seconds)
    times = [f"{1000 * ordered[min(len(ordered) - 1, int(len(ordered) * share))]:.0f}" for share in (0.5, 0.95, 1)]
    return f"| {' | '.join([*names, *shares, ', '.join(times)])} |\n"


def main() -> int:
    """0 when measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.labeller.states", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--models", type=Path, default=Path("out/models"), help=f"folder with {MODEL} (default: %(default)s)")
    parser.add_argument("--conversations", type=int, default=60, help="conversations of each kind (default: %(default)s)")
    arguments = parser.parse_args()
    encoder, begin = Forgetful(arguments.models / MODEL), time.process_time()
    graphs = {name: example(name) for name in EXAMPLES}
    reader_of(graphs["travel"], EmbeddingLabeller(graphs["travel"], encoder))
    start = time.process_time() - begin
    unseen = Graph(rephrase_procedure(graphs["travel"].spec, load_phrases(PHRASES)))
    sys.stdout.write(HEAD)
    for name, customer, words in [*((name, "the author's", graph) for name, graph in graphs.items()), ("travel", "unseen", unseen)]:
        known = [*conversations(graphs[name], words, arguments.conversations)]
        for agent, kind in (("the author's", EmbeddingLabeller), ("its own", HeldOut)):
            hits, seconds = measure(graphs[name], known, kind(graphs[name], encoder), encoder)
            sys.stdout.write(_row([name, customer, agent, str(len(known))], hits, seconds))
            sys.stdout.flush()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(json.dumps({"start_cpu_seconds": round(start, 1), "memory_mib": round(memory)}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
