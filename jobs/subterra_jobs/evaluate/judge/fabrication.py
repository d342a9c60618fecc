"""Values that an agent asserted, and whether the customer or the context gave them. Pure.

Replies in the procedure's own words assert the values in their places. In other replies any listed value of a closed variable
counts, and any amount or date written as one of the variable's formats, unless the procedure's own texts for the agent have it or
the sentence offers several values to choose from. Bare numbers are not looked for: a step, a time and a phone number look the same.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from subterra_api.unicode_forms import alike
from subterra_api.v1alpha1.procedure import ProcedureSpec, Variable
from subterra_api.v1alpha1.scores import Proportion
from subterra_core.procedure.graph import Graph
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.evaluate.judge.call_conformance import returned_by_turn
from subterra_jobs.evaluate.judge.rule_labeller import Label, Labeller, RuleLabeller
from subterra_jobs.evaluate.judge.value_forms import contains, date_parts, format_pattern, numbers_in, plain_words
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.conversation import Conversation, Simulation

_SENTENCE = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class Assertion:
    """A value in the agent's reply number `turn`, counted from 0; `given` by the customer before it, or by the context."""

    turn: int
    variable: str
    said: str
    given: bool


@dataclass(frozen=True)
class _Known:
    """What the agent could know at one of its turns."""

    values: Mapping[str, str]
    """The scenario's."""
    heard: str
    """The customer's words so far, and the values of the context."""


class ReplyReader:
    """Reads what replies to customers of one procedure say."""

    def __init__(self, graph: Graph, labeller: Labeller | None = None) -> None:
        self._variables = {variable.name: variable for variable in graph.spec.variables}
        self._own_words = "\n".join(_agent_texts(graph.spec))
        self._context = [variable.name for variable in graph.spec.variables if variable.visibility == "context"]
        self._results = {variable.name for variable in graph.spec.variables if variable.visibility == "result"}
        self._formats = {name: _patterns(variable) for name, variable in self._variables.items()}
        self._labeller = labeller or _rules(graph)
        self._labels: dict[tuple[str, ...], Sequence[Label]] = {}

    def label_reply(self, reply: str, scenario: Scenario) -> Sequence[Label]:
        """The likeliest labels of a reply; none when it is not recognized."""
        key = (reply, *scenario.values.values())
        if key not in self._labels:
            self._labels[key] = self._labeller.labels([reply], scenario.values)[0] if self._labeller else []
        return self._labels[key]

    def recognized_share(self, simulations: Sequence[Simulation]) -> float:
        """Share of the agent's replies that are recognized."""
        found = [bool(self.label_reply(reply.text, scenario)) for scenario, played in simulations for reply in played.replies]
        return sum(found) / max(1, len(found))

    def assertions(self, scenario: Scenario, conversation: Conversation) -> tuple[Assertion, ...]:
        """Everything that the agent asserted in a conversation, in order."""
        context = [scenario.values[name] for name in self._context if name in scenario.values]
        values = self._values(scenario)
        heard, found, turn = [*context], list[Assertion](), 0
        returned = returned_by_turn(conversation.chat)
        for message in conversation.chat:
            if message["role"] == "user":
                heard.append(message["content"])
            else:
                values |= {name: scenario.values[name] for name in self._results & returned[turn]}
                labels = self.label_reply(message["content"], scenario)
                found += self._in_reply(turn, message["content"], labels, _Known(values, "\n".join(heard)))
                turn += 1
        return tuple(found)

    def _values(self, scenario: Scenario) -> dict[str, str]:
        """The scenario's values. Where the customer says an unlisted value first, a listed one is known only once it is said, and
        results of tools once they are returned.
        """
        return {
            name: value
            for name, value in scenario.values.items()
            if name not in self._results
            if scenario.kind != "unknownValues" or not self._variables[name].values or self._variables[name].open
        }

    def _in_reply(self, turn: int, reply: str, labels: Sequence[Label], known: _Known) -> Sequence[Assertion]:
        """Of ambiguous readings the one with the fewest values that nobody gave."""
        readings = [label.slots for label in labels] if labels else [tuple(self._scan(reply))]
        assertions = [[self._assertion(turn, name, said, known) for name, said in slots] for slots in readings]
        return min(assertions, key=lambda reading: sum(not each.given for each in reading))

    def _assertion(self, turn: int, name: str, said: str, known: _Known) -> Assertion:
        """A value in its place. Where the place begins the step's words, sentences that precede the step stand in it too."""
        value = said if self._given(name, said, known) else _SENTENCE.split(said)[-1]
        return Assertion(turn, name, value, self._given(name, value, known))

    def _scan(self, reply: str) -> Iterator[tuple[str, str]]:
        """Values in a reply that is not in the procedure's own words."""
        for sentence in _SENTENCE.split(reply):
            for name, variable in self._variables.items():
                found = [value for value in variable.values if not variable.open and contains(sentence, value)]
                if len(found) == 1 and not contains(self._own_words, found[0]):
                    yield name, found[0]
                for said in dict.fromkeys(
                    match.group() for form in self._formats[name] for match in form.finditer(alike(sentence))
                ):
                    if not contains(self._own_words, said):
                        yield name, said

    def _given(self, name: str, said: str, known: _Known) -> bool:
        meant = known.values.get(name, "")
        if plain_words(said) == plain_words(meant) or contains(known.heard, said):
            return True
        kind = self._variables[name].type if name in self._variables else "string"
        if kind == "integer":
            numbers = numbers_in(said)
            return bool(numbers) and numbers <= numbers_in(f"{meant}\n{known.heard}")
        parts = date_parts(said) if kind == "dateRange" else frozenset()
        return bool(parts) and parts <= date_parts(meant)


def _rules(graph: Graph) -> RuleLabeller | None:
    try:
        return RuleLabeller(graph)
    except InvalidInputError:  # without examples no reply is in the procedure's own words
        return None


def count_fabricated(conversations: Sequence[Sequence[Assertion]]) -> Proportion:
    """Asserted values that neither the customer nor the context gave, of all asserted values."""
    given = [assertion.given for assertions in conversations for assertion in assertions]
    return Proportion(hits=given.count(False), of=len(given))


def _patterns(variable: Variable) -> list[re.Pattern[str]]:
    """Patterns of the variable's formats that are more than a number."""
    patterns = [format_pattern(text) for text in variable.formats]
    return [pattern for pattern in patterns if pattern is not None]


def _agent_texts(spec: ProcedureSpec) -> Iterator[str]:
    """All texts that the author wrote for the agent."""
    for node in spec.nodes:
        if node.role == "agent":
            yield from (node.prompt, *node.examples, *(text for edge in node.next for text in edge.examples))
    others = spec.model_dump(exclude={"nodes", "anywhere", "questions", "variables", "openers", "personas"})
    yield from (each.answer for each in spec.questions)
    yield from _strings(others)


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _strings(each)
