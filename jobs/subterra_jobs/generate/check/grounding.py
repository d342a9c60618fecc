"""Whether a turn stays with what is true in its scenario, as far as that can be decided without a model. Pure.

Names: no listed value of a variable but the scenario's own. Only values with a capital letter or a digit count, since "cheaper" or
"a phone" may mean anything. Figures: a number of three digits and more was given, not made up.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from subterra_api.v1alpha1.procedure import Node, ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.template import split, variables_of
from subterra_jobs.dialogue.sampling import system_message
from subterra_jobs.dialogue.scripted import Utterance
from subterra_jobs.generate.plan.plan import Slot

_NUMBER = re.compile(r"(?<!\w)\d(?:[ .,'’\u00a0\u202f-]?\d)*(?!\w)")
_CENTS = re.compile(r"[.,]\d\d$")
_CONTACT = re.compile(r"https?://\S+|www\.\S+|[\w.+-]+@[\w-]+\.\w+")
_SHORT = 2
"""Digits of numbers that are everywhere: hours, steps, people."""
_SAYINGS = frozenset({"100"})
"""As in "100 % sure"."""


@dataclass(frozen=True)
class _Ground:
    """What a node's own texts give to whoever speaks there."""

    numbers: frozenset[str]
    variables: frozenset[str]
    figures: bool
    """Whether one of these variables is a number or a date."""


class Truth:
    """Knows what could be true in any scenario of a procedure."""

    def __init__(self, graph: Graph) -> None:
        spec = graph.spec
        self._graph, self._text = graph, "\n".join(own_texts(spec))
        self._facts = _numbers("\n".join(fact.text for fact in spec.knowledge)) | _years(spec) | _SAYINGS
        self._grounds = {node.id: _ground(node, spec) for node in spec.nodes}
        self._known_by = {variable.name for variable in spec.variables if variable.visibility == "customer"}
        listed = {value: each for each in spec.variables for value in each.values if _telling(value) and not self._own(value)}
        self._owners = {value: variable.name for value, variable in listed.items()}
        self._lists = {value for value, variable in listed.items() if not variable.open and value.isalpha()}
        self._names = _any_of(listed)

    def fault(self, slot: Slot, position: int, said: Sequence[Utterance], text: str) -> str | None:
        """What is untrue in the words of the path's node at ``position``; none when nothing is."""
        twist = slot.manner.twist
        if twist is not None and twist.position == position and twist.kind != "several facts":
            return None  # what is corrected in the same turn, or off the subject, is meant so
        history = "\n".join(filter(None, [slot.manner.opener, *(each.text for each in said)]))
        return self._name(slot, position, history, text) or self._figure(slot, position, history, text)

    def _name(self, slot: Slot, position: int, history: str, text: str) -> str | None:
        if self._names is None or not self._names.search(text):
            return None
        theirs = _any_of(slot.values.values())
        rest = theirs.sub("\0", text) if theirs else text
        agent = self._graph.nodes[slot.path[position]].role == "agent"
        for match in self._names.finditer(rest):
            value, owner = match.group(), self._owners[match.group()]
            # An agent may name examples as long as the customer has not said what it is to be.
            if value in history or (agent and slot.values[owner] not in history and owner in self._known_by):
                continue
            if not (value in self._lists and _begins_sentence(rest, match.start())):
                return f"names another conversation's value: {value} for {owner}"
        return None

    def _figure(self, slot: Slot, position: int, history: str, text: str) -> str | None:
        node = self._graph.nodes[slot.path[position]]
        ground = self._grounds[node.id]
        if node.role == "agent":
            if contact := next((each for each in _CONTACT.findall(text) if not self._given(each, slot, history)), None):
                return f"has an address that nobody gave: {contact}"
        elif not ground.figures:
            return None  # the scenario holds no figure for this turn, so the customer may make one up
        if all(len(each) <= _SHORT for each in re.findall(r"\d+", text)):
            return None
        named = self._known_by | ground.variables if node.role == "user" else ground.variables
        values = " | ".join(slot.values[name] for name in sorted(named))
        known = (
            self._facts | ground.numbers | _numbers(" | ".join((values, history, system_message(self._graph.spec, slot.values))))
        )
        made_up = next((each for each in _NUMBER.findall(text) if not _is_known(each, known)), None)
        return f"has a number that nobody gave: {made_up}" if made_up else None

    def _given(self, contact: str, slot: Slot, history: str) -> bool:
        plain = contact.rstrip(".,;:!?)")
        return plain in self._text or plain in history or any(plain in value for value in slot.values.values())

    def _own(self, value: str) -> bool:
        """Whether the procedure itself says it: then everybody may."""
        return re.search(rf"\b{re.escape(value)}\b", self._text) is not None


def own_texts(spec: ProcedureSpec) -> list[str]:
    """All that the procedure's author has written to be said, or to say what is said."""
    nodes = [text for node in spec.nodes for text in (node.prompt, *node.examples)]
    edges = [text for node in spec.nodes for edge in node.next for text in (edge.when or "", *edge.examples)]
    return [spec.system_prompt, *spec.openers, *(fact.text for fact in spec.knowledge), *nodes, *edges]


def _ground(node: Node, spec: ProcedureSpec) -> _Ground:
    texts = [node.prompt, *node.examples, *(text for edge in node.next for text in (edge.when or "", *edge.examples))]
    named = {name for text in texts for name in variables_of(text)}
    literal = " | ".join(part for text in texts for part in split(text)[::2])
    figures = any(variable.name in named and variable.type != "string" for variable in spec.variables)
    return _Ground(_numbers(literal), frozenset(named), figures)


def _telling(value: str) -> bool:
    return any(letter.isupper() or letter.isdigit() for letter in value)


def _any_of(values: Iterable[str]) -> re.Pattern[str] | None:
    """Finds the longest of these, as words of their own."""
    found = sorted(values, key=len, reverse=True)
    return re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, found)) + r")(?!\w)") if found else None


def _begins_sentence(text: str, place: int) -> bool:
    """Where a capital letter tells nothing."""
    return not (before := text[:place].rstrip()) or before[-1] in ".!?:"


def _years(spec: ProcedureSpec) -> frozenset[str]:
    return frozenset(day[:4] for variable in spec.variables for day in (variable.from_, variable.to) if day)


def _numbers(text: str) -> frozenset[str]:
    """All numbers, as written together and piece by piece."""
    return frozenset(each for number in _NUMBER.findall(text) for each in (_digits(number), *re.findall(r"\d+", number)))


def _is_known(number: str, known: frozenset[str]) -> bool:
    whole = (_digits(number), _digits(_CENTS.sub("", number)))
    return any(each in known for each in whole) or all(len(each) <= _SHORT or each in known for each in re.findall(r"\d+", number))


def _digits(number: str) -> str:
    return re.sub(r"\D", "", number)
