"""Drops conversations that differ from an earlier one in their values only. Pure."""

import re
from collections.abc import Iterable
from dataclasses import replace

from subterra_jobs.generate.written_conversation import Conversation

_WORD = re.compile(r"[^\W\d]+|#")
_NUMBER = re.compile(r"\d+")


def drop_near_duplicates(conversations: Iterable[Conversation]) -> list[Conversation]:
    """The conversations sorted by id; of those that read alike, all but the first are dropped.

    Meant for LLM teachers, which should vary their words. Scripted ones have few phrasings and repeat them by design.
    """
    first_ids: dict[str, str] = {}
    return [
        _checked(conversation, first_ids) for conversation in sorted(conversations, key=lambda conversation: conversation.spec.id)
    ]


def _checked(conversation: Conversation, first_ids: dict[str, str]) -> Conversation:
    """The conversation, dropped if ``first_ids`` has one with the same text; otherwise its text is added there."""
    if conversation.drop_reason is not None:
        return conversation
    first = first_ids.setdefault(_normalized_text(conversation), conversation.spec.id)
    if first == conversation.spec.id:
        return conversation
    return replace(conversation, drop_reason=f"repeats another conversation: {first}")


def _normalized_text(conversation: Conversation) -> str:
    """The words without values, numbers, case and punctuation."""
    values = sorted(conversation.spec.values.values(), key=len, reverse=True)
    masks = re.compile("|".join(rf"(?<!\w){re.escape(value.casefold())}(?!\w)" for value in values) or r"(?!)")
    turns = (_NUMBER.sub("#", masks.sub("#", utterance.text.casefold())) for utterance in conversation.utterances)
    return "\n".join(" ".join(_WORD.findall(turn)) for turn in turns)
