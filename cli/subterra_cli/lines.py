"""Where a field stands in a YAML file. Pure."""

import re
from collections.abc import Iterator

import yaml

_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")


def line_of(text: str, field: str) -> int:
    """The line, from 1, of a field path such as ``spec.nodes[3].next[1].when``; of its nearest parent when it is not there."""
    found = yaml.compose(text, Loader=yaml.SafeLoader)
    line = 1
    for name in _steps(field):
        if isinstance(found, yaml.MappingNode):
            found, key = next(((value, key) for key, value in found.value if key.value == name), (None, None))
            line = key.start_mark.line + 1 if key is not None else line
        elif isinstance(found, yaml.SequenceNode) and isinstance(name, int) and name < len(found.value):
            found = found.value[name]
            line = found.start_mark.line + 1
        else:
            break
    return line


def _steps(field: str) -> Iterator[str | int]:
    for name, place in _STEP.findall(field):
        yield int(place) if place else name
