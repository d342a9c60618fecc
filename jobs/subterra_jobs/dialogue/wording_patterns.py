"""Matches text against the templates that it may come from. Pure."""

import re
from dataclasses import dataclass

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.template import split

_SLOT_LIMIT = 80


@dataclass(frozen=True)
class Pattern:
    """A template as regular expression. `literal` is the number of fixed characters: the more, the surer the match."""

    regex: re.Pattern[str]
    variables: tuple[str, ...]
    literal: int


def max_value_length(spec: ProcedureSpec) -> int:
    """Maximum length of a variable's value in a conversation, in characters."""
    return max([_SLOT_LIMIT, *(2 * len(value) for variable in spec.variables for value in variable.values)])


def compile_pattern(template: str, limit: int) -> Pattern:
    """Pattern of a template, with any values of up to `limit` characters."""
    parts = split(" ".join(template.split()))
    literals, variables = parts[::2], tuple(parts[1::2])
    # Values are bounded and lazy, so that a hostile reply cannot make matching slow; (?!\s): no value starts with a space.
    slot = rf"((?!\s).{{1,{limit}}}?)"
    return Pattern(re.compile(slot.join(map(re.escape, literals)), re.DOTALL), variables, sum(map(len, literals)))
