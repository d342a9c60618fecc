"""YAML text to data, with the line of every field. Whatever the text holds: one finding, in bounded time and memory."""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml

from subterra_core.procedure.lint.findings import Finding

MAX_BYTES = 1024 * 1024
"""Above twice what the API server keeps of a procedure, so that indentation and comments fit too."""
MAX_DEPTH = 50
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")
_READER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class DocumentError(Exception):
    """The text is no YAML that can be used."""

    def __init__(self, line: int, problem: str, cure: str, field: str = "") -> None:
        super().__init__(problem)
        self.line = line
        self.finding = Finding("error", field or "file", field, problem, cure)


class _Loader(_READER):  # type: ignore[misc]
    """Keeps days as text, as kubectl does."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
        for first, found in _READER.yaml_implicit_resolvers.items()
    }


class Document:
    """One YAML document: its data, and where its fields stand."""

    def __init__(self, root: yaml.Node, data: Any) -> None:
        self._root = root
        self.data = data

    def line(self, field: str) -> int:
        """The line, from 1, of a field path such as ``spec.nodes[3].next[1].when``; of its nearest parent when it is not there."""
        found: Any = self._root
        line = self._root.start_mark.line + 1
        for name in _steps(field):
            if isinstance(found, yaml.MappingNode) and (entry := _entry(found, name)):
                line, found = entry[0].start_mark.line + 1, entry[1]
            elif isinstance(found, yaml.SequenceNode) and isinstance(name, int) and name < len(found.value):
                found = found.value[name]
                line = found.start_mark.line + 1
            else:
                break
        return line


def _entry(mapping: yaml.MappingNode, name: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    return next(((key, value) for key, value in mapping.value if key.value == name), None)


def _steps(field: str) -> Iterator[str | int]:
    for name, place in _STEP.findall(field):
        yield int(place) if place else name


def decode(content: bytes) -> str:
    """A file's text; a byte order mark and line ends of Windows are fine. Raises DocumentError."""
    if len(content) > MAX_BYTES:
        lines = content.split(b"\n")
        longest = max(range(len(lines)), key=lambda at: len(lines[at]))
        cure = f"shorten its texts; the longest line, {longest + 1}, has {len(lines[longest]):,} bytes"
        raise DocumentError(longest + 1, f"has {len(content):,} bytes, more than the {MAX_BYTES:,} that a procedure may have", cure)
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DocumentError(line, f"is no UTF-8 text: byte {content[error.start]:#04x}", "save the file as UTF-8") from None


def parse(text: str) -> list[Document]:
    """The documents of a YAML text. Raises DocumentError."""
    try:
        for depth, line in _depths(text):
            if depth > MAX_DEPTH:
                raise DocumentError(line, f"is nested more than {MAX_DEPTH} levels deep", "check the indentation")
        loader = _Loader(text)
        roots = []
        while loader.check_node():
            roots.append(loader.get_node())
        for root in roots:
            _check(root)
        return [Document(root, json_data(loader.construct_document(root))) for root in roots]
    except yaml.MarkedYAMLError as error:
        raise _syntax(error, text) from None
    except yaml.reader.ReaderError as error:
        line = text.encode().count(b"\n", 0, error.position) + 1
        character = error.character if isinstance(error.character, int) else ord(error.character)
        raise DocumentError(line, f"holds the character {character:#06x}, which YAML does not allow", "remove it") from None
    except RecursionError:
        raise DocumentError(1, "is nested too deeply when its anchors are followed", "use fewer anchors") from None
    except ValueError as error:
        raise DocumentError(1, f"holds a value that cannot be read: {error}", "put it in quotes") from None


def json_data(data: Any) -> Any:
    """``data`` as what a Kubernetes client would send: keys are text, and there is nothing but JSON."""
    return json.loads(json.dumps(data, default=str))


def _depths(text: str) -> Iterator[tuple[int, int]]:
    depth = 0
    for event in yaml.parse(text, Loader=_READER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        yield depth, event.start_mark.line + 1 if event.start_mark else 1


def _check(root: yaml.Node) -> None:
    """Refuses keys that are there twice, and anchors that multiply into more than a file may hold."""
    open_nodes = set[int]()

    @cache
    def weight(node: yaml.Node) -> int:
        line = node.start_mark.line + 1
        if id(node) in open_nodes:
            raise DocumentError(line, "has an anchor that contains itself", "write the part out")
        if isinstance(node, yaml.ScalarNode):
            return len(node.value) + 1
        open_nodes.add(id(node))
        keys = [key for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
        _no_key_twice(keys)
        parts = [part for pair in node.value for part in pair] if keys else node.value
        total = 1 + sum(weight(part) for part in parts)
        open_nodes.discard(id(node))
        if total > MAX_BYTES:
            raise DocumentError(
                line, f"grows to more than {MAX_BYTES:,} characters when its anchors are followed", "use fewer anchors"
            )
        return total

    weight(root)


def _no_key_twice(keys: list[yaml.Node]) -> None:
    first: dict[object, int] = {}
    for key in keys:
        name = key.value if isinstance(key, yaml.ScalarNode) else id(key)
        if name in first and name != "<<":
            problem = f"has the field {name!r} twice, first in line {first[name]}"
            raise DocumentError(key.start_mark.line + 1, problem, "remove one of them")
        first.setdefault(name, key.start_mark.line + 1)


def _syntax(error: yaml.MarkedYAMLError, text: str) -> DocumentError:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    lines = text.splitlines()
    written = lines[line - 1] if line <= len(lines) else ""
    indent = written[: len(written) - len(written.lstrip())]
    if "\t" in indent or (mark and written[mark.column : mark.column + 1] == "\t"):
        return DocumentError(line, "is no YAML: a tab stands where only spaces may", "indent with spaces")
    told = f"{error.context}: {error.problem}" if error.context else str(error.problem)
    return DocumentError(line, f"is no YAML: {told}", "check quotes, brackets and indentation here and in the line before")
