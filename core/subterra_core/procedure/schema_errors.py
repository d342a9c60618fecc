"""What the schema refuses, in words for the author: findings of the same form as lint's. Pure."""

from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from subterra_api.v1alpha1.base import ApiModel
from subterra_api.v1alpha1.procedure import Edge, Guard, Knowledge, Node, Persona, ProcedureSpec, Variable
from subterra_core.procedure.lint.findings import Finding

_MODELS: tuple[type[ApiModel], ...] = (ProcedureSpec, Node, Edge, Guard, Variable, Persona, Knowledge)
_FIELDS = sorted({field.alias or name for model in _MODELS for name, field in model.model_fields.items()})
_SHOWN = 60

Words = tuple[str, str]
"""Problem and cure."""


def findings_of(error: ValidationError, root: str = "spec") -> Iterator[Finding]:
    """A finding for each thing that the schema refuses, with its field path below ``root``."""
    for details in error.errors(include_url=False):
        if details["type"] == "too_short" and len(details["input"]) >= details["ctx"]["min_length"]:
            continue  # entries that are wrong themselves do not count
        field = field_path(root, details["loc"])
        problem, cure = _WORDS.get(details["type"], _other)(details)
        yield Finding("error", field, field, problem, cure)


def field_path(root: str, steps: Sequence[str | int]) -> str:
    """``spec.nodes[3].next[1].when`` of the steps that lead there."""
    return root + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)


def _unknown(details: ErrorDetails) -> Words:
    near = get_close_matches(str(details["loc"][-1]), _FIELDS, n=1)
    return "there is no such field", f"did you mean {near[0]}?" if near else "remove it"


def _wrong_type(wanted: str, cure: str) -> Callable[[ErrorDetails], Words]:
    return lambda details: (f"is {_kind(details['input'])}, not {wanted}", cure)


def _kind(value: Any) -> str:
    named = {
        str: f"the text {_short(value)}",
        bool: str(value).lower(),
        dict: "a mapping",
        list: "a list",
        tuple: "a list",
        type(None): "empty",
    }
    return named.get(type(value), f"the number {_short(value)}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _text_wanted(details: ErrorDetails) -> Words:
    scalar = isinstance(details["input"], bool | int | float)
    return f"is {_kind(details['input'])}, not a text", "put it in quotes" if scalar else "write a text"


def _pattern(details: ErrorDetails) -> Words:
    written = _short(details["input"])
    if "[0-9]{4}" in details["ctx"]["pattern"]:
        return f"{written} is no day", "write year-month-day, such as 2027-01-31"
    if "[0-9]{1,9}" in details["ctx"]["pattern"]:
        return f"{written} is no amount of US dollars", 'write a number in quotes, such as "12.50"'
    joiners = "digits, _ and -" if "_-]" in details["ctx"]["pattern"] else "digits and _"
    return f"{written} is no name", f"begin with a letter from a to z, go on with such letters, {joiners}"


def _too_long(details: ErrorDetails) -> Words:
    return f"has {len(details['input']):,} characters", f"shorten it to at most {details['ctx']['max_length']:,}"


def _too_many(details: ErrorDetails) -> Words:
    return f"has {len(details['input']):,} entries", f"leave at most {details['ctx']['max_length']:,}"


def _too_few(details: ErrorDetails) -> Words:
    return f"has {len(details['input']):,} entries", f"write at least {details['ctx']['min_length']:,}"


def _choice(details: ErrorDetails) -> Words:
    return f"is {_kind(details['input'])}", f"write {details['ctx']['expected'].replace(chr(39), '')}"


def _limit(word: str, key: str) -> Callable[[ErrorDetails], Words]:
    return lambda details: (f"is {_kind(details['input'])}", f"write a number {word} {details['ctx'][key]}")


def _own(details: ErrorDetails) -> Words:
    """What a model's validator says."""
    problem, _, cure = str(details["ctx"]["error"]).partition("; ")
    return problem, cure or "correct it"


def _other(details: ErrorDetails) -> Words:
    return f"is {_kind(details['input'])}: {details['msg'][:1].lower()}{details['msg'][1:]}", "correct it"


_WORDS: dict[str, Callable[[ErrorDetails], Words]] = {
    "extra_forbidden": _unknown,
    "missing": lambda _: ("is missing", "add it"),
    "string_type": _text_wanted,
    "int_type": _wrong_type("a whole number", "write digits without quotes"),
    "bool_type": _wrong_type("true or false", "write true or false without quotes"),
    "tuple_type": _wrong_type("a list", "begin each entry with a dash"),
    "model_type": _wrong_type("a mapping", "write its fields as name: value"),
    "model_attributes_type": _wrong_type("a mapping", "write its fields as name: value"),
    "string_pattern_mismatch": _pattern,
    "string_too_long": _too_long,
    "string_too_short": lambda _: ("is empty", "write something, or leave the field out"),
    "too_long": _too_many,
    "too_short": _too_few,
    "literal_error": _choice,
    "greater_than_equal": _limit("not below", "ge"),
    "greater_than": _limit("above", "gt"),
    "less_than_equal": _limit("not above", "le"),
    "less_than": _limit("below", "lt"),
    "value_error": _own,
}
