"""Forms in which a value may be written: words without punctuation, numbers by value, dates by their parts. Pure."""

import re
from string import Formatter

from subterra_api.unicode_forms import alike

_UNIT_TEXT = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
    nineteen
"""
_TEN_TEXT = "twenty thirty forty fifty sixty seventy eighty ninety"
_MONTH_TEXT = "January February March April May June July August September October November December"
_DAY_TEXT = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
_UNITS, _TENS, _MONTHS, _DAYS = _UNIT_TEXT.split(), _TEN_TEXT.split(), _MONTH_TEXT.split(), _DAY_TEXT.split()
_SPELLED = {word: number for number, word in enumerate(_UNITS)} | {word: 20 + 10 * i for i, word in enumerate(_TENS)}
_SHORT_MONTHS = [month[:3].lower() for month in _MONTHS]
_WORD = re.compile(r"[^\W_]+")
_AMOUNT = r"\d+(?:,\d{3})*(?:\.\d+)?"
_NUMBER = re.compile(_AMOUNT)
_ORDINAL = re.compile(r"(?<=\d)(st|nd|rd|th)$")
_DIRECTIVE = re.compile(r"%-?([A-Za-z])")
_NAMES = {"B": _MONTHS, "b": [month[:3] for month in _MONTHS], "A": _DAYS, "a": [day[:3] for day in _DAYS]}
_DATE_PARTS = {letter: f"(?:{'|'.join(names)})" for letter, names in _NAMES.items()} | {"Y": r"\d{4}"}
"""Patterns of a date format's directives; the others are one or two digits."""


def plain_words(text: str) -> list[str]:
    """Words of a text in lower case, without punctuation."""
    return _WORD.findall(alike(text).casefold())


def contains(text: str, value: str) -> bool:
    """Whether a text has the words of a value in a row."""
    words = plain_words(value)
    return bool(words) and f" {' '.join(words)} " in f" {' '.join(plain_words(text))} "


def numbers_in(text: str) -> frozenset[float]:
    """Numbers in a text by value, in digits or spelled out up to ninety-nine."""
    written = {float(found.replace(",", "")) for found in _NUMBER.findall(alike(text))}
    return frozenset(written | set(_spelled_numbers(plain_words(text))))


def _spelled_numbers(words: list[str]) -> list[float]:
    numbers = list[float]()
    previous = ""
    for word in words:
        if word in _SPELLED:
            number = _SPELLED[word]
            if previous in _TENS and 0 < number < 10:
                numbers[-1] += number
            else:
                numbers.append(float(number))
        previous = word
    return numbers


def date_parts(text: str) -> frozenset[str]:
    """Days, months and years in a text, whatever their order; empty without a month's name."""
    words = plain_words(text)
    months = {word[:3] for word in words if word[:3] in _SHORT_MONTHS}
    days = {_ORDINAL.sub("", word).lstrip("0") for word in words if word[0].isdigit()}
    return frozenset(months | days) if months else frozenset()


def format_pattern(form: str) -> re.Pattern[str] | None:
    """Pattern of the texts that a variable's format writes; `None` where it writes nothing but numbers."""
    pattern, telling = "", False
    for literal, field, directives, _ in Formatter().parse(form):
        pattern += re.escape(literal)
        telling |= bool(literal.strip())
        if field is not None:
            dated = "%" in (directives or "")
            telling |= any(f"%{letter}" in (directives or "") for letter in _NAMES)
            pattern += _date_pattern(directives or "") if dated else _AMOUNT
    return re.compile(rf"(?<!\w){pattern}(?!\w)", re.IGNORECASE) if telling else None


def _date_pattern(directives: str) -> str:
    parts = _DIRECTIVE.split(directives)
    literals, letters = parts[::2], [*parts[1::2], ""]
    patterns = [_DATE_PARTS.get(letter, r"\d{1,2}") if letter else "" for letter in letters]
    return "".join(re.escape(text) + pattern for text, pattern in zip(literals, patterns, strict=True))
