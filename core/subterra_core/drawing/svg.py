"""A procedure as SVG: readable in light and dark mode, without fonts, scripts or other external resources.

The author's texts are untrusted: they go through an XML writer, never into markup.
"""

import textwrap
import xml.etree.ElementTree as ET
from itertools import pairwise
from unicodedata import east_asian_width

from subterra_api.v1alpha1.procedure import Node, ProcedureSpec
from subterra_core.drawing.anywhere_box import QUESTIONS_BOX, drawn_nodes, with_box
from subterra_core.drawing.graph_summary import TraversalCounts, clean, condition_label, loops
from subterra_core.drawing.layout import Box, Layout, Line, Size, arrange
from subterra_core.procedure.graph import Hop
from subterra_core.procedure.text import SPEAKERS
from subterra_core.procedure.tools import label_text

WIDTH, HUB_WIDTH, LINE, PADDING = 216.0, 300.0, 15.0, 10.0
_PROMPT_LINES = 3
HEAT = {"fine": 0.0, "some": 0.1, "much": 0.3, "most": 1.0}
"""CSS classes, each with the largest share of failures for which it is used."""
_LISTED_QUESTIONS = 12
"""Questions that are named in their box, at most."""
_BROAD_SHARE = 0.3
"""Edges taken by at least this share of the conversations are drawn broad."""
_CHARACTER = 6.6
"""Average width of a character in small text."""
_NOTE_CHARACTER = 5.8
"""The same in notes."""
_BOLD_CHARACTER = 7.8
"""The same in ids."""

STYLE = """
svg.procedure { --paper: #ffffff; --ink: #1c2430; --faint: #5d6978; --line: #7b8794; --agent: #e8f0fe; --agent-edge: #4a74c9;
  --user: #fdf3df; --user-edge: #b97f1e; --good: #dff3e4; --good-edge: #2d8a4e; --bad: #ececef; --bad-edge: #70757d;
  --human: #fbe4e1; --human-edge: #c24a3a; --loop: #8e44ad; --never: #d92d20;
  --fine: #e3f1e6; --fine-edge: #2d7a46; --some: #fff0cc; --some-edge: #9a6700; --much: #ffd9cf; --much-edge: #c2410c;
  --most: #f6b9b3; --most-edge: #a3160e;
  background: var(--paper); font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
@media (prefers-color-scheme: dark) { svg.procedure { --paper: #14181f; --ink: #e6eaf0; --faint: #a3adba; --line: #8390a0;
  --agent: #1d2b47; --agent-edge: #6f9bf2; --user: #3a2e14; --user-edge: #d9a441; --good: #17341f; --good-edge: #4fbf77;
  --bad: #2a2d33; --bad-edge: #9aa1ab; --human: #41201c; --human-edge: #f0806f; --loop: #c58be0; --never: #ff7a70;
  --fine: #17341f; --fine-edge: #5fbf80; --some: #3d3210; --some-edge: #e0b040; --much: #4a2413; --much-edge: #ff9a62;
  --most: #5a1a17; --most-edge: #ff8f86; } }
.procedure text { fill: var(--ink); } .procedure .id { font-size: 13px; font-weight: 600; }
.procedure .note, .procedure .who { fill: var(--faint); font-size: 10.5px; } .procedure .end { font-weight: 600; }
.procedure .box { stroke-width: 1.4; } .agent .box { fill: var(--agent); stroke: var(--agent-edge); }
.user .box { fill: var(--user); stroke: var(--user-edge); } .hub .box { stroke-width: 2.6; }
.success .box { fill: var(--good); stroke: var(--good-edge); } .abandonment .box { fill: var(--bad); stroke: var(--bad-edge); }
.escalation .box { fill: var(--human); stroke: var(--human-edge); }
.procedure .way path { fill: none; stroke: var(--line); stroke-width: 1.5; }
.procedure .back path { stroke: var(--loop); stroke-dasharray: 6 4; }
.procedure .never path { stroke: var(--never); } .procedure .never text { fill: var(--never); }
.procedure .way .head { fill: var(--line); stroke: none; }
.procedure .back .head { fill: var(--loop); } .procedure .never .head { fill: var(--never); }
.procedure .count { font-size: 10.5px; paint-order: stroke; stroke: var(--paper); stroke-width: 4px; }
.procedure .badge circle { fill: var(--paper); stroke: var(--line); }
.procedure .badge text { font-size: 10px; text-anchor: middle; }
.procedure .fine .box { fill: var(--fine); stroke: var(--fine-edge); } .procedure .fine path { stroke: var(--fine-edge); }
.procedure .some .box { fill: var(--some); stroke: var(--some-edge); } .procedure .some path { stroke: var(--some-edge); }
.procedure .much .box { fill: var(--much); stroke: var(--much-edge); } .procedure .much path { stroke: var(--much-edge); }
.procedure .most .box { fill: var(--most); stroke: var(--most-edge); } .procedure .most path { stroke: var(--most-edge); }
.procedure .fine .head { fill: var(--fine-edge); } .procedure .some .head { fill: var(--some-edge); }
.procedure .much .head { fill: var(--much-edge); } .procedure .most .head { fill: var(--most-edge); }
.procedure .broad path { stroke-width: 4.5; } .procedure .broad .head { stroke-width: 1.5; }
.procedure .unseen .box { fill: none; stroke: var(--line); stroke-dasharray: 4 4; }
.procedure .way:hover path { stroke-width: 3.5; stroke: var(--ink); }
"""
TOOL_STYLE = """
svg.procedure { --tool: #e6f4f1; --tool-edge: #1f7a6b; }
@media (prefers-color-scheme: dark) { svg.procedure { --tool: #14332e; --tool-edge: #4fbfa8; } }
.procedure .tool .box { fill: var(--tool); stroke: var(--tool-edge); }
"""
"""Only for procedures with tools, so that other drawings stay as they are."""
FOLDED_STYLE = ".procedure .folded .box { fill: none; stroke: var(--agent-edge); stroke-width: 4; }\n"
"""Only where one box stands for several nodes."""
_FOLDED = ("call", "collect")
_CUT = 11.0
"""Corners that are cut off the box of a tool call."""


def draw_svg(spec: ProcedureSpec, title: str, visits: TraversalCounts | None = None) -> ET.Element:
    """The SVG element. With `visits`, every edge shows how often it is taken, and edges never taken stand out.

    With failures, colors show the share of conversations that failed, see `HEAT`.
    """
    nodes, visits = drawn_nodes(spec), with_box(spec, visits)
    cards = {node.id: _card(node, {member for loop in loops(spec) for member in loop}, visits) for node in nodes}
    hops = [(node.id, edge.to) for node in nodes for edge in node.next]
    layout = arrange({node: card.size for node, card in cards.items()}, hops, spec.start)
    size = {"width": f"{layout.width:.0f}", "height": f"{layout.height:.0f}"}
    box = f"0 0 {layout.width:.0f} {layout.height:.0f}"
    svg = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "class": "procedure", "role": "img", "viewBox": box, **size})
    add(svg, "title", title)
    add(
        svg,
        "style",
        STYLE + (TOOL_STYLE if spec.tools else "") + (FOLDED_STYLE if any(node.role in _FOLDED for node in nodes) else ""),
    )
    for node in nodes:
        for edge in node.next:
            text = f"{node.id} → {edge.to}" + (f": {condition_label(node, edge)}" if condition_label(node, edge) else "")
            _edge(svg, (node.id, edge.to), layout, text, visits)
    for node in nodes:
        first, heat = node.id == spec.start, _heat(visits, node.id) if node.id != QUESTIONS_BOX else []
        _box(svg, node, cards[node.id], layout.boxes[node.id], first, heat)
    for node in nodes:
        for number, edge in enumerate(node.next if len(node.next) > 1 else (), start=1):
            _badge(svg, number, *layout.lines[node.id, edge.to].start)
    return svg


def add(parent: ET.Element, tag: str, text: str = "", **attributes: str | float) -> ET.Element:
    """Adds a child element; `class_` is the attribute class. Characters that XML cannot hold are replaced in `text`."""
    named = {name.rstrip("_").replace("_", "-"): clean(str(value)) for name, value in attributes.items()}
    child = ET.SubElement(parent, tag, named)
    child.text = clean(text) or None
    return child


class _Card:
    """Lines of text in a node's box, and the size they need."""

    def __init__(self, width: float, prompt: list[str], branches: list[list[str]], notes: list[str]) -> None:
        self.prompt, self.branches, self.notes = prompt, branches, notes
        lines = 1 + len(prompt) + sum(map(len, branches)) + len(notes)
        self.size: Size = (width, 2 * PADDING + LINE * lines + (6.0 if branches else 0.0) + 2.0)


def _card(node: Node, looping: set[str], visits: TraversalCounts | None) -> _Card:
    if node.id == QUESTIONS_BOX:
        return _questions_card(node)
    hub = len(node.next) > 1
    width = HUB_WIDTH if hub else WIDTH
    room = int((width - 2 * PADDING) / _CHARACTER)
    branches = [wrapped(condition_label(node, edge) or "(no condition)", room - 4, 2) for edge in node.next] if hub else []
    notes = [_decides(node)] if hub and node.decided_by != "customer" else []
    notes += (
        [f"at most {node.max_visits} {'visit' if node.max_visits == 1 else 'visits'}"]
        if node.id in looping and node.role not in _FOLDED
        else []
    )
    notes += [_count(visits, node.id)] if visits else []
    notes += [f"ends: {node.outcome}"] if node.outcome else []
    does, _, prompt = label_text(node).partition("\n") if node.role in (*_FOLDED, "tool") else ("", "", node.prompt)
    return _Card(width, [*wrapped(does, room, _PROMPT_LINES), *wrapped(prompt, room, _PROMPT_LINES)], branches, notes)


def _questions_card(node: Node) -> _Card:
    """The questions that the customer may ask in between, the first ones if there are many."""
    room, listed = HUB_WIDTH - 2 * PADDING, node.examples[:_LISTED_QUESTIONS]
    more = [f"and {len(node.examples) - len(listed)} more"] if len(node.examples) > len(listed) else []
    notes = [line for text in listed for line in wrapped(text, int(room / _NOTE_CHARACTER), 1)]
    return _Card(HUB_WIDTH, wrapped(node.prompt, int(room / _CHARACTER), _PROMPT_LINES), [], [*notes, *more])


def _decides(node: Node) -> str:
    return f"decided by the fact {node.fact}" if node.decided_by == "fact" else "decided by what happened before"


def wrapped(text: str, room: int, lines: int) -> list[str]:
    """`text` in at most `lines` lines of about `room` narrow characters, with an ellipsis if it was cut."""
    wide = sum(east_asian_width(letter) in "WF" for letter in text)
    room = max(4, room if not wide else int(room * len(text) / (len(text) + wide)))
    return textwrap.wrap(clean(text[: room * (lines + 2)]), room, max_lines=lines, placeholder=" …")


def _count(visits: TraversalCounts, place: str | Hop) -> str:
    """Number of visits, in words."""
    taken = visits.nodes.get(place, 0) if isinstance(place, str) else visits.edges.get(place, 0)
    if visits.failures is None:
        return f"{taken:,} in the dataset" if isinstance(place, str) else f"{taken:,} times in the dataset"
    return f"{taken:,} conversations, {_failed(visits, place):,} failed"


def _failed(visits: TraversalCounts, place: str | Hop) -> int:
    if visits.failures is None:
        return 0
    return visits.failures.nodes.get(place, 0) if isinstance(place, str) else visits.failures.edges.get(place, 0)


def _heat(visits: TraversalCounts | None, place: str | Hop) -> list[str]:
    """CSS classes for the share that failed, or for places without visits."""
    if visits is None or visits.failures is None:
        return []
    taken = visits.nodes.get(place, 0) if isinstance(place, str) else visits.edges.get(place, 0)
    if not taken:
        return ["unseen"]
    share = _failed(visits, place) / taken
    return [next(name for name, most in HEAT.items() if share <= most)]


def _box(svg: ET.Element, node: Node, card: _Card, box: Box, first: bool, heat: list[str]) -> None:
    kinds = [
        node.role,
        *(["folded"] if node.role in _FOLDED else []),
        *(["hub"] if card.branches else []),
        *([node.outcome] if node.outcome else []),
        *heat,
    ]
    group = add(svg, "g", class_=" ".join(kinds))
    add(group, "title", f"{node.id} ({SPEAKERS[node.role]})\n{label_text(node)}")
    _outline(group, node, box)
    left, y = box.x + PADDING, box.y + PADDING + 11
    _heading(group, node, box, y, first=first)
    for line in card.prompt:
        y += LINE
        add(group, "text", line, x=f"{left:.1f}", y=f"{y:.1f}")
    y += 6.0 if card.branches else 0.0
    for number, lines in enumerate(card.branches, start=1):
        _badge(group, number, left + 7, y + LINE - 4)
        for line in lines:
            y += LINE
            add(group, "text", line, x=f"{left + 20:.1f}", y=f"{y:.1f}")
    for note in card.notes:
        y += LINE
        add(group, "text", note, class_="end" if note.startswith("ends: ") else "note", x=f"{left:.1f}", y=f"{y:.1f}")


def _heading(group: ET.Element, node: Node, box: Box, y: float, *, first: bool) -> None:
    """The node's id on the left, cut if need be, and the speaker on the right."""
    speaker = SPEAKERS[node.role] + (" · start" if first else "")
    room = int((box.width - 3 * PADDING - len(speaker) * _NOTE_CHARACTER) / _BOLD_CHARACTER)
    name = node.id if len(node.id) <= room else node.id[: room - 1] + "…"
    add(group, "text", name, class_="id", x=f"{box.x + PADDING:.1f}", y=f"{y:.1f}")
    add(group, "text", speaker, class_="who", text_anchor="end", x=f"{box.x + box.width - PADDING:.1f}", y=f"{y:.1f}")


def _outline(group: ET.Element, node: Node, box: Box) -> None:
    """A rectangle for words, with rounder corners for the customer's; cut corners for a tool call."""
    if node.role == "tool":
        x, y, right, below = box.x, box.y, box.x + box.width, box.y + box.height
        points = [(x + _CUT, y), (right - _CUT, y), (right, y + _CUT), (right, below - _CUT)]
        points += [(right - _CUT, below), (x + _CUT, below), (x, below - _CUT), (x, y + _CUT)]
        add(group, "polygon", class_="box", points=" ".join(f"{left:.1f},{top:.1f}" for left, top in points))
        return
    radius = {"agent": 7.0, "user": 18.0}[node.speaker]
    shape = {"x": box.x, "y": box.y, "width": box.width, "height": box.height, "rx": radius}
    add(group, "rect", class_="box", **{name: f"{value:.1f}" for name, value in shape.items()})


def _edge(svg: ET.Element, hop: Hop, layout: Layout, text: str, visits: TraversalCounts | None) -> None:
    line, taken = layout.lines[hop], visits.edges.get(hop, 0) if visits else None
    kinds = ["way", *(["back"] if hop in layout.returning else []), *(["never"] if taken == 0 else []), *_heat(visits, hop)]
    broad = visits is not None and visits.failures is not None and (taken or 0) >= _BROAD_SHARE * visits.conversations
    group = add(svg, "g", class_=" ".join([*kinds, *(["broad"] if broad else [])]))
    add(group, "title", text + (f"\n{_count(visits, hop)}" if visits else ""))
    add(group, "path", d=_curve(line))
    x, y = line.end
    way, side = (1 if _heads_down(line) else -1), hop[0] == hop[1]
    head = f"M{x:.1f} {y:.1f}l7 -3.5v7z" if side else f"M{x:.1f} {y:.1f}l-4 {-8 * way}h8z"
    add(group, "path", class_="head", d=head)
    if taken is not None:
        x, y = line.start
        lost = _failed(visits, hop) if visits else 0
        add(
            group,
            "text",
            f"{taken:,}" + (f" ✗{lost:,}" if lost else ""),
            class_="count",
            x=f"{x + 11:.1f}",
            y=f"{y + (16 if way > 0 else -8):.1f}",
        )


def _heads_down(line: Line) -> bool:
    return line.end[1] > line.start[1]


def _curve(line: Line) -> str:
    """SVG path that is smooth between layers and straight through them."""
    stops = [(line.start[0], line.start[1], line.start[1]), *line.through, (line.end[0], line.end[1], line.end[1])]
    parts = [f"M{line.start[0]:.1f} {line.start[1]:.1f}"]
    for (x, _, left), (to_x, reached, onward) in pairwise(stops):
        half = (left + reached) / 2
        parts.append(f"C{x:.1f} {half:.1f} {to_x:.1f} {half:.1f} {to_x:.1f} {reached:.1f}")
        parts += [f"V{onward:.1f}"] if onward != reached else []
    return "".join(parts)


def _badge(parent: ET.Element, number: int, x: float, y: float) -> None:
    badge = add(parent, "g", class_="badge")
    add(badge, "circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=7.5)
    add(badge, "text", str(number), x=f"{x:.1f}", y=f"{y + 3.5:.1f}")
