"""Finds values of the procedure's variables in free words. Pure."""

import re
from collections.abc import Iterable, Iterator, Mapping

from subterra_api.unicode_forms import alike
from subterra_api.v1alpha1.procedure import Variable

Slots = tuple[tuple[str, str], ...]
"""Names of variables and the values that were said."""


def masked(text: str, values: Mapping[str, str]) -> str:
    """`text` with names of variables in place of their values, so that texts are alike whatever the values are."""
    names = {_without_case(value): name for name, value in reversed([*values.items()])}
    pattern = _any_of([*values.values(), *names])
    replaced = pattern.sub(lambda match: names[_without_case(match.group())], alike(text)) if pattern else alike(text)
    return " ".join(replaced.split())


def mentioned_values(text: str, variables: Iterable[Variable], values: Mapping[str, str]) -> Slots:
    """Values of `variables` that `text` states: the customer's own, or else others on the variable's list, which are wrong ones.

    What stands in place of a number, a date or an unlisted value stays unknown.
    """
    pattern = _any_of(values.values())
    stated = {_without_case(match.group()) for match in pattern.finditer(alike(text))} if pattern else set()
    rest = masked(text, values)
    return tuple(slot for variable in variables for slot in _slots(variable, values.get(variable.name, ""), stated, rest))


def _slots(variable: Variable, meant: str, stated: set[str], rest: str) -> Iterator[tuple[str, str]]:
    if meant and _without_case(meant) in stated:
        yield variable.name, meant
        return
    pattern = _any_of(variable.values)
    if pattern is None:
        return
    listed = {_without_case(value): value for value in variable.values}
    for found in dict.fromkeys(_without_case(match.group()) for match in pattern.finditer(rest)):
        yield variable.name, listed[found]


def _without_case(text: str) -> str:
    """Equal for all that a pattern without case takes for the same; it takes Turkish letters for an i, `casefold` does not."""
    return alike(text).replace("İ", "i").replace("ı", "i").casefold()


def _any_of(values: Iterable[str]) -> re.Pattern[str] | None:
    """Any of the values as whole words, in upper or lower case, the longest first: "2" in "2 May" is part of the date."""
    found = sorted(map(alike, filter(None, values)), key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, found))})(?!\w)", re.IGNORECASE) if found else None
