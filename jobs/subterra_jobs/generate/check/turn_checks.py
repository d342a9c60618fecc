"""Finds what makes an utterance or a conversation unfit for training. Pure.

A problem is a short phrase, sometimes followed by a colon and details. Drops are counted by the part before the colon.
"""

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from subterra_core.procedure.graph import Graph
from subterra_core.procedure.template import render
from subterra_jobs.dialogue.scripted import CHAT_ROLE, Utterance
from subterra_jobs.generate.check.frame_leaks import FrameChecker
from subterra_jobs.generate.check.grounding import GroundingChecker, procedure_texts
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec

_PLACEHOLDER = re.compile(r"\{\{|\}\}")
_BRACKETS = re.compile(r"\[[^\[\]\d]{2,40}\]")
_MARKUP = re.compile(r"</?(conversation|instruction|decision|situation|twist|role|options|you|now|facts)>|\*\*|^#+ ")
_SPEAKER = re.compile(r"^\s*(agent|assistant|customer|user|human)\s*:", re.IGNORECASE)
_WORDLIKE = re.compile(r"[a-z]+|[A-Z][a-z]*|[a-zA-Z]+(-[a-zA-Z]+)+")
_WORD = re.compile(r"\w+")
_DROPPED_AT = re.compile(r"^node \S+ ")
MAX_LENGTH = 4000
"""Characters of one utterance."""
_MAX_FOREIGN_LETTERS = 2
"""Letters of a foreign script that are accepted: a name, a unit."""
_MIN_SENTENCE_LETTERS = 10
"""Number of letters from which an utterance is expected to use the procedure's own script."""


class TurnChecker:
    """Finds problems of turns, knowing the procedure's words and facts."""

    def __init__(self, graph: Graph) -> None:
        self._graph, self._grounding = graph, GroundingChecker(graph)
        # "budget" or "check-in" is what people say; "ask_budget" and "node7" only come from a prompt that leaked.
        artificial = sorted((node for node in graph.nodes if not _WORDLIKE.fullmatch(node)), key=len, reverse=True)
        self._node_ids = re.compile(r"\b(" + "|".join(map(re.escape, artificial)) + r")\b") if artificial else None
        own_text = " ".join(procedure_texts(graph.spec))
        self._brackets = None if "[" in own_text else _BRACKETS
        self._frame = FrameChecker(own_text)
        self._scripts = {"LATIN", *_scripts(own_text)}
        prompts = _scripts(" ".join(node.prompt for node in graph.spec.nodes))
        self._main_script = max(prompts, key=prompts.__getitem__, default="LATIN")

    def turn(self, spec: ConversationSpec, position: int, previous: Sequence[Utterance], text: str) -> str | None:
        """The problem with the words of the node at ``position`` of the path, or `None`."""
        return (
            self.utterance(text)
            or self._quoted_condition(spec, position, text)
            or self._grounding.problem(spec, position, previous, text)
        )

    def utterance(self, text: str) -> str | None:
        """The problem with an utterance written by a model, whoever speaks, or `None`."""
        if problem := form_problem(text):
            return problem
        if self._brackets and self._brackets.search(text):
            return "has a placeholder left"
        if _SPEAKER.match(text):
            return "starts with the name of a speaker"
        if markup := _MARKUP.search(text):
            return f"has markup: {markup.group()}"
        if self._node_ids and (leaked := self._node_ids.search(text)):
            return f"names a node: {leaked.group()}"
        return self._frame.problem(text) or self._foreign_script(text)

    def _foreign_script(self, text: str) -> str | None:
        """Detects a foreign language by its letters alone. Latin letters are always accepted, as in names and brands."""
        if text.isascii() and self._main_script == "LATIN":
            return None
        counts = _scripts(text)
        foreign = sum(count for script, count in counts.items() if script not in self._scripts)
        if foreign > _MAX_FOREIGN_LETTERS or (counts.total() >= _MIN_SENTENCE_LETTERS and not counts[self._main_script]):
            return "is in the letters of another language than the procedure"
        return None

    def _quoted_condition(self, spec: ConversationSpec, position: int, text: str) -> str | None:
        """Detects a quoted `when` text about "the customer"; other conditions may be natural speech, as "It works now."."""
        node = self._graph.nodes[spec.path[position]]
        if node.role == "agent":
            return None
        plain = " ".join(_WORD.findall(text.casefold()))
        edges = self._graph.edges_of(node.id)
        whens = (" ".join(_WORD.findall(render(edge.when, spec.values).casefold())) for edge in edges if edge.when)
        quoted = next((when for when in whens if "customer" in when and when in plain), None)
        return f"quotes a condition: {quoted}" if quoted else None


def form_problem(text: str) -> str | None:
    """The problem with an utterance that is wrong even in an author's own examples, or `None`."""
    if not text.strip():
        return "is empty"
    if len(text) > MAX_LENGTH:
        return f"is longer than {MAX_LENGTH} characters"
    return "has a placeholder left" if _PLACEHOLDER.search(text) else None


def conversation_problem(messages: list[dict[str, str]]) -> str | None:
    """The problem with a chat, or `None` if it has one system prompt, alternating roles and a turn of the agent."""
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


def count_drop_reasons(reasons: Sequence[str]) -> dict[str, int]:
    """How often each kind of reason occurs, the most frequent first."""
    counts = Counter(_DROPPED_AT.sub("", reason).partition(":")[0] for reason in reasons)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _scripts(text: str) -> Counter[str]:
    """The number of letters of each script: LATIN, CYRILLIC, CJK and so on."""
    return Counter("LATIN" if letter.isascii() else unicodedata.name(letter, "?").split()[0] for letter in text if letter.isalpha())
