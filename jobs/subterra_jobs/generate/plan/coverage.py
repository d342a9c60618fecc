"""Coverage of a dataset: training counts per node, edge, pair of consecutive edges, terminal and value. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from subterra_api.v1alpha1.procedure import Variable
from subterra_core.procedure.graph import Graph
from subterra_jobs.generate.plan.anywhere_plan import without_leaving_pairs
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec
from subterra_jobs.generate.plan.path_space import NodeNgram, PathSpace, ngrams_of
from subterra_jobs.generate.plan.plan import FLOOR, terminal_shares
from subterra_jobs.generate.plan.question_plan import LEAST, question_counts

NO_PATH, TOO_FEW = "no path can take it", "too few conversations; raise generation.conversations"
_SHOWN_QUESTIONS = 5
_KINDS = {1: "node", 2: "edge", 3: "pair of edges"}


@dataclass(frozen=True)
class Coverage:
    """Training counts of all nodes and edges, and of the pairs of edges that a path can take, including zero counts."""

    conversations: int
    counts: dict[NodeNgram, int]
    impossible: frozenset[NodeNgram]
    """Nodes and edges that no path can take."""
    terminals: dict[str, int]
    shares: dict[str, float]
    """Minimum share of each terminal."""
    values: dict[str, dict[str, Any]]
    questions: dict[str, int] = field(default_factory=dict)
    """In how many conversations each question is asked in between; empty for a procedure without questions."""

    def covered(self, length: int) -> tuple[int, int]:
        """The number of n-grams of ``length`` nodes with at least `FLOOR` training conversations, and the total number."""
        counts = [count for ngram, count in self.counts.items() if len(ngram) == length]
        return sum(count >= FLOOR for count in counts), len(counts)

    @property
    def rarest(self) -> tuple[str, float]:
        """The terminal with the fewest conversations, and its share of them."""
        terminal = min(self.terminals, key=lambda terminal: (self.terminals[terminal], terminal))
        return terminal, self.terminals[terminal] / max(1, self.conversations)

    @property
    def untrained(self) -> dict[NodeNgram, str]:
        """What no training conversation has, and why."""
        missing = sorted(ngram for ngram, count in self.counts.items() if not count)
        return {ngram: NO_PATH if ngram in self.impossible else TOO_FEW for ngram in missing}

    @property
    def message(self) -> str:
        """The coverage in one line."""
        (edges, all_edges), (pairs, all_pairs) = self.covered(2), self.covered(3)
        terminal, share = self.rarest
        parts = (
            f"{edges} of {all_edges} edges and {pairs} of {all_pairs} pairs of consecutive edges at least {FLOOR} times, "
            f"rarest ending {terminal} {share:.1%}",
            self.gaps,
        )
        return ", ".join(filter(None, parts))

    @property
    def gaps(self) -> str:
        """What is not trained and why, for example ``not trained: edge a → b and 2 more (no path can take it)``; else empty."""
        grouped: dict[tuple[int, str], list[NodeNgram]] = {}
        for ngram, why in self.untrained.items():
            grouped.setdefault((len(ngram), why), []).append(ngram)
        texts = [f"{_named(ngrams)} ({why})" for (_, why), ngrams in sorted(grouped.items())]
        return ", ".join(filter(None, (f"not trained: {', '.join(texts)}" if texts else "", self._rare_questions)))

    @property
    def rare_questions(self) -> dict[str, int]:
        """Questions that are asked too rarely to be learned, with the number of conversations."""
        return {name: count for name, count in self.questions.items() if count < LEAST}

    @property
    def _rare_questions(self) -> str:
        rare = self.rare_questions
        shown = ", ".join(f"{name} in {count}" for name, count in [*rare.items()][:_SHOWN_QUESTIONS])
        more = f" and {len(rare) - _SHOWN_QUESTIONS} more" if len(rare) > _SHOWN_QUESTIONS else ""
        return f"questions asked in fewer than {LEAST} conversations: {shown}{more} ({TOO_FEW})" if rare else ""

    def to_dict(self) -> dict[str, Any]:
        """The content of ``coverage.json``."""
        ordered = sorted(self.counts)
        gaps = [{"nodes": ngram, "why": why} for ngram, why in self.untrained.items()]
        return {
            "floor": FLOOR,
            "nodes": {ngram[0]: self.counts[ngram] for ngram in ordered if len(ngram) == 1},
            "edges": [self._row(ngram) for ngram in ordered if len(ngram) == 2],
            "pairs": [self._row(ngram) for ngram in ordered if len(ngram) == 3],
            "terminals": {
                terminal: {"count": count, "leastShare": self.shares[terminal]} for terminal, count in self.terminals.items()
            },
            "variables": self.values,
            **({"questions": self.questions} if self.questions else {}),
            **({"untrained": gaps} if gaps else {}),
        }

    def _row(self, ngram: NodeNgram) -> dict[str, Any]:
        row = {"nodes": ngram, "count": self.counts[ngram]}
        return row | ({"impossible": True} if ngram in self.impossible else {})


def measure_coverage(graph: Graph, specs: Iterable[ConversationSpec]) -> Coverage:
    """The coverage of a dataset; held-out conversations do not count."""
    training = [spec for spec in specs if spec.is_training]
    every = Counter(ngram for spec in training for ngram in ngrams_of(spec.path))
    counts = Counter({ngram: every[ngram] for ngram in without_leaving_pairs(graph, every)})
    nodes = graph.spec.nodes
    declared = {(node.id,) for node in nodes} | {(node.id, edge.to) for node in nodes for edge in node.next}
    possible = {*without_leaving_pairs(graph, PathSpace(graph).ngrams), *counts}
    terminals = Counter(spec.path[-1] for spec in training)
    return Coverage(
        conversations=len(training),
        counts={ngram: counts[ngram] for ngram in declared | possible},
        impossible=frozenset(declared - possible),
        terminals={node.id: terminals[node.id] for node in nodes if not node.next},
        shares=terminal_shares(graph.spec),
        values={variable.name: _value_counts(variable, training) for variable in graph.spec.variables},
        questions=question_counts(graph, training),
    )


def _named(ngrams: Sequence[NodeNgram]) -> str:
    """The first n-gram, and how many more there are."""
    more = f" and {len(ngrams) - 1} more" if len(ngrams) > 1 else ""
    return f"{_KINDS[len(ngrams[0])]} {' → '.join(ngrams[0])}{more}"


def _value_counts(variable: Variable, specs: Sequence[ConversationSpec]) -> dict[str, Any]:
    """The number of distinct values and, for a closed list, the count of each."""
    counts = Counter(spec.values[variable.name] for spec in specs)
    if variable.type == "string" and not variable.open:
        return {"distinct": len(counts), "counts": {value: counts[value] for value in variable.values}}
    return {"distinct": len(counts)}
