"""Checks that quotes are in a conversation, word for word. Pure."""

import re
from collections.abc import Mapping, Sequence

from subterra_api.unicode_forms import alike

_MARKER = re.compile(r"\[\d+\]\s*(?:Agent|Customer)\s*:\s*")
_SAME = str.maketrans({"–": "-", "—": "-", "…": "..."})
_EDGES = " \t\"'.,;:!?-"


def normalize(text: str) -> str:
    """`text` without what copying changes: case, whitespace, kinds of quotation marks and dashes, turn markers."""
    return " ".join(_MARKER.sub(" ", alike(text)).translate(_SAME).casefold().split())


def missing_quotes(quotes: Sequence[str], chat: Sequence[Mapping[str, str]]) -> list[str]:
    """Quotes that are empty or not in any single turn. An ellipsis may stand for a gap."""
    turns = [normalize(turn["content"]) for turn in chat]
    return [quote for quote in quotes if not _found(quote, turns)]


def _found(quote: str, turns: Sequence[str]) -> bool:
    parts = [stripped for part in normalize(quote).split("...") if (stripped := part.strip(_EDGES))]
    return bool(parts) and any(_in_order(parts, turn) for turn in turns)


def _in_order(parts: Sequence[str], turn: str) -> bool:
    position = 0
    for part in parts:
        position = turn.find(part, position)
        if position < 0:
            return False
        position += len(part)
    return True
