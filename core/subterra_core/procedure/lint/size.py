"""The check of a procedure's size, which bounds the work of all others."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from subterra_api.digest import canonical, significant_fields
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.lint.findings import Finding, error

MAX_BYTES = 512 * 1024
"""Size limit of a procedure's canonical form: a run's input contains it, in a ConfigMap, which holds one MiB."""
_NAMES = {
    "examples": "examples",
    "prompt": "prompts",
    "when": "conditions (when)",
    "guards": "guards",
    "values": "values",
    "knowledge": "knowledge",
    "variables": "variables",
    "otherwise": "otherwise",
    "questions": "questions",
}
_FIXES = {
    "examples": "list fewer or shorter examples; about ten a node are plenty",
    "prompt": "shorten prompts, and move what they share to knowledge",
    "values": "list fewer values and set open: true, so that others are accepted too",
    "guards": "use fewer guards, or split the procedure into two agents",
}
_OTHER_FIX = "shorten texts, or split the procedure into two agents"


def check_size(spec: ProcedureSpec) -> Iterator[Finding]:
    """An error if the procedure is too large to be checked, and for a run's input; it names the largest part."""
    content = significant_fields(spec)
    size = len(canonical(content))
    if size > MAX_BYTES:
        part, bytes_of_part = _sizes_of_parts(content).most_common(1)[0]
        problem = f"is too large to check: {_kib(size)} in canonical form, but the limit is {_kib(MAX_BYTES)}"
        largest = f"the largest part are its {_NAMES.get(part, part)} with {_kib(bytes_of_part)}"
        yield error("the procedure", "spec", f"{problem}; {largest}", _FIXES.get(part, _OTHER_FIX))


def _kib(size: int) -> str:
    return f"{size / 1024:,.0f} KiB"


def _sizes_of_parts(content: dict[str, Any]) -> Counter[str]:
    """Bytes of the canonical form by the field that holds them, over all nodes, edges and variables."""
    sizes = Counter({name: len(canonical(value)) for name, value in content.items() if name not in ("nodes", "variables")})
    nodes = content["nodes"]
    for part in (*nodes, *(edge for node in nodes for edge in node.get("next", [])), *content.get("variables", [])):
        for name, value in part.items():
            if name != "next":
                sizes[name] += len(canonical(value))
    return sizes
