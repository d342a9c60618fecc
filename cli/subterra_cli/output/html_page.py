"""A procedure as one HTML file that works offline: the graph with zoom, its counts, and every node in full.

The XML writer escapes what the author wrote; should anything slip through, the page's policy allows no script but ours.
"""

import base64
import hashlib
import xml.etree.ElementTree as ET

from subterra_api.v1alpha1.procedure import Node, ProcedureSpec
from subterra_core.drawing.anywhere_box import QUESTIONS_BOX, drawn_nodes, with_box
from subterra_core.drawing.graph_summary import TraversalCounts, condition_label
from subterra_core.drawing.svg import add, draw_svg
from subterra_core.procedure.lint.findings import Analysis
from subterra_core.procedure.text import SPEAKERS
from subterra_core.procedure.tools import label_text

STYLE = """
:root { color-scheme: light dark; --back: #f4f6f8; --text: #1c2430; --rule: #d4dae1; --card: #ffffff; }
@media (prefers-color-scheme: dark) { :root { --back: #0e1116; --text: #e6eaf0; --rule: #323a45; --card: #14181f; } }
body { margin: 0; background: var(--back); color: var(--text);
  font: 14px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
header, section { padding: 12px 24px; } h1 { font-size: 20px; margin: 0 0 2px; } h2 { font-size: 16px; }
nav { position: sticky; top: 0; padding: 8px 24px; background: var(--back); border-bottom: 1px solid var(--rule); z-index: 1; }
button { font: inherit; padding: 2px 12px; margin-right: 6px; }
#picture { overflow: auto; max-height: 88vh; border-bottom: 1px solid var(--rule); background: var(--card); cursor: grab; }
#picture svg { display: block; margin: 0 auto; }
table { border-collapse: collapse; background: var(--card); }
td, th { border: 1px solid var(--rule); padding: 4px 10px; vertical-align: top; }
th { text-align: left; } td { overflow-wrap: anywhere; min-width: 4em; } td:nth-child(2) { white-space: nowrap; }
td:nth-child(3) { max-width: 46em; white-space: pre-wrap; }
"""

SCRIPT = """
const box = document.getElementById('picture'), svg = box.querySelector('svg');
const width = svg.width.baseVal.value, height = svg.height.baseVal.value;
let scale = 1;
function zoom(wanted, x, y) {
  const before = scale;
  scale = Math.min(4, Math.max(0.1, wanted));
  const left = (box.scrollLeft + x) * scale / before - x, top = (box.scrollTop + y) * scale / before - y;
  svg.setAttribute('width', width * scale); svg.setAttribute('height', height * scale);
  box.scrollTo(left, top);
}
const middle = () => [box.clientWidth / 2, box.clientHeight / 2];
document.getElementById('in').onclick = () => zoom(scale * 1.25, ...middle());
document.getElementById('out').onclick = () => zoom(scale / 1.25, ...middle());
document.getElementById('fit').onclick = () => zoom(Math.min(box.clientWidth / width, 1), 0, 0);
document.getElementById('whole').onclick = () => zoom(Math.min(box.clientWidth / width, box.clientHeight / height), 0, 0);
box.addEventListener('wheel', event => {
  if (!event.ctrlKey && !event.metaKey) return;
  event.preventDefault();
  const at = box.getBoundingClientRect();
  zoom(scale * Math.exp(-event.deltaY / 300), event.clientX - at.left, event.clientY - at.top);
}, { passive: false });
box.addEventListener('pointermove', event => { if (event.buttons === 1) box.scrollBy(-event.movementX, -event.movementY); });
zoom(Math.min(box.clientWidth / width, 1), 0, 0);
"""


def page(spec: ProcedureSpec, title: str, summary: str, analysis: Analysis, counts: TraversalCounts | None = None) -> str:
    """The HTML file's text."""
    html = ET.Element("html", lang="en")
    add_head(html, title, STYLE, SCRIPT)
    body = add(html, "body")
    header = add(body, "header")
    add(header, "h1", title)
    add(header, "div", summary)
    nav = add(body, "nav")
    for name, label in (("in", "+"), ("out", "−"), ("fit", "Fit width"), ("whole", "Fit all")):
        add(nav, "button", label, id=name, type="button")
    add(nav, "span", "Drag or scroll to move, Ctrl and wheel to zoom. Dashed edges loop back.")
    add(body, "div", id="picture").append(draw_svg(spec, title, counts))
    _nodes(add(body, "section"), spec, counts)
    if analysis.warnings:
        _warnings(add(body, "section"), analysis)
    add(body, "script").text = SCRIPT
    return "<!doctype html>\n" + ET.tostring(html, encoding="unicode", method="html") + "\n"


def add_head(html: ET.Element, title: str, style: str, script: str, also: str = "") -> ET.Element:
    """The head of a page that may run this one script and load nothing; `also` is added to its Content-Security-Policy."""
    head = add(html, "head")
    add(head, "meta", charset="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'{also}"
    ET.SubElement(head, "meta", {"http-equiv": "Content-Security-Policy", "content": policy})
    add(head, "meta", name="viewport", content="width=device-width")
    add(head, "title", title)
    add(head, "style").text = style
    return head


def _nodes(section: ET.Element, spec: ProcedureSpec, counts: TraversalCounts | None) -> None:
    add(section, "h2", "Nodes")
    table = add(section, "table")
    _row(table, "th", ["Node", "Speaker", "Prompt", "Goes to", *(["In the dataset"] if counts else [])])
    counts = with_box(spec, counts)
    for node in drawn_nodes(spec):
        count = [f"{counts.nodes.get(node.id, 0):,}" if node.id != QUESTIONS_BOX else ""] if counts else []
        cells = _row(table, "td", [node.id, SPEAKERS[node.role], label_text(node), "", *count])
        _edges(cells[3], node, counts)


def _edges(cell: ET.Element, node: Node, counts: TraversalCounts | None) -> None:
    if node.outcome:
        cell.text = f"ends: {node.outcome}"
    for text in node.examples if node.id == QUESTIONS_BOX else ():
        add(cell, "div", text)
    for edge in node.next:
        count = f" ({counts.edges.get((node.id, edge.to), 0):,}×)" if counts else ""
        when = condition_label(node, edge)
        add(cell, "div", f"{edge.to}{': ' + when if when else ''}{count}")


def _warnings(section: ET.Element, analysis: Analysis) -> None:
    add(section, "h2", "Warnings")
    listed = add(section, "ul")
    for finding in analysis.warnings:
        add(listed, "li", str(finding))


def _row(table: ET.Element, kind: str, texts: list[str]) -> list[ET.Element]:
    row = add(table, "tr")
    return [add(row, kind, text) for text in texts]
