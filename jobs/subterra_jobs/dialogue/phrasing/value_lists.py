"""Lists of real-world values, and the one that fits a variable: cities, names of people, medicines, products.

The lists are `locales/<locale>/lists/*.yaml`. Each has the cue words by which a variable's name or description asks for it.
"""

import random
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

from subterra_api.v1alpha1.procedure import Variable
from subterra_jobs.dialogue.phrasing.locale_data import LOCALES, locale_data, read_yaml

Words = tuple[str, ...]
_KIND_WEIGHTS = (60, 25, 15)
"""How often people give the full name, the given name, the family name."""
_WORD = re.compile(r"[^\W\d_]+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_ARTICLE = re.compile(r"^an? ", re.IGNORECASE)


@dataclass(frozen=True)
class ValueList:
    """Values of one kind."""

    name: str
    proper: bool
    """Whether these are proper names, which no lower-case value belongs to."""
    kinds: tuple[tuple[str, ...], ...]
    """The values. For people there are three kinds: full, given and family names."""
    names: tuple[Words, ...]
    """Last words of the names of variables that want a value of this list."""
    descriptions: tuple[Words, ...]
    """First words of such variables' descriptions."""
    hints: tuple[Words, ...]
    """Less certain cues: they count only where the author lists a value of this list."""

    @property
    def values(self) -> tuple[str, ...]:
        """All values."""
        return tuple(value for kind in self.kinds for value in kind)

    def draw(self, rng: random.Random) -> str:
        """A value; of several kinds, each has its share."""
        return rng.choice(rng.choices(self.kinds, _KIND_WEIGHTS[: len(self.kinds)])[0])


def list_for(variable: Variable, locale: str = "en") -> ValueList | None:
    """The list that fits a variable, or `None`: without the author's own values, its nouns in the form that the author uses."""
    if variable.type != "string" or not variable.values:
        return None
    return _list_for(variable.name, variable.description, variable.values, locale)


@cache
def value_lists(locale: str) -> tuple[ValueList, ...]:
    """All lists of a locale."""
    files = {file.stem: read_yaml(file) for file in sorted((LOCALES / locale / "lists").glob("*.yaml"))}
    return tuple(_value_list(name, files, locale_data("cue_words", locale)["fillers"]) for name in files)


def _value_list(name: str, files: dict[str, Any], fillers: Collection[str]) -> ValueList:
    content = files[name]
    kinds = _people(*(files[part]["values"] for part in content["combines"])) if "combines" in content else [content["values"]]
    cues = {
        kind: tuple(tuple(word for word in _words(cue) if word not in fillers) for cue in content["cues"][kind])
        for kind in ("names", "descriptions", "hints")
    }
    joined = tuple(tuple(value for group in kind.values() for value in group) for kind in kinds)
    return ValueList(name, content.get("proper", False), joined, **cues)


def _people(given: dict[str, list[str]], family: dict[str, list[str]]) -> list[dict[str, list[str]]]:
    """Full names, with both parts from one culture, and their parts."""
    full = {group: [f"{first} {last}" for first in names for last in family[group]] for group, names in given.items()}
    return [full, given, family]


@lru_cache(maxsize=1024)
def _list_for(name: str, description: str, values: tuple[str, ...], locale: str) -> ValueList | None:
    wanted = _Wanted(name, description, values, locale_data("cue_words", locale))
    scored = [(wanted.score(candidate), candidate) for candidate in value_lists(locale)]
    score, best = max(scored, key=lambda pair: pair[0])
    return _fitted(best, values) if score > 0 else None


class _Wanted:
    """What a variable wants, as its author describes it."""

    def __init__(self, name: str, description: str, values: Sequence[str], cue_words: Mapping[str, Collection[str]]) -> None:
        self._values = values
        words = _words(name.replace("_", " "))
        cut = next((index for index, word in enumerate(words) if index and word in cue_words["prepositions"]), len(words))
        self._name = words[:cut]
        self._is_aspect = bool(self._name) and self._name[-1] in cue_words["aspects"]
        start = tuple(word for word in _words(description) if word not in cue_words["fillers"])
        self._starts = [start, start[1:]] if start and start[0] in cue_words["owners"] else [start]

    def score(self, candidate: ValueList) -> float:
        """How well a list fits; 0 if it does not."""
        if not self._may_be_of(candidate):
            return 0
        known = _count_known(candidate, self._values)
        share = known / len(self._values)
        listed = 3 * share if known > 1 and share >= 0.5 else 0
        if self._is_aspect:
            return listed
        if self._is_named(candidate.names):
            return listed + 2
        return listed + (self._is_described(candidate.descriptions) or (known > 0 and self._is_hinted(candidate.hints)))

    def _may_be_of(self, candidate: ValueList) -> bool:
        """Whether the values look like those of the list: in Latin letters, mostly without digits, with capitals where due."""
        letters = [next((letter for letter in value if letter.isalpha()), " ") for value in self._values]
        latin = sum(unicodedata.name(letter, "").startswith("LATIN") for letter in letters)
        with_digits = sum(any(letter.isdigit() for letter in value) for value in self._values)
        capitals = sum(letter.isupper() for letter in letters)
        count = len(self._values)
        return 2 * latin > count > 2 * with_digits and (not candidate.proper or 2 * capitals > count)

    def _is_named(self, cues: Iterable[Words]) -> bool:
        return any(self._name[-len(cue) :] == cue for cue in cues)

    def _is_described(self, cues: Iterable[Words]) -> bool:
        return any(start[: len(cue)] == cue for cue in cues for start in self._starts)

    def _is_hinted(self, cues: tuple[Words, ...]) -> bool:
        return self._is_named(cues) or self._is_described(cues)


def _count_known(candidate: ValueList, values: Sequence[str]) -> int:
    """How many of the author's values the list has; of a full name, one of its words is enough."""
    members = set(map(str.casefold, candidate.values))
    by_word = len(candidate.kinds) > 1
    return sum(any(part in members for part in (plain.split() if by_word else [plain])) for plain in map(_plain, values))


def _fitted(found: ValueList, values: Sequence[str]) -> ValueList:
    """The list without the author's values; with an article or a capital where all of the author's values have one."""
    own = set(map(_plain, values))
    noun_form: Callable[[str], str] = str if found.proper else noun_form_of(values)
    return replace(
        found, kinds=tuple(tuple(noun_form(value) for value in kind if _plain(value) not in own) for kind in found.kinds)
    )


def noun_form_of(values: Sequence[str]) -> Callable[[str], str]:
    """What writes a common noun as the author does: with an article or a capital where all of the author's values have one."""
    with_article = all(_ARTICLE.match(value) for value in values)
    capitalized = all(value[0].isupper() for value in values)

    def written(noun: str) -> str:
        noun = f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}" if with_article else noun
        return noun[0].upper() + noun[1:] if capitalized else noun

    return written


def without_article(value: str) -> str:
    """`value` without the article that it may begin with."""
    return _ARTICLE.sub("", value)


def _plain(value: str) -> str:
    return without_article(value).casefold()


def _words(text: str) -> Words:
    return tuple(word.casefold() for word in _WORD.findall(_CAMEL.sub(" ", text)))
