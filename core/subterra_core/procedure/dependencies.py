"""Variables that depend on others: `min`, `max` and `after` name a variable whose value is a bound. Pure."""

from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import date, timedelta

from subterra_api.v1alpha1.procedure import Variable
from subterra_core.procedure.template import variables_of

_LONGEST = timedelta(days=366)
"""Of a date range."""


def is_day(text: str) -> bool:
    """Whether ``text``, as year-month-day, is a day of the calendar on which a range can begin; February 30 is none."""
    try:
        date.fromisoformat(text) + _LONGEST
    except (ValueError, OverflowError):
        return False
    return True


def bounds_of(variable: Variable) -> dict[str, str]:
    """The name of the variable behind each of `min`, `max` and `after` that is set."""
    if variable.min is None and variable.max is None and variable.after is None:
        return {}  # most variables, and asked for with every value that is drawn
    fields = {"min": variable.min, "max": variable.max, "after": variable.after}
    return {field: variables_of(text)[0] for field, text in fields.items() if text is not None}


def draw_order(variables: Iterable[Variable]) -> list[Variable]:
    """`variables`, each after those among them that bound it, else in their own order. Ones in a cycle come last."""
    waiting = [(variable, set(bounds_of(variable).values())) for variable in variables]
    ordered: list[Variable] = []
    while waiting:
        names = {variable.name for variable, _ in waiting}
        ready = [variable for variable, bounds in waiting if names.isdisjoint(bounds)]
        if not ready:
            return ordered + [variable for variable, _ in waiting]
        ordered += ready
        waiting = [(variable, bounds) for variable, bounds in waiting if not names.isdisjoint(bounds)]
    return ordered


def cyclic_names(variables: Sequence[Variable]) -> list[str]:
    """Names of variables that depend on themselves, over others or at once."""
    bounds = {variable.name: set(bounds_of(variable).values()) for variable in variables}
    return [name for name in bounds if name in _all_bounds(name, bounds)]


def dependents(names: Set[str], variables: Sequence[Variable]) -> set[str]:
    """Variables that depend on one of `names`, over others or at once."""
    bounds = {variable.name: set(bounds_of(variable).values()) for variable in variables}
    return {name for name in bounds if not names.isdisjoint(_all_bounds(name, bounds))}


def at_most(variables: Sequence[Variable]) -> dict[str, set[str]]:
    """For each variable, the others that its value never exceeds, whatever is drawn."""
    above: dict[str, set[str]] = {variable.name: set() for variable in variables}
    for variable in variables:
        bounds = bounds_of(variable)
        if bounds.get("max") in above:
            above[variable.name].add(bounds["max"])
        if bounds.get("min") in above:
            above[bounds["min"]].add(variable.name)
    return {name: _all_bounds(name, above) for name in above}


def shows_end(variable: Variable) -> bool:
    """Whether the variable's formats write the end of the range; the default one does."""
    return not variable.formats or any("{end" in text for text in variable.formats)


def _all_bounds(name: str, bounds: Mapping[str, Set[str]]) -> set[str]:
    """What can be reached from `name`; `name` itself only over a cycle."""
    found, waiting = set[str](), list(bounds.get(name, ()))
    while waiting:
        here = waiting.pop()
        if here not in found:
            found.add(here)
            waiting += bounds.get(here, ())
    return found
