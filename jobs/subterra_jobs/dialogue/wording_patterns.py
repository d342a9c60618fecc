"""Reads words back to the wording that they were made from. Pure."""

import re
from dataclasses import dataclass

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.template import split

_SLOT_LIMIT = 80


@dataclass(frozen=True)
class Pattern:
    """A wording as regular expression. ``literal`` is the number of fixed characters: the more, the surer the match."""

    regex: re.Pattern[str]
    variables: tuple[str, ...]
    literal: int


def longest_value(spec: ProcedureSpec) -> int:
    """Characters that a value in somebody's words may have."""
    return max([_SLOT_LIMIT, *(2 * len(value) for variable in spec.variables for value in variable.values)])


def pattern(wording: str, limit: int) -> Pattern:
    """Matches ``wording`` with any values of up to ``limit`` characters."""
    parts = split(" ".join(wording.split()))
    literals, variables = parts[::2], tuple(parts[1::2])
    # Values are bounded and lazy, so that a hostile reply cannot make matching slow; (?!\s): no value starts with a space.
    slot = rf"((?!\s).{{1,{limit}}}?)"
    return Pattern(re.compile(slot.join(map(re.escape, literals)), re.DOTALL), variables, sum(map(len, literals)))
