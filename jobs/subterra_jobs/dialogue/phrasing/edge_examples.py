"""What the author's examples say about an edge: how its values are given, and what tells it from its siblings."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.anywhere import anywhere_texts
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.template import split, variables_of
from subterra_jobs.dialogue.phrasing.fragments import Fragment, FragmentReader
from subterra_jobs.dialogue.phrasing.phrasebook import SpeechAct
from subterra_jobs.dialogue.phrasing.speech_acts import branch_of
from subterra_jobs.dialogue.scripted import example_templates

_ALONE = re.compile(r"\W*")
_ENOUGH = 2
"""Examples that show a habit of the author's customers."""


@dataclass(frozen=True)
class EdgeExamples:
    """The examples of one edge, taken apart."""

    examples: tuple[str, ...]
    act: SpeechAct | None
    fragments: Mapping[str, tuple[Fragment, ...]]
    """Clauses with one variable, by variable."""
    siblings: frozenset[frozenset[str]]
    """Sets of variables that examples of other branches mention: such a set does not tell this branch from these."""
    bare: frozenset[str]
    """Variables whose value alone is an example."""
    something: str | None
    """The variable that follows "something" or "anything"."""
    polite: bool
    """True if customers say please here."""
    doubles: bool
    """True if all examples mean the same, so that two of them can be said after each other."""

    def tells_branch(self, variables: frozenset[str]) -> bool:
        """True if a line that gives these variables, however worded, belongs to this branch alone."""
        return variables not in self.siblings


def read_edge(graph: Graph, node: str, taken: str | None, act: SpeechAct | None, reader: FragmentReader) -> EdgeExamples:
    """The examples at `node` for the edge to `taken`. Raises InvalidInputError where there are none."""
    examples = example_templates(graph, node, taken)
    edge, decides = graph.edge(node, taken), graph.nodes[node].decided_by == "customer"
    others = [other for other in graph.nodes[node].next if edge is not None and decides and branch_of(other) != branch_of(edge)]
    names = dict.fromkeys(name for text in examples for name in variables_of(text))
    return EdgeExamples(
        examples=examples,
        act=act,
        fragments=reader.read(examples, names),
        siblings=frozenset(frozenset(variables_of(text)) for other in others for text in other.examples),
        bare=frozenset(name for name in names if any(_is_bare(text, name) for text in examples)),
        something=next((name for name in names if _follows(reader.takes_value, name, examples)), None),
        polite=sum(reader.please in text.lower() for text in examples) >= _ENOUGH,
        doubles=bool(others) and edge is not None and len(edge.examples) > 1,
    )


def wordings_of(spec: ProcedureSpec) -> Iterable[str]:
    """All that the author wrote in the procedure's language."""
    for node in spec.nodes:
        yield from (node.prompt, *node.examples)
        yield from (text for edge in node.next for text in (edge.when or "", *edge.examples))
    yield from anywhere_texts(spec)


def _is_bare(text: str, name: str) -> bool:
    literals, names = split(text)[::2], split(text)[1::2]
    return names == [name] and all(_ALONE.fullmatch(literal) for literal in literals)


def _follows(words: Iterable[str], name: str, examples: tuple[str, ...]) -> bool:
    before = re.compile(rf"\b(?:{'|'.join(map(re.escape, words))}) \{{\{{\s*{name}\s*\}}\}}", re.IGNORECASE)
    return sum(bool(before.search(text)) for text in examples) >= _ENOUGH
