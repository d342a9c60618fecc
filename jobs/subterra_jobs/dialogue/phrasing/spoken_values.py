"""Values as people say them: a group by who is in it, a long number in groups, a value corrected in the same breath."""

import random
import re

from subterra_api.v1alpha1.procedure import Variable
from subterra_jobs.dialogue.phrasing.phrasebook import PartyPhrases, Phrasebook, ValuePhrases, holds_any, normal_form
from subterra_jobs.dialogue.sampling import sample_values

PEOPLE = "people"
"""Name of the kind of value that a party composition can stand for."""
_TRIES = 8
_LONG = 5
"""Digits from which a number is written in groups."""
_WORD_START = re.compile(r"(?<=[a-z])(?=[A-Z])")
_NUMBER = re.compile(r"\d[\d,.]*")


def value_kind(book: Phrasebook, variable: Variable, system_prompt: str) -> str | None:
    """The kind of a variable's values by its name and description; `None` if no kind or more than one fits."""
    words = normal_form(_WORD_START.sub(" ", variable.name).replace("_", " "))
    kinds = [
        name
        for name, kind in book.values.kinds.items()
        if kind.type == variable.type
        and (words in map(normal_form, kind.names) or holds_any(variable.description, kind.cues))
        and (not kind.setting or holds_any(system_prompt, kind.setting))
    ]
    return kinds[0] if len(kinds) == 1 else None


def is_long_number(variable: Variable, value: str) -> bool:
    """Whether the value is a number that people write in groups: of an order or an account."""
    return variable.type == "integer" and not variable.formats and value.isdecimal() and len(value) >= _LONG


def grouped(number: str, rng: random.Random) -> str:
    """The digits in groups of two or three, counted from the end: 734 218, 73-42-18."""
    size, separator = rng.choice((3, 3, 2)), rng.choice((" ", " ", "-"))
    first = len(number) % size
    starts = range(first, len(number), size)
    return separator.join(part for part in (number[:first], *(number[at : at + size] for at in starts)) if part)


class Party:
    """Says who the people of a group are."""

    def __init__(self, phrases: PartyPhrases, *, held_out: bool) -> None:
        self._phrases, self._held_out = phrases, held_out

    def clause(self, count: str, rng: random.Random) -> tuple[str, str] | None:
        """A frame and what `{party}` in it stands for, for as many people as `count` says in digits; `None` if there is none."""
        size = int(count) if count.isascii() and count.isdigit() else 0
        forms = [(self._phrases.after, self._phrases.sizes.get(size)), (self._phrases.before, self._phrases.subjects.get(size))]
        known = [(frame, found) for frame, found in forms if found is not None]
        if not known:
            return None
        weights = [len(frame.of(self._held_out)) for frame, _ in known]
        frames, compositions = rng.choices(known, weights)[0]
        return rng.choice(frames.of(self._held_out)), rng.choice(compositions.of(self._held_out))


class Corrections:
    """Lets customers say another value first and correct it within the turn."""

    def __init__(self, phrases: ValuePhrases, *, held_out: bool) -> None:
        self._phrases, self._held_out = phrases, held_out

    def other_value(self, variable: Variable, value: str, rng: random.Random) -> str | None:
        """Another value of `variable`, for numbers in the same form; `None` if there is none that can be told from `value`."""
        for _ in range(_TRIES):
            other = sample_values([variable], rng, unseen=self._held_out, rich=True)[variable.name]
            alike = variable.type != "integer" or _form(other) == _form(value)
            if alike and other not in value and value not in other:
                return other
        return None

    def corrected(self, line: str, name: str, other_name: str, rng: random.Random) -> tuple[str, str]:
        """`line` with variable `other_name` said before `name` or in its place, and the template that was used."""
        value, other = f"{{{{{name}}}}}", f"{{{{{other_name}}}}}"
        added = not line.endswith("?") and rng.random() < 0.3
        template = rng.choice((self._phrases.added if added else self._phrases.replaced).of(self._held_out))
        said = template.replace("{other}", other).replace("{value}", value)
        if added:
            return f"{line.replace(value, other).rstrip('.!')}. {said}", template
        return line.replace(value, said, 1), template


def _form(value: str) -> str:
    return _NUMBER.sub("0", value)
