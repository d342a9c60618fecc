"""Checks that a turn is grounded in its scenario, as far as that can be decided without a model. Pure.

Names: the only listed values of variables that a turn may use are the scenario's own. Values without a capital letter or a digit
are ignored, since "cheaper" or "a phone" can mean anything. Numbers: one of three digits or more must have been given by someone.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from subterra_api.unicode_forms import alike, composed
from subterra_api.v1alpha1.procedure import Node, ProcedureSpec
from subterra_core.procedure.anywhere import anywhere_texts
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.template import split, variables_of
from subterra_jobs.dialogue.sampling import system_message
from subterra_jobs.dialogue.scripted import Utterance
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec

_NUMBER = re.compile(r"(?<!\w)\d(?:[ .,'’\u00a0\u202f-]?\d)*(?!\w)")
_CENTS = re.compile(r"[.,]\d\d$")
_CONTACT = re.compile(r"https?://\S+|www\.\S+|[\w.+-]+@[\w-]+\.\w+")
_SHORT = 2
"""Numbers of up to this many digits are everywhere: hours, steps, people."""
_IDIOMS = frozenset({"100"})
"""As in "100 % sure"."""


@dataclass(frozen=True)
class _NodeGrounds:
    """What a node's own texts allow its speaker to say."""

    numbers: frozenset[str]
    variables: frozenset[str]
    has_figures: bool
    """True if one of these variables is a number or a date."""


@dataclass(frozen=True)
class _Turn:
    """A turn to check: the words at ``position`` of the path, after ``history``."""

    spec: ConversationSpec
    position: int
    history: str
    text: str


class GroundingChecker:
    """Knows everything that can be true in some scenario of a procedure."""

    def __init__(self, graph: Graph) -> None:
        procedure = graph.spec
        self._graph, self._text = graph, "\n".join(procedure_texts(procedure))
        self._facts = _numbers("\n".join(fact.text for fact in procedure.knowledge)) | _years(procedure) | _IDIOMS
        self._grounds = {node.id: _node_grounds(node, procedure) for node in procedure.nodes}
        self._known_by_customer = {variable.name for variable in procedure.variables if variable.visibility == "customer"}
        names = {
            value: variable
            for variable in procedure.variables
            for value in variable.values
            if _is_name(value) and not self._is_in_procedure(value)
        }
        self._owners = {value: variable.name for value, variable in names.items()}
        self._words = {value for value, variable in names.items() if not variable.open and value.isalpha()}
        self._names = _any_of(names)

    def problem(self, spec: ConversationSpec, position: int, previous: Sequence[Utterance], text: str) -> str | None:
        """What is ungrounded in the words of the node at ``position`` of the path, or `None`."""
        twist, challenge = spec.customer.twist, spec.customer.challenge
        if challenge is not None and challenge.position == position:
            return None  # what the customer takes back is named
        if twist is not None and twist.position == position and twist.kind != "several facts":
            return None  # off the subject, or corrected within the turn: the false value is intended
        history = "\n".join(filter(None, [spec.customer.opener, *(utterance.call or utterance.text for utterance in previous)]))
        turn = _Turn(replace(spec, values=spec.values_at(position)), position, composed(history), composed(text))
        return self._name_problem(turn) or self._contact_problem(turn) or self._number_problem(turn)

    def _node(self, turn: _Turn) -> Node:
        return self._graph.nodes[turn.spec.path[turn.position]]

    def _name_problem(self, turn: _Turn) -> str | None:
        if self._names is None or not self._names.search(turn.text):
            return None
        own_values = _any_of(turn.spec.values.values())
        rest = own_values.sub("\0", turn.text) if own_values else turn.text
        for match in self._names.finditer(rest):
            value = match.group()
            if self._may_name(turn, value) or (value in self._words and _begins_sentence(rest, match.start())):
                continue
            return f"names another conversation's value: {value} for {self._owners[value]}"
        return None

    def _may_name(self, turn: _Turn, value: str) -> bool:
        """True if ``value`` was mentioned before. An agent may also give examples until the customer has chosen a value."""
        owner = self._owners[value]
        if value in turn.history:
            return True
        is_agent = self._node(turn).role == "agent"
        return is_agent and turn.spec.values[owner] not in turn.history and owner in self._known_by_customer

    def _contact_problem(self, turn: _Turn) -> str | None:
        if self._node(turn).role != "agent":
            return None
        unknown = next((contact for contact in _CONTACT.findall(turn.text) if not self._is_given(contact, turn)), None)
        return f"has an address that nobody gave: {unknown}" if unknown else None

    def _number_problem(self, turn: _Turn) -> str | None:
        node = self._node(turn)
        if node.role == "user" and not self._grounds[node.id].has_figures:
            return None  # the scenario has no figure for this turn, so the customer may make one up
        if all(len(digits) <= _SHORT for digits in re.findall(r"\d+", turn.text)):
            return None
        known = self._known_numbers(node, turn)
        made_up = next((number for number in _NUMBER.findall(alike(turn.text)) if not _is_known(number, known)), None)
        return f"has a number that nobody gave: {made_up}" if made_up else None

    def _known_numbers(self, node: Node, turn: _Turn) -> frozenset[str]:
        """The numbers that the speaker at ``node`` can know."""
        grounds = self._grounds[node.id]
        variables = self._known_by_customer | grounds.variables if node.role == "user" else grounds.variables
        values = " | ".join(turn.spec.values[name] for name in sorted(variables))
        system = system_message(self._graph.spec, turn.spec.values)
        return self._facts | grounds.numbers | _numbers(" | ".join((values, turn.history, system)))

    def _is_given(self, contact: str, turn: _Turn) -> bool:
        plain = contact.rstrip(".,;:!?)")
        return plain in self._text or plain in turn.history or any(plain in value for value in turn.spec.values.values())

    def _is_in_procedure(self, value: str) -> bool:
        """True if the procedure itself mentions ``value``, so everyone may."""
        return re.search(rf"\b{re.escape(value)}\b", self._text) is not None


def procedure_texts(spec: ProcedureSpec) -> list[str]:
    """All texts of a procedure that are spoken or describe what is spoken."""
    nodes = [text for node in spec.nodes for text in (node.prompt, *node.examples)]
    edges = [text for node in spec.nodes for edge in node.next for text in (edge.when or "", *edge.examples)]
    knowledge = (fact.text for fact in spec.knowledge)
    return [spec.system_prompt, *spec.openers, *knowledge, *nodes, *edges, *anywhere_texts(spec)]


def _node_grounds(node: Node, spec: ProcedureSpec) -> _NodeGrounds:
    texts = [node.prompt, *node.examples, *(text for edge in node.next for text in (edge.when or "", *edge.examples))]
    texts += anywhere_texts(spec) if node.role == "user" else ()
    mentioned = {name for text in texts for name in variables_of(text)}
    literal = " | ".join(part for text in texts for part in split(text)[::2])
    has_figures = any(variable.name in mentioned and variable.type != "string" for variable in spec.variables)
    return _NodeGrounds(_numbers(literal), frozenset(mentioned), has_figures)


def _is_name(value: str) -> bool:
    return any(letter.isupper() or letter.isdigit() for letter in value)


def _any_of(values: Iterable[str]) -> re.Pattern[str] | None:
    """A pattern for the longest of ``values`` at a place, as whole words; `None` if there are none."""
    by_length = sorted(values, key=len, reverse=True)
    return re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, by_length)) + r")(?!\w)") if by_length else None


def _begins_sentence(text: str, index: int) -> bool:
    """True where a capital letter does not mark a name."""
    return not (before := text[:index].rstrip()) or before[-1] in ".!?:"


def _years(spec: ProcedureSpec) -> frozenset[str]:
    return frozenset(day[:4] for variable in spec.variables for day in (variable.from_, variable.to) if day)


def _numbers(text: str) -> frozenset[str]:
    """All numbers in ``text``, as a whole and in the groups they are written in."""
    return frozenset(digits for number in _NUMBER.findall(alike(text)) for digits in (_digits(number), *re.findall(r"\d+", number)))


def _is_known(number: str, known: frozenset[str]) -> bool:
    if _digits(number) in known or _digits(_CENTS.sub("", number)) in known:
        return True
    return all(len(digits) <= _SHORT or digits in known for digits in re.findall(r"\d+", number))


def _digits(number: str) -> str:
    return re.sub(r"\D", "", number)
