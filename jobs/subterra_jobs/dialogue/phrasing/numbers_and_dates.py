"""Numbers and dates as people write them: "five", "the 14th of March". Words and forms: `locales/<locale>/`."""

import random
import re
from dataclasses import dataclass
from datetime import date
from typing import Any

from subterra_jobs.dialogue.phrasing.locale_data import locale_data

LARGEST_SPELLED = 99
_FIELD = re.compile(r"\{(start|end)(?::([^{}]*))?\}")
_LETTERS = re.compile(r"[^\W\d_]+")
_MONTHS = ("%B", "%b", "%h", "%m", "%-m", "%x", "%c", "%D", "%F", "%j")
_MONTH_NAMES = ("%B", "%b", "%h")
_YEARS = ("%Y", "%y", "%x", "%c", "%D", "%F")


@dataclass(frozen=True)
class _SpokenDay:
    """The parts of a date that forms are made of."""

    day: int
    ordinal: str
    month: str
    short: str
    year: int


def spelled(number: int, locale: str = "en") -> str:
    """A number from 0 to `LARGEST_SPELLED` in words."""
    words = locale_data("numbers_and_dates", locale)["numbers"]
    small: list[str] = words["below_twenty"]
    if number < len(small):
        return small[number]
    tens, ones = divmod(number, 10)
    text: str = words["tens"][tens - 2]
    return f"{text}{words['joint']}{small[ones]}" if ones else text


def usable_formats(formats: tuple[str, ...], start: date, end: date) -> tuple[str, ...]:
    """The formats that say when `end` is: "{start:%-d} to {end:%-d %B}" gives one month, so both days have to be in it."""
    one_month = (start.year, start.month) == (end.year, end.month)
    return tuple(text for text in formats if one_month or not _gives_one_month(text))


def other_form(text: str, formats: tuple[str, ...], start: date, end: date, rng: random.Random, locale: str = "en") -> str | None:
    """The date in a form that is none of the author's, in place of format `text`; `None` where it could say less or be foreign."""
    content = locale_data("numbers_and_dates", locale)
    directives = " ".join(spec for _, spec in _FIELD.findall(" ".join(formats)))
    literal = {word.casefold() for word in _LETTERS.findall(_FIELD.sub(" ", " ".join(formats)))}
    if not _has(directives, _MONTH_NAMES) or not literal <= set(content["words"]):
        return None
    kind = _kind(text, start, end) + ("_with_year" if _has(directives, _YEARS) else "")  # the year is part of a date of birth
    forms: list[str] = content["forms"].get(kind, [])
    days = {"start": _spoken(start, content), "end": _spoken(end, content)}
    return rng.choice(forms).format(**days) if forms else None


def _kind(text: str, start: date, end: date) -> str:
    if {side for side, _ in _FIELD.findall(text)} == {"start"} or start == end:
        return "day"
    return "range_within_a_month" if (start.year, start.month) == (end.year, end.month) else "range"


def _gives_one_month(text: str) -> bool:
    """Whether a format with both days names the month of only one of them."""
    named = {side: False for side, _ in _FIELD.findall(text)}
    for side, spec in _FIELD.findall(text):
        named[side] |= not spec or _has(spec, _MONTHS)
    return len(named) == 2 and len(set(named.values())) == 2


def _has(spec: str, directives: tuple[str, ...]) -> bool:
    return any(directive in spec for directive in directives)


def _spoken(day: date, content: dict[str, Any]) -> _SpokenDay:
    ending = content["ordinal_endings"].get(day.day, content["other_ordinal_ending"])
    month, short = (content[key][day.month - 1] for key in ("months", "short_months"))
    return _SpokenDay(day.day, f"{day.day}{ending}", month, short, day.year)
