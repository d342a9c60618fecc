"""Texts that YAML reads otherwise than their author meant, as warnings: only the file shows them, its data do not. Pure."""

import re
from collections.abc import Iterator
from itertools import pairwise

import yaml

from subterra_core.procedure.lint.findings import Finding, warning

_SPEECH = frozenset({"examples", "openers", "offTopic", "unknownValue", "afterEnd", "unknownQuestion"})
_TEXTS = frozenset({"prompt", "when", "question", "answer", "text", "ask", "description", "systemPrompt"})
_AGENTS = frozenset({"offTopic", "unknownValue", "afterEnd", "unknownQuestion"})
_END = re.compile(r"[.?!…:。？！]['\"”“’»)]*$|[”»]$")
_BEGIN = re.compile(r"^[¿¡„“«('\"]*[^\W\d_]")
_COMMENT = re.compile(r" #")
_CURLY = re.compile(r"[“”„«].*[“”»]", re.DOTALL)
_SHOWN = 40


def slips(root: yaml.Node, lines: list[str]) -> Iterator[Finding]:
    """A warning for each text of a Procedure that commas, a `#` or curly quotes make another one; `lines` are the file's."""
    yield from _in(root, "", "", lines, agent=False)


def _in(node: yaml.Node, field: str, key: str, lines: list[str], *, agent: bool) -> Iterator[Finding]:
    if isinstance(node, yaml.MappingNode):
        speaks = agent or any(name.value == "role" and value.value in ("agent", "collect") for name, value in node.value)
        for name, value in node.value:
            path = f"{field}.{name.value}".removeprefix(".")
            yield from _in(
                value, path, str(name.value), lines, agent=(speaks and name.value != "collects") or name.value in _AGENTS
            )
    elif isinstance(node, yaml.SequenceNode):
        if key in _SPEECH and node.flow_style:
            yield from _split_by_commas(node, field, agent=agent)
        for index, item in enumerate(node.value):
            yield from _in(item, f"{field}[{index}]", key, lines, agent=agent)
    elif isinstance(node, yaml.ScalarNode) and key in _SPEECH | _TEXTS and _is_plain(node):
        yield from _misread(node, field, lines)


def _is_plain(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and not node.style


def _split_by_commas(node: yaml.SequenceNode, field: str, *, agent: bool) -> Iterator[Finding]:
    """A warning for a sentence whose commas made several entries of it: one goes on where the entry before has no end."""
    for index, (one, other) in enumerate(pairwise(node.value)):
        if not (_is_plain(one) and _is_plain(other)) or _END.search(one.value):
            continue
        begin = _BEGIN.match(other.value)
        goes_on = begin is not None and begin[0][-1].islower() and _begins_large(node.value[0].value)
        if goes_on or (agent and _END.search(other.value)):
            problem = f"the comma behind {_short(one.value)} begins another text, {_short(other.value)}"
            yield warning(f"{field}[{index}]", f"{field}[{index}]", problem, "put each whole text in quotes")
            return


def _begins_large(text: str) -> bool:
    return (begin := _BEGIN.match(text)) is not None and begin[0][-1].isupper()


def _misread(node: yaml.ScalarNode, field: str, lines: list[str]) -> Iterator[Finding]:
    end = node.end_mark
    if end.line < len(lines) and _COMMENT.match(lines[end.line], end.column) and not _END.search(node.value):
        problem = f"ends at {_short(node.value, last=True)}, because # begins a comment"
        yield warning(field, field, problem, "put the whole text in quotes")
    if _CURLY.fullmatch(node.value):
        problem = f"has curly quotes around it, which are said: {_short(node.value)}"
        yield warning(field, field, problem, 'write straight ones, "…", or none')


def _short(text: str, *, last: bool = False) -> str:
    if len(text) <= _SHOWN:
        return repr(text)
    return repr(f"…{text[-_SHOWN:]}" if last else f"{text[:_SHOWN]}…")
