"""A procedure as a Mermaid flowchart, for places that render it: GitHub, GitLab, documentation. Pure."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from subterra_api.v1alpha1.procedure import Node, ProcedureSpec
from subterra_core.drawing.anywhere_box import BOX, QUESTIONS_BOX, drawn_nodes, with_box
from subterra_core.drawing.graph_summary import TraversalCounts, condition_label
from subterra_core.drawing.layout import returning_edges
from subterra_core.procedure.tools import label_text

_ROOM = 60
_CLASSES = """\
  classDef agent fill:#e8f0fe,stroke:#4a74c9,color:#1c2430
  classDef user fill:#fdf3df,stroke:#b97f1e,color:#1c2430
  classDef success fill:#dff3e4,stroke:#2d8a4e,color:#1c2430
  classDef abandonment fill:#ececef,stroke:#70757d,color:#1c2430
  classDef escalation fill:#fbe4e1,stroke:#c24a3a,color:#1c2430
"""
_FOLDED_CLASS = "  classDef {role} fill:none,stroke:#4a74c9,stroke-width:4px\n"
_TOOL_CLASS = "  classDef tool fill:#e6f4f1,stroke:#1f7a6b,color:#1c2430\n"


def mermaid(spec: ProcedureSpec, counts: TraversalCounts | None = None) -> str:
    """The flowchart's text; dashed edges loop back. Its comments are what `import mermaid` reads back."""
    nodes, counts = drawn_nodes(spec), with_box(spec, counts)
    names = {node.id: f"n{index}" for index, node in enumerate(nodes)}
    boxes = (f"  {names[node.id]}{_box(node)}:::{node.outcome or node.role}" for node in nodes)
    lines = ["flowchart TD", *boxes, *_edge_lines(spec, nodes, names, counts), *_comment_lines(spec, names)]
    roles = [role for role in ("call", "collect") if any(node.role == role for node in spec.nodes)]
    folded = "".join(_FOLDED_CLASS.format(role=role) for role in roles)
    return "\n".join(lines) + "\n" + _CLASSES + (_TOOL_CLASS if spec.tools else "") + folded


def _edge_lines(
    spec: ProcedureSpec, nodes: Sequence[Node], names: Mapping[str, str], counts: TraversalCounts | None
) -> Iterator[str]:
    back = returning_edges(names, [(node.id, edge.to) for node in nodes for edge in node.next], spec.start)
    for node in nodes:
        for edge in node.next:
            count = f" ({counts.edges.get((node.id, edge.to), 0):,}×)" if counts else ""
            label = (condition_label(node, edge) + count).strip()
            arrow = "-.->" if (node.id, edge.to) in back else "-->"
            yield f"  {names[node.id]} {arrow}{'|' + _text(label) + '|' if label else ''} {names[edge.to]}"


def _comment_lines(spec: ProcedureSpec, names: Mapping[str, str]) -> Iterator[str]:
    """What decides at hubs, unless the customer does; boxes of anywhere edges, with exceptions, and of questions; the start."""
    for node in spec.nodes:
        if len(node.next) > 1 and node.decided_by != "customer":
            yield f"  %% decides {names[node.id]}: {node.fact or node.decided_by}"
    if spec.anywhere:
        yield f"  %% anywhere: {names[BOX]}"
    for edge in spec.anywhere:
        if closed := [names[node] for node in edge.except_ if node in names]:
            yield f"  %% except {names[edge.to]}: {', '.join(closed)}"
    if spec.questions:
        yield f"  %% questions: {names[QUESTIONS_BOX]}"
    if spec.start != spec.nodes[0].id:
        yield f"  %% start: {names[spec.start]}"


def _box(node: Node) -> str:
    label = label_text(node)
    says = [textwrap.shorten(label, _ROOM, placeholder=" …")] if label.strip() else []
    says += [textwrap.shorten(text, _ROOM, placeholder=" …") for text in node.examples] if node.id == QUESTIONS_BOX else []
    text = _text("\n".join([node.id, *says, *([f"ends: {node.outcome}"] if node.outcome else [])]))
    return {"agent": f"[{text}]", "user": f"([{text}])", "tool": f"[[{text}]]", "call": f"[[{text}]]", "collect": f"[[{text}]]"}[
        node.role
    ]


def _text(text: str) -> str:
    """``text`` quoted without markup: all but letters, digits and plain punctuation as character codes."""
    escaped = (
        letter if letter.isalnum() or letter in " .,?!'()-_/×…" else "<br>" if letter == "\n" else f"#{ord(letter)};"
        for letter in text
    )
    return '"' + "".join(escaped) + '"'
