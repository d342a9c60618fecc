"""Slips of people who type in a hurry: small letters, missing marks, fillers and typing errors, never inside a value."""

import random
import re
from collections.abc import Callable

from subterra_core.procedure.template import split
from subterra_jobs.dialogue.phrasing.phrasebook import Slips

_LETTERS = re.compile(r"[A-Za-z']+")
_LAST_MARK = re.compile(r"\s*[.!]+$")
_MAX_TRIES = 5
_BEGINNING = 10
"""Characters at the start of a line in which no filler stands: a frame may be there already."""


class SurfaceNoise:
    """Makes lines look typed. Lines hold values as `{{variable}}`, which stay as they are."""

    def __init__(self, slips: Slips, fillers: tuple[str, ...], common_words: frozenset[str]) -> None:
        self._slips, self._fillers, self._common = slips, fillers, common_words
        self._kinds: tuple[tuple[Callable[[str, random.Random], str], int], ...] = (
            (self._small_letters, 4),
            (self._small_start, 2),
            (self._no_last_mark, 4),
            (self._slip, 4),
            (self._filler, 2),
        )

    def apply(self, line: str, rng: random.Random) -> str:
        """`line` with one or two slips."""
        functions, weights = zip(*self._kinds, strict=True)
        for function in rng.choices(functions, weights, k=rng.choice((1, 1, 2))):
            line = function(line, rng)
        return line

    def opener(self, text: str, rng: random.Random) -> str:
        """`text`, whose values are filled in already, with changes that touch no value: its first letter and its last mark."""
        small, unmarked = self._small_start(text, rng), self._no_last_mark(text, rng)
        changed = [other for other in (small, unmarked, self._no_last_mark(small, rng)) if other != text]
        return rng.choice(changed) if changed else text

    def _small_letters(self, line: str, rng: random.Random) -> str:
        return _on_literals(line, str.lower)

    def _small_start(self, line: str, rng: random.Random) -> str:
        word = _LETTERS.match(line)
        known = word is not None and word.group().lower() in self._common
        return line[0].lower() + line[1:] if known else line

    def _no_last_mark(self, line: str, rng: random.Random) -> str:
        return _LAST_MARK.sub("", line) or line

    def _filler(self, line: str, rng: random.Random) -> str:
        places = [place for place in range(_BEGINNING, len(line)) if line.startswith(", ", place)]
        if not places:
            return line
        place = rng.choice(places)
        return f"{line[:place]}, {rng.choice(self._fillers)}{line[place:]}"

    def _slip(self, line: str, rng: random.Random) -> str:
        """One wrong letter in a longer word, which does not become another word by it."""
        parts = split(line)
        words = [
            (index, match)
            for index in range(0, len(parts), 2)
            for match in _LETTERS.finditer(parts[index])
            if len(match.group()) >= self._slips.shortest and match.group().lower() not in self._slips.keep
        ]
        if not words:
            return line
        index, match = rng.choice(words)
        slipped = self._slipped(match.group(), rng)
        parts[index] = parts[index][: match.start()] + slipped + parts[index][match.end() :]
        return "".join(part if number % 2 == 0 else f"{{{{{part}}}}}" for number, part in enumerate(parts))

    def _slipped(self, word: str, rng: random.Random) -> str:
        for _ in range(_MAX_TRIES):
            place = rng.randrange(1, len(word) - 1)
            letter, following = word[place], word[place + 1]
            neighbours = self._slips.neighbours.get(letter.lower(), letter)
            changed = rng.choice((rng.choice(neighbours) + following, following, letter + letter + following, following + letter))
            wrong = word[:place] + changed + word[place + 2 :]
            if wrong != word and wrong.lower() not in self._common:
                return wrong
        return word


def _on_literals(line: str, change: Callable[[str], str]) -> str:
    """`line` with `change` applied to all but the variables."""
    parts = split(line)
    return "".join(change(part) if index % 2 == 0 else f"{{{{{part}}}}}" for index, part in enumerate(parts))
