"""The phrasebook of a locale: templates, frames and word lists from `locales/<name>/*.yaml`, validated.

Every template is either for training or held out, so that an evaluation can speak in sentences that no training conversation has.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from subterra_jobs.dialogue.phrasing.locale_data import LOCALES, locale_data
from subterra_jobs.errors import InvalidInputError

_FILES = ("choices", "courtesy", "frames", "values", "party", "grammar", "surface")
_SLOT = re.compile(r"\{(\w*)\}")
_WORD = re.compile(r"\w+")
Texts = tuple[str, ...]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Templates(_Entry):
    """Templates of one kind, for training and held out."""

    train: Annotated[Texts, Field(min_length=1)]
    held_out: Annotated[Texts, Field(min_length=1)]

    def of(self, held_out: bool) -> Texts:
        """The templates of one side."""
        return self.held_out if held_out else self.train


class SpeechAct(Templates):
    """Something that customers do with words. docs/reference/datasets.md says how an edge's act is recognized."""

    family: str
    overrides: str | None = None
    """The act that yields where cues of both are found."""
    request: bool = False
    cues: Annotated[Texts, Field(min_length=1)]
    avoid: Texts = ()
    like: Texts = ()
    """Words of a sibling's `when` that customers could mean by the same lines."""
    said: Annotated[Texts, Field(min_length=1)]


class ValueKind(Templates):
    """Clauses for the values of variables that have one of the names, or a cue in their description."""

    type: Literal["string", "integer", "dateRange"]
    names: Annotated[Texts, Field(min_length=1)]
    cues: Annotated[Texts, Field(min_length=1)]
    setting: Texts = ()
    """Words of which the system prompt must hold one, where the clauses fit no other business."""


class Frames(_Entry):
    """What stands around and between the parts of a line."""

    openings: Templates
    pauses: Templates
    closings: Templates
    goodwill: Templates
    polite: Templates
    softeners: Templates
    connectors: Templates
    fillers: Templates


class ValuePhrases(_Entry):
    """How values are given and corrected."""

    bare: Templates
    replaced: Templates
    corrected: Annotated[Texts, Field(min_length=1)]
    """Held out like those of `replaced`, for customers who are there to correct a value."""
    added: Templates
    kinds: dict[str, ValueKind]


class PartyPhrases(_Entry):
    """Who the people of a group are, by their number."""

    after: Templates
    before: Templates
    sizes: dict[int, Templates]
    subjects: dict[int, Templates]


class Grammar(_Entry):
    """Words by which sentences are taken apart and put together."""

    finite: Texts
    questions: Texts
    subjects: Texts
    prepositions: Texts
    conjunctions: Texts
    courtesy: Texts
    please: str
    pronouns: Texts
    else_words: Texts
    takes_value: Texts
    plural: Texts


class Slips(_Entry):
    """How typing goes wrong."""

    neighbours: dict[str, str]
    shortest: int
    keep: Texts


class Phrasebook(_Entry):
    """Everything that a locale holds."""

    acts: dict[str, SpeechAct]
    frames: Frames
    values: ValuePhrases
    party: PartyPhrases
    grammar: Grammar
    surface: Slips

    @model_validator(mode="after")
    def _check(self) -> "Phrasebook":
        if problems := [*self._shared(), *self._slots()]:
            raise ValueError("; ".join(problems))
        return self

    def templates(self) -> Iterator[tuple[str, Templates]]:
        """All templates, with the name of their place."""
        yield from ((f"acts.{name}", act) for name, act in self.acts.items())
        yield from ((f"frames.{name}", found) for name, found in self.frames)
        yield from ((f"values.{name}", getattr(self.values, name)) for name in ("bare", "replaced", "added"))
        yield from ((f"values.kinds.{name}", kind) for name, kind in self.values.kinds.items())
        yield from (("party.after", self.party.after), ("party.before", self.party.before))
        yield from ((f"party.sizes.{size}", found) for size, found in self.party.sizes.items())
        yield from ((f"party.subjects.{size}", found) for size, found in self.party.subjects.items())

    def _shared(self) -> Iterator[str]:
        """Templates that stand twice: on both sides a held-out line would be a trained one."""
        for name, found in self.templates():
            for side in (found.train, found.held_out):
                yield from (f"{name}: {text!r} stands twice; remove one" for text in _repeated(side))
        everything = [found for _, found in self.templates()]
        trained = {normal_form(text) for found in everything for text in found.train}
        held_out = [("values.corrected", self.values.corrected), *((name, found.held_out) for name, found in self.templates())]
        for name, texts in held_out:
            both = [text for text in texts if normal_form(text) in trained]
            yield from (f"{name}: {text!r} is held out and for training; keep one" for text in both)

    def _slots(self) -> Iterator[str]:
        allowed = {"acts": ["", "value"], "frames": [""]}
        exact = dict.fromkeys(("values.replaced", "values.corrected", "values.added"), "other value")
        exact |= dict.fromkeys(("party.after", "party.before"), "party")
        places = [(name, (*found.train, *found.held_out)) for name, found in self.templates()]
        for name, texts in [*places, ("values.corrected", self.values.corrected)]:
            part = name.split(".")[0]
            choices = [exact[name]] if name in exact else allowed.get(part, ["value"] if part == "values" else [""])
            for text in texts:
                if " ".join(sorted(_SLOT.findall(text))) not in choices:
                    wanted = " or ".join(f"{{{'} and {'.join(slots.split())}}}" if slots else "no slot" for slots in choices)
                    yield f"{name}: {text!r} needs {wanted}"


@lru_cache(maxsize=16_384)  # every line is searched for the same few hundred phrases
def normal_form(text: str) -> str:
    """`text` without case and punctuation: two templates with one normal form are one sentence. Marks alone stay."""
    return " ".join(_WORD.findall(text.casefold().replace("'", ""))) or text.strip()


def holds_any(text: str, phrases: Iterable[str]) -> bool:
    """True if one of `phrases` stands in `text` as whole words, whatever its case and punctuation."""
    padded = f" {normal_form(text)} "
    return any(f" {normal_form(phrase)} " in padded for phrase in phrases)


def load_phrasebook(locale: str = "en", locales: Path = LOCALES) -> Phrasebook:
    """The phrasebook of `locale`. Raises InvalidInputError naming what is wrong in its files."""
    return _phrasebook(locale, locales)


@cache  # of its own, because a cache tells apart whether a default is written out
def _phrasebook(locale: str, locales: Path) -> Phrasebook:
    folder = locales / locale
    if not folder.is_dir():
        known = ", ".join(sorted(each.name for each in locales.iterdir() if each.is_dir()))
        raise InvalidInputError(f"there is no locale {locale!r} for customer phrasings; use one of: {known}")
    files = {name: locale_data(name, locale, locales) for name in _FILES}
    content: dict[str, Any] = {name: files[name] for name in ("frames", "values", "party", "grammar", "surface")}
    try:
        return Phrasebook.model_validate(content | {"acts": _acts(files["choices"], files["courtesy"])})
    except (ValidationError, ValueError) as error:
        raise InvalidInputError(f"the phrasebook {folder} is invalid: {error}") from None


def _acts(*files: dict[str, Any]) -> dict[str, Any]:
    acts: dict[str, Any] = {}
    for file in files:
        if twice := acts.keys() & file["acts"].keys():
            raise ValueError(f"the acts {', '.join(sorted(twice))} stand in two files; keep one")
        acts |= file["acts"]
    return acts


def _repeated(texts: Texts) -> list[str]:
    forms = [normal_form(text) for text in texts]
    return [text for index, text in enumerate(texts) if forms[index] in forms[:index]]
