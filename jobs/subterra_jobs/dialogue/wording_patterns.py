"""Matches text against the templates that it may come from. Pure."""

import re
from dataclasses import dataclass
from functools import cached_property

from subterra_api.unicode_forms import alike, composed
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.template import split

_SLOT_LIMIT = 80
_Place = tuple[int, int]
"""Where a value begins and ends in a text."""


@dataclass(frozen=True)
class Pattern:
    """A template as what stands around its variables, in the form of `alike`. No value starts with a space."""

    literals: tuple[str, ...]
    """One more than there are variables."""
    variables: tuple[str, ...]
    limit: int
    """Characters of the longest value."""

    @cached_property
    def literal(self) -> int:
        """Number of fixed characters: the more, the surer the match."""
        return sum(map(len, self.literals))

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """The same for a text, in the form of `alike`, that begins with the template."""
        slot = rf"((?!\s).{{1,{self.limit}}}?)"
        return re.compile(slot.join(map(re.escape, self.literals)), re.DOTALL)

    def values(self, text: str) -> tuple[str, ...] | None:
        """The values in a text that is the template, each as short as can be, the first ones before the others; else `None`.

        A regular expression would find the same, but might take hours for a reply that is stuck in a list of commas: here no place
        is tried twice for a variable.
        """
        first, last, written = self.literals[0], self.literals[-1], composed(text)
        text = alike(text)
        if not (text.startswith(first) and text.endswith(last)):
            return None
        if not self.variables:
            return () if text == first else None
        places = self._places_from(text, len(first), 0, set())
        return None if places is None else tuple(written[start:end] for start, end in places)

    def _places_from(self, text: str, start: int, index: int, failed: set[tuple[int, int]]) -> tuple[_Place, ...] | None:
        """The places of the variables from number `index` on; the first begins at `start`."""
        if start >= len(text) or text[start].isspace() or (index, start) in failed:
            return None
        following = self.literals[index + 1]
        if index + 1 == len(self.variables):
            end = len(text) - len(following)
            return ((start, end),) if 1 <= end - start <= self.limit else None
        end = start
        while (end := text.find(following, end + 1, start + self.limit + len(following))) >= 0:
            if (rest := self._places_from(text, end + len(following), index + 1, failed)) is not None:
                return ((start, end), *rest)
        failed.add((index, start))
        return None


def max_value_length(spec: ProcedureSpec) -> int:
    """Maximum length of a variable's value in a conversation, in characters."""
    return max([_SLOT_LIMIT, *(2 * len(value) for variable in spec.variables for value in variable.values)])


def compile_pattern(template: str, limit: int) -> Pattern:
    """Pattern of a template, with any values of up to `limit` characters."""
    parts = split(alike(" ".join(template.split())))
    return Pattern(tuple(parts[::2]), tuple(parts[1::2]), limit)
