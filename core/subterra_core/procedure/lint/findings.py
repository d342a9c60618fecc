"""Findings of lint, and helpers to create and locate them."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Literal

from subterra_api.v1alpha1.procedure import AnywhereEdge, Edge, Node, ProcedureSpec, Question
from subterra_core.procedure.otherwise import question_name

_LEAST_LETTERS = 4
"""Names with fewer are not corrected: nearly every one is like another."""
EXACT_COUNT_LIMIT = 10**12
"""Larger counts are reported by their order of magnitude."""


@dataclass(frozen=True)
class Finding:
    """A problem with its fix. `field` is a path such as `spec.nodes[3].next[1].when`, `where` names the object for people."""

    severity: Literal["error", "warning"]
    where: str
    field: str
    problem: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}; {self.fix}"


@dataclass(frozen=True)
class Analysis:
    """Findings and counts of a procedure. Paths and turns are counted only if there is no error."""

    findings: tuple[Finding, ...]
    nodes: int
    edges: int
    hubs: int
    terminals: int
    paths: int = 0
    truncated: bool = False
    min_turns: int | None = None
    max_turns: int | None = None
    """Also `None` if not all paths could be counted: longer ones may exist."""
    anywhere: int = 0
    """Anywhere edges; no path that takes one is counted."""
    leaving_nodes: int = 0
    """Nodes of the customer at which some anywhere edge is open."""
    questions: int = 0
    """Questions that the customer may ask in between; they are on no path."""
    too_large: bool = False
    """Whether the procedure was not checked because of its size."""

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity == "warning")

    @property
    def path_count(self) -> str:
        """Number of paths, or "more than" a number."""
        if self.paths >= EXACT_COUNT_LIMIT:
            return f"more than 10^{Decimal(self.paths - 1).adjusted()}"
        return f"more than {self.paths}" if self.truncated else str(self.paths)


def error(where: str, field: str, problem: str, fix: str) -> Finding:
    """A finding that prevents compilation."""
    return Finding("error", where, field, problem, fix)


def warning(where: str, field: str, problem: str, fix: str) -> Finding:
    """A finding about a probable mistake."""
    return Finding("warning", where, field, problem, fix)


def did_you_mean(name: str, known: Iterable[str], fix: str) -> str:
    """The fix, and behind it the known name, if there is one, from which `name` differs by a letter, case or hyphens.

    Two names that differ by a letter have a spelling without one in common. Comparing each with each, as difflib does, takes a
    second for a name among 500, and there may be a thousand wrong ones.
    """
    near = _spellings(tuple(sorted(known)))
    meant = next((near[each] for each in _spelt(name) if each in near), None)
    return fix if meant is None else f"{fix}; did you mean {meant}?"


@lru_cache(maxsize=2)
def _spellings(names: Sequence[str]) -> Mapping[str, str]:
    """The name behind each spelling; whole names go before shortened ones."""
    spelt = [(name, [*_spelt(name)]) for name in names]
    return {each: name for name, each_of in spelt for each in each_of[1:]} | {each_of[0]: name for name, each_of in spelt}


def _spelt(name: str) -> Iterator[str]:
    """The name's letters, then, unless there are few, the same without each of them; names that differ by a digit are no slip."""
    letters = re.sub(r"[\W_]", "", name.casefold())
    yield letters
    if len(letters) >= _LEAST_LETTERS:
        yield from (letters[:place] + letters[place + 1 :] for place, one in enumerate(letters) if one.isalpha())


def located_nodes(spec: ProcedureSpec) -> Iterator[tuple[Node, str, str]]:
    """Nodes with their name for people and their field path."""
    for index, node in enumerate(spec.nodes):
        yield node, f"node {node.id}", f"spec.nodes[{index}]"


def located_edges(node: Node, field: str) -> Iterator[tuple[Edge, str, str]]:
    """Edges of `node` at the path `field`, with their name for people and their field path."""
    for index, edge in enumerate(node.next):
        yield edge, f"edge {node.id} → {edge.to}", f"{field}.next[{index}]"


def located_anywhere(spec: ProcedureSpec) -> Iterator[tuple[AnywhereEdge, str, str]]:
    """Anywhere edges with their name for people and their field path."""
    for index, edge in enumerate(spec.anywhere):
        yield edge, f"anywhere edge to {edge.to}", f"spec.anywhere[{index}]"


def located_questions(spec: ProcedureSpec) -> Iterator[tuple[Question, str, str]]:
    """Questions with their name for people and their field path."""
    for index, each in enumerate(spec.questions):
        yield each, f"question {question_name(each)}", f"spec.questions[{index}]"


LocatedText = tuple[str, str, str]
"""Name for people, field path and text."""


def located_utterances(spec: ProcedureSpec) -> Iterator[LocatedText]:
    """Openers, prompts and examples: what is said in the flowchart, or describes it."""
    for index, text in enumerate(spec.openers):
        yield "spec.openers", f"spec.openers[{index}]", text
    for node, where, field in located_nodes(spec):
        yield where, f"{field}.prompt", node.prompt
        for index, text in enumerate(node.examples):
            yield where, f"{field}.examples[{index}]", text
        for edge, name, path in located_edges(node, field):
            for index, text in enumerate(edge.examples):
                yield name, f"{path}.examples[{index}]", text
    for anywhere, name, path in located_anywhere(spec):
        for index, text in enumerate(anywhere.examples):
            yield name, f"{path}.examples[{index}]", text


def located_question_texts(spec: ProcedureSpec) -> Iterator[LocatedText]:
    """What is said when the customer asks a question: examples and answer."""
    for each, name, path in located_questions(spec):
        for index, text in enumerate(each.examples):
            yield name, f"{path}.examples[{index}]", text
        yield name, f"{path}.answer", each.answer


def located_conditions(spec: ProcedureSpec) -> Iterator[LocatedText]:
    """The edges' conditions."""
    for node, _, field in located_nodes(spec):
        for edge, name, path in located_edges(node, field):
            yield name, f"{path}.when", edge.when or ""
    for anywhere, name, path in located_anywhere(spec):
        yield name, f"{path}.when", anywhere.when


def located_otherwise(spec: ProcedureSpec) -> Iterator[LocatedText]:
    """What the agent says where the flowchart has no words, as the author wrote it."""
    otherwise = spec.otherwise
    kinds = {"offTopic": otherwise.off_topic, "unknownValue": otherwise.unknown_value, "afterEnd": otherwise.after_end}
    kinds |= {"unknownQuestion": otherwise.unknown_question}
    for kind, texts in kinds.items():
        for index, text in enumerate(texts):
            yield f"spec.otherwise.{kind}", f"spec.otherwise.{kind}[{index}]", text


def located_tool_texts(spec: ProcedureSpec) -> Iterator[LocatedText]:
    """What tools and their parameters mean."""
    for index, tool in enumerate(spec.tools):
        where, path = f"tool {tool.name}", f"spec.tools[{index}]"
        yield where, f"{path}.description", tool.description
        for place, parameter in enumerate(tool.parameters):
            yield where, f"{path}.parameters[{place}].description", parameter.description


def located_arguments(spec: ProcedureSpec) -> Iterator[LocatedText]:
    """What tools are called with."""
    for node, where, field in located_nodes(spec):
        for place, argument in enumerate(node.arguments):
            yield where, f"{field}.arguments[{place}].value", argument.value


def located_variable_texts(spec: ProcedureSpec) -> Iterator[LocatedText]:
    """Descriptions and values of variables."""
    for index, variable in enumerate(spec.variables):
        yield f"variable {variable.name}", f"spec.variables[{index}].description", variable.description
        for place, value in enumerate(variable.values):
            yield f"variable {variable.name}", f"spec.variables[{index}].values[{place}]", value


def located_descriptions(spec: ProcedureSpec) -> Iterator[LocatedText]:
    """What teachers read besides the flowchart."""
    for index, fact in enumerate(spec.knowledge):
        yield f"fact {fact.id}", f"spec.knowledge[{index}].text", fact.text
    for index, persona in enumerate(spec.personas):
        yield f"persona {persona.name}", f"spec.personas[{index}].description", persona.description


def speech(node: Node) -> tuple[str, ...]:
    """Prompt and examples of a node and its edges."""
    return (node.prompt, *node.examples, *(text for edge in node.next for text in edge.examples))
