"""Parses YAML with the line of every field. Any input gives at most one finding, in bounded time and memory."""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml

from subterra_cli.files.yaml_slips import slips
from subterra_core.procedure.lint.findings import Finding

MAX_BYTES = 1024 * 1024
"""More than twice the API server's limit for a procedure, to leave room for indentation and comments."""
MAX_DEPTH = 50
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")
_FIXES = (
    (re.compile(r"constructor for the tag"), "remove the tag"),
    (re.compile(r"undefined alias"), "write the anchor (&name) before it, or put a text that begins with * in quotes"),
    (re.compile(r"(?:^\s*-|:|,|\[)\s*\{\{"), "put a text that begins with {{ in quotes"),
    (re.compile(r"cannot start any token"), "put the text that begins with it in quotes"),
    (re.compile(r"'[^'\"]*\w'\w"), "write an apostrophe twice within single quotes, or use double quotes"),
    (re.compile(r":\s+[^\s'\"\[{&*|>][^'\"{}\[\],#]*:\s"), "put a text with a colon in quotes"),
    (re.compile(r"[{\[,:]\s+[^'\"{}\[\],:]+\{\{"), "put a text with {{ in quotes"),
    (re.compile(r"[{\[,:]\s*[^\s'\"{}\[\],][^'\"{}\[\],]*\s#"), "put a text with # in quotes: it begins a comment"),
)
"""What mends frequent mistakes, by the parser's message or the line with the one before."""
_ANY_FIX = "check quotes, brackets and indentation on this line and the one before"
_READER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class DocumentError(Exception):
    """The text is not usable YAML."""

    def __init__(self, line: int, problem: str, fix: str, field: str = "") -> None:
        super().__init__(problem)
        self.line = line
        self.finding = Finding("error", field or "file", field, problem, fix)


_TAG = "tag:yaml.org,2002:"
_JSON_TAGS = frozenset(_TAG + name for name in ("bool", "float", "int", "map", "null", "seq", "str"))
_SCALARS = (
    ("bool", "yYnNtTfFoO", r"y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF"),
    ("int", "-+0123456789", r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]+|0|[1-9][0-9_]*)"),
    ("float", "-+.0123456789", r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?"),
)
"""What is no string without quotes, with its first letters. As in go-yaml 2, with which kubectl, Flux and Argo CD read: `y` is
true, `08` is 8, and dates and times of day are strings."""


def _resolvers() -> dict[str | None, list[tuple[str, re.Pattern[str]]]]:
    kept = (_TAG + "null", _TAG + "merge")
    found = {first: [each for each in known if each[0] in kept] for first, known in _READER.yaml_implicit_resolvers.items()}
    for name, firsts, pattern in _SCALARS:
        for first in firsts:
            found.setdefault(first, []).append((_TAG + name, re.compile(rf"(?:{pattern})\Z")))
    return found


class _PlainLoader(_READER):  # type: ignore[misc]
    """Reads as kubectl does, and constructs nothing but JSON."""

    yaml_implicit_resolvers = _resolvers()
    yaml_constructors = {tag: made for tag, made in _READER.yaml_constructors.items() if tag is None or tag in _JSON_TAGS}
    bool_values = {**_READER.bool_values, "y": True, "n": False}


class Document:
    """One YAML document: its data, and the lines of its fields."""

    def __init__(self, root: yaml.Node, data: Any, text: str) -> None:
        self._root = root
        self._text = text
        self.data = data

    def slips(self) -> Iterator[Finding]:
        """Warnings for texts that YAML reads otherwise than they were meant."""
        return slips(self._root, self._text.splitlines())

    def line(self, field: str) -> int:
        """Line number (from 1) of a field path such as ``spec.nodes[3].next[1].when``, or of its nearest existing parent."""
        return self._find(field)[0]

    def scalar(self, field: str) -> str | None:
        """What stands at a field path in the file, as it was written; `None` where that is no plain value."""
        _, node, complete = self._find(field)
        return node.value if complete and isinstance(node, yaml.ScalarNode) else None

    def _find(self, field: str) -> tuple[int, yaml.Node, bool]:
        """Line and node of a field path, or of its nearest existing parent; and whether it exists."""
        node: Any = self._root
        line = self._root.start_mark.line + 1
        for name in _steps(field):
            if isinstance(node, yaml.MappingNode) and (entry := _entry(node, name)):
                line, node = entry[0].start_mark.line + 1, entry[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(name, int) and name < len(node.value):
                node = node.value[name]
                line = node.start_mark.line + 1
            else:
                return line, node, False
        return line, node, True


def _entry(mapping: yaml.MappingNode, name: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    return next(((key, value) for key, value in mapping.value if key.value == name), None)


def _steps(field: str) -> Iterator[str | int]:
    for name, index in _STEP.findall(field):
        yield int(index) if index else name


def decode(content: bytes) -> str:
    """A file's text without byte order mark and with Unix line ends. Raises DocumentError."""
    if len(content) > MAX_BYTES:
        lines = content.split(b"\n")
        longest = max(range(len(lines)), key=lambda index: len(lines[index]))
        fix = f"shorten its texts; the longest line, {longest + 1}, has {len(lines[longest]):,} bytes"
        raise DocumentError(longest + 1, f"has {len(content):,} bytes, more than the limit of {MAX_BYTES:,}", fix)
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DocumentError(line, f"is not UTF-8: byte {content[error.start]:#04x}", "save the file as UTF-8") from None


def parse(text: str) -> list[Document]:
    """The documents of a YAML text. Raises DocumentError."""
    try:
        for depth, line in _depths(text):
            if depth > MAX_DEPTH:
                raise DocumentError(line, f"is nested more than {MAX_DEPTH} levels deep", "check the indentation")
        loader = _PlainLoader(text)
        roots = []
        while loader.check_node():
            roots.append(loader.get_node())
        for root in roots:
            _reject_duplicates_and_bombs(root)
        return [Document(root, json_data(loader.construct_document(root)), text) for root in roots]
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text) from None
    except yaml.reader.ReaderError as error:
        line = text.encode().count(b"\n", 0, error.position) + 1
        character = error.character if isinstance(error.character, int) else ord(error.character)
        raise DocumentError(line, f"contains the character {character:#06x}, which YAML does not allow", "remove it") from None
    except RecursionError:
        raise DocumentError(1, "is nested too deeply once its anchors are expanded", "use fewer anchors") from None
    except ValueError as error:
        raise DocumentError(1, f"contains an unreadable value: {error}", "put it in quotes") from None


def json_data(data: Any) -> Any:
    """``data`` as a Kubernetes client would send it: plain JSON with string keys."""
    return json.loads(json.dumps(data))


def _depths(text: str) -> Iterator[tuple[int, int]]:
    depth = 0
    for event in yaml.parse(text, Loader=_READER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        yield depth, event.start_mark.line + 1 if event.start_mark else 1


def _reject_duplicates_and_bombs(root: yaml.Node) -> None:
    """Rejects duplicate keys, and anchors that expand to more than `MAX_BYTES`. Raises DocumentError."""
    open_nodes = set[int]()

    @cache
    def weight(node: yaml.Node) -> int:
        line = node.start_mark.line + 1
        if id(node) in open_nodes:
            raise DocumentError(line, "has an anchor that contains itself", "write that part out in full")
        if isinstance(node, yaml.ScalarNode):
            return len(node.value) + 1
        open_nodes.add(id(node))
        keys = [key for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
        _reject_duplicate_keys(keys)
        parts = [part for pair in node.value for part in pair] if keys else node.value
        total = 1 + sum(weight(part) for part in parts)
        open_nodes.discard(id(node))
        if total > MAX_BYTES:
            raise DocumentError(line, f"expands to more than {MAX_BYTES:,} characters through its anchors", "use fewer anchors")
        return total

    weight(root)


def _reject_duplicate_keys(keys: list[yaml.Node]) -> None:
    first: dict[object, int] = {}
    for key in keys:
        name = key.value if isinstance(key, yaml.ScalarNode) else id(key)
        if name in first and name != "<<":
            problem = f"has the field {name!r} twice, first on line {first[name]}"
            raise DocumentError(key.start_mark.line + 1, problem, "remove one of them")
        first.setdefault(name, key.start_mark.line + 1)


def _syntax_error(error: yaml.MarkedYAMLError, text: str) -> DocumentError:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    lines = text.splitlines()
    written = lines[line - 1] if line <= len(lines) else ""
    indent = written[: len(written) - len(written.lstrip())]
    if "\t" in indent or (mark and written[mark.column : mark.column + 1] == "\t"):
        return DocumentError(line, "is invalid YAML: a tab where only spaces are allowed", "indent with spaces")
    message = f"{error.context}: {error.problem}" if error.context else str(error.problem)
    near = lines[max(0, line - 2) : line]
    fix = next((fix for pattern, fix in _FIXES if pattern.search(message) or any(map(pattern.search, near))), _ANY_FIX)
    return DocumentError(line, f"is invalid YAML: {message}", fix)
