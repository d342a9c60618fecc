"""Values that a closed variable does not list, of a kind that fits the sentence in which the customer says one. Pure."""

import re
from collections.abc import Sequence

from subterra_api.v1alpha1.procedure import Variable
from subterra_jobs.dialogue.phrasing.locale_data import locale_data

_NUMBER = re.compile(r"\d+")
_NOUN_PLACE = re.compile(r"\b(?:a|an|the|my|our|your|this|that)\s*$", re.IGNORECASE)
_PHRASE_PLACE = re.compile(r"\b(?:at|by|for|from|in|of|on|since|to|until)\s*$", re.IGNORECASE)
_THING_PLACE = re.compile(r"\b(?:have|has|had|got|need|needs|want|wants|there(?:'s| is| are| was| were))\s*$", re.IGNORECASE)
_CLOCK = re.compile(r"\b([01]?\d|2[0-3]):(?=[0-5]\d\b)")
_ARTICLES = ("a ", "an ")


def unlisted_values(variable: Variable, before: str) -> Sequence[str]:
    """Values that `variable` has not in its list, where `before` is what the customer says in front of one."""
    words = locale_data("detours")
    kinds = ((_is_day, words["unlisted_days"]), (_has_number, _other_numbers(variable)), (_is_name, words["unlisted_names"]))
    for fits, found in kinds:
        if 2 * sum(map(fits, variable.values)) > len(variable.values):
            return [*found]
    strange: Sequence[str] = words["unlisted"]
    things = [value for value in strange if is_thing(value)]
    if _NOUN_PLACE.search(before):
        return [value.split(" ", 1)[1] for value in things]
    if names_things(variable) or _PHRASE_PLACE.search(before) or _THING_PLACE.search(before):
        return things
    return [value for value in strange if not is_thing(value)]


def names_things(variable: Variable) -> bool:
    """Whether most values are things, as in "a laptop"; others, as in "quieter", stand where a thing would make no sentence."""
    return 2 * sum(map(is_thing, variable.values)) > len(variable.values)


def is_thing(value: str) -> bool:
    """Whether a value is a noun with its article."""
    return value.startswith(_ARTICLES)


def _is_day(value: str) -> bool:
    return value.casefold() in locale_data("detours")["weekdays"]


def _has_number(value: str) -> bool:
    return _NUMBER.search(value) is not None


def _is_name(value: str) -> bool:
    return value[:1].isupper()


def _other_numbers(variable: Variable) -> list[str]:
    """The listed values with another last digit in each of their numbers, or another hour: "2 pm" becomes "5 pm"."""
    changed = (_changed(value, by) for value in variable.values for by in range(1, 10))
    return [value for value in dict.fromkeys(changed) if _has_number(value)]


def _changed(value: str, by: int) -> str:
    if _CLOCK.search(value):
        return _CLOCK.sub(lambda found: f"{_other_hour(found[1], by)}:", value)
    return _NUMBER.sub(lambda found: _other(found[0], by), value)


def _other_hour(hour: str, by: int) -> str:
    """Another hour of the same half of the day, so that "am" and "pm" stay true."""
    first, hours = (1, 12) if int(hour) <= 12 else (13, 11)
    return f"{first + (int(hour) - first + by) % hours:{'02' if hour.startswith('0') else ''}}"


def _other(number: str, by: int) -> str:
    last = (int(number[-1]) + by) % 10
    return f"{number[:-1]}{last or 5 if len(number) == 1 else last}"
