"""Which procedures a procedure calls, over others or at once. Pure; where they are looked up is the caller's business."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from subterra_api.v1alpha1.procedure import ProcedureSpec

MAX_CALLED = 20
"""Procedures that one procedure may call, over others or at once."""

MAX_CALLED_BYTES = 1024 * 1024
"""Of all called procedures in JSON: twice as much as a flat procedure may have. What comes after that many is not read."""


class Unavailable(NamedTuple):
    """Why a called procedure cannot be read, and the fix."""

    problem: str
    fix: str
    is_missing: bool = False
    """Whether there is no procedure of that name: it may still appear."""


Called = Mapping[str, ProcedureSpec | Unavailable]
"""The procedures that are called, by name."""
TOO_MANY = Unavailable(f"is one of more than {MAX_CALLED} procedures called here", "call fewer, or put several into one")

TOO_LARGE = Unavailable(
    f"is not read, since the procedures called here have more than {MAX_CALLED_BYTES // 1024:,} KiB", "shorten them, or call fewer"
)


def called_names(spec: ProcedureSpec) -> Iterator[str]:
    """Names of the procedures that the nodes of `spec` call, in their order."""
    return (node.procedure for node in spec.nodes if node.role == "call" and node.procedure)


def called_names_in(data: Mapping[str, Any]) -> list[str]:
    """The same for a spec in JSON, whether or not the schema accepts it; each name once."""
    nodes = data.get("nodes")
    calls = [node for node in nodes if isinstance(node, dict) and node.get("role") == "call"] if isinstance(nodes, list) else []
    return list(dict.fromkeys(node["procedure"] for node in calls if isinstance(node.get("procedure"), str)))


def gather(spec: ProcedureSpec, find: Callable[[str], ProcedureSpec | Unavailable]) -> Called:
    """All procedures that `spec` calls, over others or at once, as `find` returns them; at most `MAX_CALLED`."""
    found: dict[str, ProcedureSpec | Unavailable] = {}
    waiting = deque(called_names(spec))
    while waiting:
        name = waiting.popleft()
        if name in found:
            continue
        called = found[name] = find(name) if len(found) < MAX_CALLED else TOO_MANY
        if isinstance(called, ProcedureSpec):
            waiting += called_names(called)
    return found
