"""Checks of `min`, `max` and `after`: each names another variable, and every scenario has a value between the bounds."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta

from subterra_api.v1alpha1.procedure import ProcedureSpec, Variable
from subterra_core.procedure.dependencies import at_most, bounds_of, cyclic_names, draw_order, is_day, shows_end
from subterra_core.procedure.lint.findings import Finding, did_you_mean, error

_TYPES = {"min": "integer", "max": "integer", "after": "dateRange"}
Range = tuple[int, int]
"""The smallest and the largest value that a scenario can have."""


def check_dependencies(spec: ProcedureSpec) -> Iterator[Finding]:
    """Errors for unknown variables, cycles, wrong types and ranges that may be empty."""
    located = {variable.name: f"spec.variables[{index}]" for index, variable in enumerate(spec.variables)}
    found = [*_wrong_references(spec.variables, located)]
    yield from found
    if not found and all(_is_complete(variable) for variable in spec.variables):
        yield from _empty_ranges(spec.variables, located)


def _wrong_references(variables: Sequence[Variable], located: Mapping[str, str]) -> Iterator[Finding]:
    declared = {variable.name: variable for variable in variables}
    cyclic = cyclic_names(variables)
    for variable in variables:
        where, path = f"variable {variable.name}", located[variable.name]
        for field, name in bounds_of(variable).items():
            kind = _TYPES[field]
            if variable.type != kind:
                problem = f"has {field}, which is for variables of type {kind}, and its type is {variable.type}"
                yield error(where, f"{path}.{field}", problem, "remove it")
            elif name not in declared:
                problem = f"has {field}: {{{{{name}}}}}, which is not declared"
                fix = did_you_mean(name, declared, "add it to spec.variables or correct it")
                yield error(where, f"{path}.{field}", problem, fix)
            elif declared[name].type != kind:
                problem = f"has {field}: {{{{{name}}}}}, whose type is {declared[name].type}"
                yield error(where, f"{path}.{field}", problem, f"name a variable of type {kind}")
        if variable.name in cyclic:
            others = ", ".join(name for name in cyclic if name != variable.name)
            problem = f"depends on itself{f', in a circle with {others}' if others else ''}"
            yield error(where, path, problem, "remove one of their min, max and after")


def _is_complete(variable: Variable) -> bool:
    """Whether its own range is usable; `check_variables` says what is missing."""
    if variable.type == "integer":
        return variable.minimum is not None and variable.maximum is not None and variable.minimum <= variable.maximum
    if variable.type == "dateRange":
        days = [day for day in (variable.from_, variable.to) if day and is_day(day)]
        return len(days) == 2 and days[0] <= days[1] and variable.min_days <= variable.max_days
    return True


def _empty_ranges(variables: Sequence[Variable], located: Mapping[str, str]) -> Iterator[Finding]:
    ranges: dict[str, Range] = {}
    last_days: dict[str, date] = {}
    for variable in draw_order(variables):
        where, path, bounds = f"variable {variable.name}", located[variable.name], bounds_of(variable)
        if variable.type == "integer":
            others = [each for each in variables if each is not variable]  # its own bounds prove nothing
            problems = [*_empty_numbers(variable, bounds, ranges, at_most(others))]
            ranges[variable.name] = _range(variable, bounds, ranges)
        elif variable.type == "dateRange":
            problems = [*_empty_dates(variable, bounds, last_days)]
            last_days[variable.name] = last_day(variable)
        else:
            continue
        for field, problem, fix in problems:
            yield error(where, f"{path}.{field}", problem, fix)


def _range(variable: Variable, bounds: Mapping[str, str], ranges: Mapping[str, Range]) -> Range:
    assert variable.minimum is not None and variable.maximum is not None  # _is_complete
    least = max(variable.minimum, ranges[bounds["min"]][0]) if "min" in bounds else variable.minimum
    most = min(variable.maximum, ranges[bounds["max"]][1]) if "max" in bounds else variable.maximum
    return least, max(least, most)


def _empty_numbers(
    variable: Variable, bounds: Mapping[str, str], ranges: Mapping[str, Range], never_above: Mapping[str, set[str]]
) -> Iterator[tuple[str, str, str]]:
    """Field, problem and fix where some values of the bounds leave no value."""
    assert variable.minimum is not None and variable.maximum is not None  # _is_complete
    highest = variable.minimum + (variable.maximum - variable.minimum) // variable.step * variable.step
    if (upper := bounds.get("max")) and (least := ranges[upper][0]) < variable.minimum:
        problem = f"has no value when {upper} is {least}, which is below its minimum {variable.minimum}"
        yield "max", problem, f"lower its minimum to {least}, or raise that of {upper} to {variable.minimum}"
    if (lower := bounds.get("min")) and (most := ranges[lower][1]) > highest:
        problem = f"has no value when {lower} is {most}, which is above its largest value {highest}"
        yield "min", problem, f"raise its maximum to {most}, or lower that of {lower} to {highest}"
    if lower and upper and ranges[lower][1] > ranges[upper][0] and upper not in never_above[lower]:
        problem = f"has no value when {lower} is above {upper}"
        yield "min", problem, f"give {lower} max: '{{{{{upper}}}}}', or {upper} min: '{{{{{lower}}}}}'"


def _empty_dates(variable: Variable, bounds: Mapping[str, str], last_days: Mapping[str, date]) -> Iterator[tuple[str, str, str]]:
    assert variable.to is not None  # _is_complete
    if (earlier := bounds.get("after")) and last_days[earlier] >= date.fromisoformat(variable.to):
        latest = last_days[earlier]
        problem = f"has no day when {earlier} ends on {latest}: its own last first day is {variable.to}"
        yield "after", problem, f"set to: '{latest + timedelta(days=1)}' or later"


def last_day(variable: Variable) -> date:
    """The latest day that a range of dates can show: its end, or its first day if no format has the end."""
    assert variable.to is not None
    return date.fromisoformat(variable.to) + timedelta(days=variable.max_days if shows_end(variable) else 0)
