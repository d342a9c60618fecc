"""What makes an utterance or a conversation unfit for training. Pure."""

import itertools
import re
from collections.abc import Iterable

from subterra_jobs.common.scripted import CHAT_ROLE

_PLACEHOLDER = re.compile(r"\{\{|\}\}")
_SPEAKER = re.compile(r"^\s*(agent|assistant|customer|user|human)\s*:", re.IGNORECASE)
_WORDLIKE = re.compile(r"[a-z]+|[A-Z][a-z]*|[a-zA-Z]+(-[a-zA-Z]+)+")
LONGEST = 4000
"""Characters of one utterance."""


class Checker:
    """Finds faults; knows which node ids cannot be mistaken for words."""

    def __init__(self, node_ids: Iterable[str]) -> None:
        # "budget" or "check-in" is what people say; "ask_budget" and "node7" only come from a prompt that leaked.
        telling = sorted((node for node in node_ids if not _WORDLIKE.fullmatch(node)), key=len, reverse=True)
        self._ids = re.compile(r"\b(" + "|".join(map(re.escape, telling)) + r")\b") if telling else None

    def utterance(self, text: str) -> str | None:
        """What is wrong with one turn's words; none when nothing is."""
        if not text.strip():
            return "is empty"
        if len(text) > LONGEST:
            return f"is longer than {LONGEST} characters"
        if _PLACEHOLDER.search(text):
            return "has a placeholder left"
        if _SPEAKER.match(text):
            return "starts with the name of a speaker"
        if self._ids and (leaked := self._ids.search(text)):
            return f"names the node {leaked.group()}"
        return None


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
