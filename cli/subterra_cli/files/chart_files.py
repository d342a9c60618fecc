"""The chart's schema and the page of its values: `python -m subterra_cli.files.chart_files [--check]` writes or compares them.

Types come from `ChartValues`; defaults and descriptions from `charts/subterra/values.yaml`, where a value's description is the
comment directly above it.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from subterra_api.file_generator import write_or_check
from subterra_cli.files.chart_values import ChartValues

Schema = dict[str, Any]
Steps = tuple[str, ...]

VALUES = Path("charts/subterra/values.yaml")
SCHEMA_FILE = Path("charts/subterra/values.schema.json")
PAGE = Path("docs/reference/chart-values.md")
DIALECT = "http://json-schema.org/draft-07/schema#"
RESOURCE_NAME = r"^(cpu|memory|ephemeral-storage|hugepages-.+|.+/.+)$"
TOLERATION_RULE: list[Schema] = [
    {"required": ["key"], "properties": {"key": {"minLength": 1}}},
    {"required": ["operator"], "properties": {"operator": {"const": "Exists"}}},
]
"""A toleration names a key, or tolerates everything."""
HEAD = """\
# Values of the chart

Generated from [`charts/subterra/values.yaml`](../../charts/subterra/values.yaml) by `make generate`. Do not edit.

Helm refuses a value that is not in this table, and one of another type, before anything is installed. `null` removes a
default, as everywhere in Helm. A value in a table of its own is described there.

"""


@dataclass(frozen=True)
class Value:
    """One value of the chart: its path, default and description."""

    steps: Steps
    default: Any
    description: str

    @property
    def name(self) -> str:
        return ".".join(self.steps)


def schema(values_text: str) -> Schema:
    """The JSON schema of the values, with descriptions from their comments."""
    generated = ChartValues.model_json_schema(by_alias=True)
    definitions = generated.pop("$defs", {})
    result = _strict(_resolved(generated, definitions))
    for value in described_values(values_text):
        _at(result, value.steps)["description"] = value.description
    return {"$schema": DIALECT, "title": "Values of the Subterra chart", **_without_titles(result)}


def _resolved(node: Any, definitions: Mapping[str, Any]) -> Any:
    """`node` with every reference replaced by what it names."""
    if isinstance(node, list):
        return [_resolved(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = definitions[node["$ref"].rpartition("/")[2]]
        node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    return {key: _resolved(value, definitions) for key, value in node.items()}


def _strict(node: Any) -> Any:
    """`node` without defaults and required fields, which `values.yaml` has, and with the demands that JSON schema can state."""
    if isinstance(node, list):
        return [_strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    result = {key: _strict(value) for key, value in node.items() if key not in ("default", "description")}
    if node.get("title") == "Toleration":
        result |= {"additionalProperties": False, "anyOf": TOLERATION_RULE}
    if node.get("title") == "ResourceRequirements":
        for part in result["properties"].values():
            part["propertyNames"] = {"pattern": RESOURCE_NAME}
            part["additionalProperties"] = {"anyOf": [*part["additionalProperties"]["anyOf"], {"type": "null"}]}
    return result


def _without_titles(node: Any) -> Any:
    """`node` without the titles that pydantic gives; a value of that name stays."""
    if isinstance(node, list):
        return [_without_titles(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {key: _without_titles(value) for key, value in node.items() if key != "title" or isinstance(value, dict)}


def _at(schema: Schema, steps: Steps) -> Schema:
    """The schema of the value at `steps`. Raises KeyError when there is none."""
    for step in steps:
        schema = schema["properties"][step]
    return schema


def described_values(text: str) -> Iterator[Value]:
    """Values with a comment directly above them, in the order of the file."""
    steps: list[tuple[int, str]] = []
    comment: list[str] = []
    data = yaml.safe_load(text)
    for line in text.splitlines():
        if found := re.match(r"^( *)# ?(.*)$", line):
            comment.append(found.group(2))
        elif found := re.match(r"^( *)([\w-]+):", line):
            indent = len(found.group(1))
            steps = [step for step in steps if step[0] < indent] + [(indent, found.group(2))]
            if comment:
                path = tuple(name for _, name in steps)
                yield Value(path, _default(data, path), " ".join(comment))
            comment = []
        else:
            comment = []


def _default(data: Any, steps: Steps) -> Any:
    for step in steps:
        data = data[step]
    return data


def leaves(node: Schema, default: Any, steps: Steps = ()) -> Iterator[tuple[Value, Schema]]:
    """Every value that is not a group of others, with its schema."""
    properties = node.get("properties", {})
    if not properties or set(properties) == {"requests", "limits"}:
        yield Value(steps, default, node.get("description", "")), node
        return
    for name, inner in properties.items():
        if name != "global":
            yield from leaves(inner, default[name], (*steps, name))


def page(values_text: str) -> str:
    """The reference page of the values."""
    made = schema(values_text)
    data = yaml.safe_load(values_text)
    parts = [HEAD]
    for name, inner in made["properties"].items():
        if name == "global":
            continue
        parts.append(f"## {name}\n\n")
        if description := inner.get("description"):
            parts.append(_wrapped(description) + "\n\n")
        rows = [_row(value, node, name) for value, node in leaves(inner, data[name], (name,))]
        parts.append("| value | type | default | meaning |\n|---|---|---|---|\n" + "".join(rows) + "\n")
    return "".join(parts).rstrip("\n") + "\n"


def _row(value: Value, node: Schema, group: str) -> str:
    meaning = value.description if value.name != group else ""
    cells = (f"`{value.name}`", kind(node), f"`{json.dumps(value.default, ensure_ascii=False)}`", meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _wrapped(text: str, width: int = 120) -> str:
    lines = [""]
    for word in text.split():
        lines = [*lines[:-1], f"{lines[-1]} {word}".strip()] if len(lines[-1]) + len(word) < width else [*lines, word]
    return "\n".join(lines)


def kind(node: Schema) -> str:
    """A value's type in words."""
    if "enum" in node:
        return ", ".join(node["enum"])
    if "type" not in node:
        return " or ".join(dict.fromkeys(kind(option) for option in node["anyOf"]))
    if node.get("type") == "array":
        return f"list of {kind(node['items'])}"
    names = {"object": "mapping", "boolean": "true or false", "integer": "whole number"}
    return names.get(node["type"], str(node["type"]))


def files(root: Path) -> dict[Path, str]:
    """The generated files below `root`, with their content."""
    text = (root / VALUES).read_text("utf-8")
    return {SCHEMA_FILE: json.dumps(schema(text), indent=2, ensure_ascii=False) + "\n", PAGE: page(text)}


def main() -> int:
    """Writes the files below the current directory; with `--check`, lists outdated ones and returns 1."""
    return write_or_check(files(Path()), __doc__)


if __name__ == "__main__":
    sys.exit(main())
