"""Is a passage in a conversation, word for word? Pure."""

import re
from collections.abc import Mapping, Sequence

_MARKER = re.compile(r"\[\d+\]\s*(?:Agent|Customer)\s*:\s*")
_SAME = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "...", "\u00a0": " "})
_EDGES = " \t\"'.,;:!?-"


def plain(text: str) -> str:
    """The text without what copying changes: case, white space, kinds of quotation marks and dashes, the turns' markers."""
    return " ".join(_MARKER.sub(" ", text).translate(_SAME).casefold().split())


def unfounded(quotes: Sequence[str], chat: Sequence[Mapping[str, str]]) -> list[str]:
    """Those quotes of which nothing but white space remains, or which no turn holds. An ellipsis may stand for a gap."""
    turns = [plain(turn["content"]) for turn in chat]
    return [quote for quote in quotes if not _found(quote, turns)]


def _found(quote: str, turns: Sequence[str]) -> bool:
    parts = [stripped for part in plain(quote).split("...") if (stripped := part.strip(_EDGES))]
    return bool(parts) and any(_in_order(parts, turn) for turn in turns)


def _in_order(parts: Sequence[str], turn: str) -> bool:
    at = 0
    for part in parts:
        at = turn.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True
