"""The page of all fields of the three kinds, from the models: docs/reference/api.md, which `make generate` writes."""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from subterra_api.v1alpha1 import GROUP, VERSION
from subterra_api.v1alpha1.base import ApiModel

Schema = Mapping[str, Any]

HEAD = f"""\
# The API, field by field

Generated from `api/subterra_api` by `make generate`. Do not edit. `kubectl explain` shows the same texts.

All kinds are in {GROUP}/{VERSION}, and all that they refer to is in their own namespace. The API server fills in no
default of a spec: a stored object holds what its author wrote, and the operator decides the rest when it acts. What
procedures mean is on the page of the [procedure language](procedure-language.md), what conditions and phases mean on
that of [states](states.md).
"""
WIDTH = 120
DEFAULT = re.compile(r"\s*Default: (.+)\.$")


def page(kinds: Sequence[tuple[str, str, type[ApiModel], type[ApiModel]]]) -> str:
    """The page in Markdown; ``kinds`` are name, description and the models of spec and status."""
    parts, known = [HEAD], set[str]()
    for name, description, spec, status in kinds:
        parts.append(f"## {name}\n\n{textwrap.fill(description, WIDTH)}\n")
        for model in (spec, status):
            schema = model.model_json_schema(by_alias=True) | {"title": model.__name__}
            definitions = schema.get("$defs", {})
            for each in (schema, *_types_of_fields(schema, definitions)):
                if each["title"] not in known:
                    known.add(each["title"])
                    parts.append(_table(each, definitions))
    return "\n".join(parts)


def _types_of_fields(schema: Schema, definitions: Mapping[str, Schema]) -> Iterator[Schema]:
    """The types with fields of their own that fields of ``schema`` have, and fields of these, in the order of reading."""
    for node in schema["properties"].values():
        for each in _parts(node, definitions):
            yield each
            yield from _types_of_fields(each, definitions)


def _parts(node: Schema, definitions: Mapping[str, Schema]) -> Iterator[Schema]:
    """The types with fields of their own that a field's type is made of."""
    if "$ref" in node:
        yield definitions[node["$ref"].rpartition("/")[2]]
    elif "properties" in node:
        yield node
    for inner in (*node.get("anyOf", []), node.get("items"), node.get("additionalProperties")):
        if isinstance(inner, Mapping):
            yield from _parts(inner, definitions)


def _table(schema: Schema, definitions: Mapping[str, Schema]) -> str:
    """A heading and a row for each field of a type."""
    required, rows = schema.get("required", []), []
    for field, node in schema["properties"].items():
        text = " ".join(_description(node, definitions).split())
        rows.append(_row(field, _type(node), "required" if field in required else "", text))
    return "\n".join([f"### {schema['title']}\n", "| field | type | default | meaning |", "|---|---|---|---|", *rows, ""])


def _description(node: Schema, definitions: Mapping[str, Schema]) -> str:
    """What a field means: its own text, or else that of its type."""
    if "description" in node or "$ref" not in node:
        return str(node.get("description", ""))
    return str(definitions[node["$ref"].rpartition("/")[2]].get("description", ""))


def _row(field: str, kind: str, default: str, text: str) -> str:
    if found := DEFAULT.search(text):
        text, default = text[: found.start()], found[1]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in (f'`{field}`', kind, default, text))} |"


def _type(node: Schema) -> str:
    """The type of a field as readers know it, types of their own with a link."""
    if "$ref" in node or "properties" in node:
        name = node["$ref"].rpartition("/")[2] if "$ref" in node else node["title"]
        return f"[{name}](#{name.lower()})"
    options = [option for option in node.get("anyOf", []) if option.get("type") != "null"]
    if options:
        return " or ".join(dict.fromkeys(_type(option) for option in options))
    if values := node.get("enum", [node["const"]] if "const" in node else []):
        return ", ".join(f"`{value}`" if value else '`""`' for value in values)
    if node.get("type") == "array":
        return f"list of {_type(node['items'])}"
    if node.get("type") == "object":
        values = node.get("additionalProperties", True)
        return "object" if isinstance(values, bool) else f"map of {_type(values)}"
    return f"{node.get('type', 'any')}{_bounds(node)}"


def _bounds(node: Schema) -> str:
    """The range of a number, or nothing."""
    least, most, above = (_number(node.get(bound)) for bound in ("minimum", "maximum", "exclusiveMinimum"))
    if least and most:
        return f", {least} to {most}"
    words = [f"at least {least}" if least else "", f"above {above}" if above else "", f"at most {most}" if most else ""]
    return "".join(f", {word}" for word in words if word)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,}".removesuffix(".0")
