"""Conversations that say what another one says, but for their values. Pure."""

import re
from collections.abc import Iterable
from dataclasses import replace

from subterra_jobs.generate.conversation import Conversation

_WORD = re.compile(r"[^\W\d]+|#")
_NUMBER = re.compile(r"\d+")


def without_repeats(conversations: Iterable[Conversation]) -> list[Conversation]:
    """The same conversations by slot, all but the first of those that read alike dropped.

    For teachers that are models: they should vary their words. Scripted ones have few, and repeat them by nature.
    """
    first: dict[str, str] = {}
    found = list[Conversation]()
    for each in sorted(conversations, key=lambda each: each.slot.id):
        if each.dropped is None and (other := first.setdefault(_gist(each), each.slot.id)) != each.slot.id:
            each = replace(each, dropped=f"repeats another conversation: {other}")  # noqa: PLW2901
        found.append(each)
    return found


def _gist(conversation: Conversation) -> str:
    """The words without values, numbers, case and punctuation."""
    values = sorted(conversation.slot.values.values(), key=len, reverse=True)
    masks = re.compile("|".join(rf"(?<!\w){re.escape(value.casefold())}(?!\w)" for value in values) or r"(?!)")
    turns = (_NUMBER.sub("#", masks.sub("#", each.text.casefold())) for each in conversation.said)
    return "\n".join(" ".join(_WORD.findall(turn)) for turn in turns)
