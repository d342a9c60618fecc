"""`{{variable}}` substitution: the whole template language, so that an untrusted prompt cannot run code."""

import re
from collections.abc import Mapping
from functools import lru_cache

_VARIABLE = re.compile(r"\{\{\s*([a-zA-Z][a-zA-Z0-9_]*)\s*\}\}")
_BROKEN = re.compile(r"\{\{[^{}]*\}*|\{\0\}|\}\}")


@lru_cache(maxsize=16_384)  # a plan asks for the same few hundred texts millions of times
def variables_of(text: str) -> tuple[str, ...]:
    """Names of the variables in `text`, in order, without repetitions."""
    return tuple(dict.fromkeys(_VARIABLE.findall(text)))


def broken_placeholder(text: str) -> str | None:
    """What looks like a variable in `text` and is none, such as `{{first name}}` or `{{{day}}}`; `None` if there is nothing."""
    if "{{" not in text and "}}" not in text:
        return None
    broken = _BROKEN.search(_VARIABLE.sub("\0", text))
    inner = _VARIABLE.search(text)
    return broken[0].replace("\0", inner[0] if inner else "") if broken else None


def render(text: str, values: Mapping[str, str]) -> str:
    """`text` with every variable replaced. Raises KeyError for a variable without a value."""
    return _VARIABLE.sub(lambda match: values[match.group(1)], text)


def replace_known(text: str, values: Mapping[str, str]) -> str:
    """`text` with every variable replaced that has a value; the others stay as they are."""
    return _VARIABLE.sub(lambda match: values.get(match.group(1), match.group()), text)


def split(text: str) -> list[str]:
    """Alternating literal text and variable names, such as `["to ", "city", "!"]`; literals have even indices."""
    return _VARIABLE.split(text)
