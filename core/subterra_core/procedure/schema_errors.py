"""Schema errors as findings for authors, in the form of lint's. Pure."""

from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from subterra_api.v1alpha1.base import ApiModel
from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec
from subterra_api.v1alpha1.compilerun import CompileRunSpec
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.lint.findings import Finding

_ROOTS: dict[str, type[ApiModel]] = {model.__name__: model for model in (ProcedureSpec, CompileRunSpec, CompiledAgentSpec)}
_SYNONYMS = {"if": "when", "condition": "when", "target": "to", "goto": "to", "edges": "next", "type": "role", "speaker": "role"}
"""Names that newcomers try, with the field they mean."""
_MAX_SHOWN = 60
_MAX_NAMED = 9
"""Fields of an object that a message lists."""

Explanation = tuple[str, str]
"""Problem and fix."""


def findings_of(error: ValidationError, root: str = "spec") -> Iterator[Finding]:
    """A finding for each schema error, with its field path below `root`."""
    for details in error.errors(include_url=False):
        if details["type"] == "too_short" and len(details["input"]) >= details["ctx"]["min_length"]:
            continue  # invalid entries do not count, but have errors of their own
        field = field_path(root, details["loc"])
        if details["type"] == "extra_forbidden":
            problem, fix = _unknown_field(str(details["loc"][-1]), _fields_at(error.title, details["loc"][:-1]))
        else:
            problem, fix = _EXPLANATIONS.get(details["type"], _fallback)(details)
        yield Finding("error", field, field, problem, fix)


def field_path(root: str, steps: Sequence[str | int]) -> str:
    """`root` followed by `steps`, such as `spec.nodes[3].next[1].when`."""
    return root + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)


def _unknown_field(name: str, fields: Sequence[str]) -> Explanation:
    if name.isdigit():
        return "there is no such field", "if it is the end of a number with a comma, write the number without it, such as 1000"
    synonym = _SYNONYMS.get(name)
    near = [synonym] if synonym in fields else get_close_matches(name, fields, n=1)
    if near:
        return "there is no such field", f"did you mean {near[0]}?"
    return "there is no such field", f"remove it, or use one of {', '.join(fields)}" if 0 < len(
        fields
    ) <= _MAX_NAMED else "remove it"


def _fields_at(root: str, steps: Sequence[str | int]) -> list[str]:
    """Field names of the object at `steps` below the model named `root`; empty if that is not known."""
    model = _ROOTS.get(root)
    for step in steps:
        if model is not None and isinstance(step, str):
            types = (field.annotation for name, field in model.model_fields.items() if step == (field.alias or name))
            model = next((nested for annotation in types for nested in _models_in(annotation)), None)
    return sorted(field.alias or name for name, field in model.model_fields.items()) if model else []


def _models_in(annotation: Any) -> Iterator[type[ApiModel]]:
    if isinstance(annotation, type) and issubclass(annotation, ApiModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _wrong_type(expected: str, fix: str) -> Callable[[ErrorDetails], Explanation]:
    return lambda details: (f"is {_kind(details['input'])}, not {expected}", fix)


def _kind(value: Any) -> str:
    kinds = {
        str: f"the string {_short(value)}",
        bool: str(value).lower(),
        dict: "a mapping",
        list: "a list",
        tuple: "a list",
        type(None): "empty",
    }
    return kinds.get(type(value), f"the number {_short(value)}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"


def not_a_string(value: Any) -> Explanation:
    """Problem and fix of a value that should be a string."""
    return f"is {_kind(value)}, not a string", "put it in quotes" if isinstance(value, bool | int | float) else "write a string"


def _not_a_number(details: ErrorDetails) -> Explanation:
    value = details["input"]
    looks_like_one = isinstance(value, str) and value[:1].isdigit() and not value.isdigit()
    fix = "write digits alone, such as 1000" if looks_like_one else "write digits without quotes"
    return f"is {_kind(value)}, not a whole number", fix


def _pattern(details: ErrorDetails) -> Explanation:
    value = _short(details["input"])
    if "[0-9]{4}" in details["ctx"]["pattern"]:
        return f"{value} is not a date", "write year-month-day, such as 2027-01-31"
    if "[0-9]{1,9}" in details["ctx"]["pattern"]:
        return f"{value} is not an amount in US dollars", 'write a number in quotes, such as "12.50"'
    joiners = "digits, _ and -" if "_-]" in details["ctx"]["pattern"] else "digits and _"
    return f"{value} is not a valid name", f"start with a letter from a to z, then use such letters, {joiners}"


def _too_long(details: ErrorDetails) -> Explanation:
    return f"has {len(details['input']):,} characters", f"shorten it to at most {details['ctx']['max_length']:,}"


def _too_many(details: ErrorDetails) -> Explanation:
    return f"has {_entries(details)}", f"keep at most {details['ctx']['max_length']:,}"


def _too_few(details: ErrorDetails) -> Explanation:
    return f"has {_entries(details)}", f"list at least {details['ctx']['min_length']:,}"


def _entries(details: ErrorDetails) -> str:
    count = len(details["input"])
    return "1 entry" if count == 1 else f"{count:,} entries"


def _too_short(details: ErrorDetails) -> Explanation:
    in_list = bool(details["loc"]) and isinstance(details["loc"][-1], int)
    return "is empty", f"write something, or {'remove the entry' if in_list else 'leave the field out if it is optional'}"


def _choice(details: ErrorDetails) -> Explanation:
    return f"is {_kind(details['input'])}", f"write {details['ctx']['expected'].replace(chr(39), '')}"


def _limit(comparison: str, key: str) -> Callable[[ErrorDetails], Explanation]:
    return lambda details: (f"is {_kind(details['input'])}", f"write a number {comparison} {details['ctx'][key]}")


def _validator_message(details: ErrorDetails) -> Explanation:
    """The message of a model's own validator, which separates problem and fix with a semicolon."""
    problem, _, fix = str(details["ctx"]["error"]).partition("; ")
    return problem, fix or "correct it"


def _fallback(details: ErrorDetails) -> Explanation:
    return f"is {_kind(details['input'])}: {details['msg'][:1].lower()}{details['msg'][1:]}", "correct it"


_EXPLANATIONS: dict[str, Callable[[ErrorDetails], Explanation]] = {
    "missing": lambda _: ("is missing", "add it"),
    "string_type": lambda details: not_a_string(details["input"]),
    "int_type": _not_a_number,
    "bool_type": _wrong_type("true or false", "write true or false without quotes"),
    "tuple_type": _wrong_type("a list", "begin each entry with a dash"),
    "model_type": _wrong_type("a mapping", "write its fields as name: value"),
    "model_attributes_type": _wrong_type("a mapping", "write its fields as name: value"),
    "string_pattern_mismatch": _pattern,
    "string_too_long": _too_long,
    "string_too_short": _too_short,
    "too_long": _too_many,
    "too_short": _too_few,
    "literal_error": _choice,
    "greater_than_equal": _limit("not below", "ge"),
    "greater_than": _limit("above", "gt"),
    "less_than_equal": _limit("not above", "le"),
    "less_than": _limit("below", "lt"),
    "value_error": _validator_message,
}
