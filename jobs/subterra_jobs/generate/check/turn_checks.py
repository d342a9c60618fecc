"""What makes an utterance or a conversation unfit for training. Pure.

A fault is a few words, then sometimes a colon and the detail: the words before the colon are what drops are counted by.
"""

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from subterra_core.procedure.graph import Graph
from subterra_core.procedure.template import render
from subterra_jobs.dialogue.scripted import CHAT_ROLE, Utterance
from subterra_jobs.generate.check.grounding import Truth, own_texts
from subterra_jobs.generate.plan.plan import Slot

_PLACEHOLDER = re.compile(r"\{\{|\}\}")
_BRACKETS = re.compile(r"\[[^\[\]\d]{2,40}\]")
_FRAME = re.compile(r"</?(conversation|instruction|decision|situation|twist|role|options)>|\*\*|^#+ ")
_SPEAKER = re.compile(r"^\s*(agent|assistant|customer|user|human)\s*:", re.IGNORECASE)
_WORDLIKE = re.compile(r"[a-z]+|[A-Z][a-z]*|[a-zA-Z]+(-[a-zA-Z]+)+")
_WORD = re.compile(r"\w+")
_DROPPED_AT = re.compile(r"^node \S+ ")
LONGEST = 4000
"""Characters of one utterance."""
_STRAY_LETTERS = 2
"""Letters of a foreign script that are let pass: a name, a unit."""
_SENTENCE = 10
"""Letters from which on words can be expected to show in which script they are written."""


class Checker:
    """Finds faults of turns; knows the procedure's words and facts."""

    def __init__(self, graph: Graph) -> None:
        self._graph, self._truth = graph, Truth(graph)
        # "budget" or "check-in" is what people say; "ask_budget" and "node7" only come from a prompt that leaked.
        telling = sorted((node for node in graph.nodes if not _WORDLIKE.fullmatch(node)), key=len, reverse=True)
        self._ids = re.compile(r"\b(" + "|".join(map(re.escape, telling)) + r")\b") if telling else None
        own = " ".join(own_texts(graph.spec))
        self._brackets = None if "[" in own else _BRACKETS
        self._scripts = {"LATIN", *_scripts(own)}
        prompts = _scripts(" ".join(node.prompt for node in graph.spec.nodes))
        self._home = max(prompts, key=prompts.__getitem__, default="LATIN")

    def turn(self, slot: Slot, position: int, said: Sequence[Utterance], text: str) -> str | None:
        """What is wrong with the words of the path's node at ``position``; none when nothing is."""
        return self.utterance(text) or self._quoted(slot, position, text) or self._truth.fault(slot, position, said, text)

    def utterance(self, text: str) -> str | None:
        """What is wrong with words of a model, whoever says them."""
        if fault := form_fault(text):
            return fault
        if self._brackets and self._brackets.search(text):
            return "has a placeholder left"
        if _SPEAKER.match(text):
            return "starts with the name of a speaker"
        if frame := _FRAME.search(text):
            return f"has markup: {frame.group()}"
        if self._ids and (leaked := self._ids.search(text)):
            return f"names a node: {leaked.group()}"
        return self._foreign(text)

    def _foreign(self, text: str) -> str | None:
        """A language that is told by its letters alone. Latin ones are at home everywhere: names and brands are written in them."""
        if text.isascii() and self._home == "LATIN":
            return None
        found = _scripts(text)
        stray = sum(count for script, count in found.items() if script not in self._scripts)
        if stray > _STRAY_LETTERS or (found.total() >= _SENTENCE and not found[self._home]):
            return "is in the letters of another language than the procedure"
        return None

    def _quoted(self, slot: Slot, position: int, text: str) -> str | None:
        """A condition speaks *about* the customer; it is no customer's way to speak. Others may well be: "It works now."."""
        node = self._graph.nodes[slot.path[position]]
        if node.role == "agent":
            return None
        plain = " ".join(_WORD.findall(text.casefold()))
        whens = (" ".join(_WORD.findall(render(edge.when, slot.values).casefold())) for edge in node.next if edge.when)
        quoted = next((when for when in whens if "customer" in when and when in plain), None)
        return f"quotes a condition: {quoted}" if quoted else None


def form_fault(text: str) -> str | None:
    """What is wrong with words even when an author wrote them, who may otherwise say what pleases."""
    if not text.strip():
        return "is empty"
    if len(text) > LONGEST:
        return f"is longer than {LONGEST} characters"
    return "has a placeholder left" if _PLACEHOLDER.search(text) else None


def conversation_fault(messages: list[dict[str, str]]) -> str | None:
    """What is wrong with a whole chat; none when it starts with the system prompt, roles alternate and the agent has a say."""
    roles = [message["role"] for message in messages]
    if roles[0] != "system" or "system" in roles[1:]:
        return "does not have exactly one system prompt at its start"
    if any(first == second for first, second in itertools.pairwise(roles)):
        return "has two turns of one speaker in a row"
    if CHAT_ROLE["agent"] not in roles:
        return "has no turn of the agent to learn from"
    if any(_PLACEHOLDER.search(message["content"]) for message in messages):
        return "has a placeholder left"
    return None


def reasons(dropped: Sequence[str]) -> dict[str, int]:
    """How often conversations were dropped for what, the most frequent first."""
    found = Counter(_DROPPED_AT.sub("", fault).partition(":")[0] for fault in dropped)
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _scripts(text: str) -> Counter[str]:
    """How many letters there are of each script: LATIN, CYRILLIC, CJK and so on."""
    return Counter("LATIN" if each.isascii() else unicodedata.name(each, "?").split()[0] for each in text if each.isalpha())
