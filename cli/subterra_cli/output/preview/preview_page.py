"""The page of `subterra edit` as one HTML file without external resources: findings, graph, conversations. Pure.

The XML writer escapes what the author wrote; the page's policy allows no script but ours, and requests to its own server alone.
"""

import hashlib
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from subterra_cli.output.html_page import add_head
from subterra_cli.output.preview.preview_state import Preview, ShownConversation, ShownSample
from subterra_cli.output.render import counted, summary
from subterra_core.drawing.svg import add, draw_svg
from subterra_core.procedure.lint.findings import Finding

_SHOWN_FINDINGS = 100
_NODE = re.compile(r"(?:node|edge) ([\w.-]+)")
STYLE = """
:root { color-scheme: light dark; --back: #f4f6f8; --text: #1c2430; --dim: #55606e; --rule: #d4dae1; --card: #ffffff;
  --error: #b42318; --warning: #8a5300; --good: #23713f; --agent: #e8f0fe; --customer: #fdf3df; --tool: #e6f4f1; }
@media (prefers-color-scheme: dark) { :root { --back: #0e1116; --text: #e6eaf0; --dim: #a3adba; --rule: #323a45; --card: #14181f;
  --error: #ff8f86; --warning: #f0b955; --good: #6fcf8e; --agent: #1d2b47; --customer: #3a2e14; --tool: #14332e; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text);
  font: 14px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
header, section { padding: 10px 16px; min-width: 0; } h1 { font-size: 18px; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 15px; margin: 0 0 6px; } p { margin: 0 0 6px; overflow-wrap: anywhere; } .dim { color: var(--dim); }
.error { color: var(--error); } .warning { color: var(--warning); } .good { color: var(--good); } .pre { white-space: pre-wrap; }
.old { border: 2px dashed var(--error); border-radius: 6px; padding: 6px 10px; margin: 6px 0; }
#findings ul { list-style: none; margin: 0; padding: 0; max-height: 40vh; overflow: auto; }
#findings li { border-left: 3px solid; padding: 2px 8px; margin: 0 0 5px; overflow-wrap: anywhere; }
#findings li span { color: var(--text); } #findings li b { font-weight: 600; }
#findings button { font: inherit; font-weight: 600; color: inherit; background: none; border: 0; padding: 0; cursor: pointer;
  text-decoration: underline; }
#picture { overflow: auto; max-height: 80vh; border: 1px solid var(--rule); border-radius: 6px; background: var(--card); }
#picture svg { display: block; margin: 0 auto; } #picture .found .box { stroke: var(--error); stroke-width: 4; }
.zoom button { font: inherit; padding: 1px 12px; margin: 0 6px 6px 0; }
article { background: var(--card); border: 1px solid var(--rule); border-radius: 6px; padding: 8px 10px; margin: 0 0 10px; }
article p { font-size: 12px; color: var(--dim); } article .turn { padding: 5px 10px; border-radius: 10px; margin: 4px 0;
  width: fit-content; max-width: 88%; overflow-wrap: anywhere; white-space: pre-wrap; }
.turn small { display: block; color: var(--dim); font-size: 11px; line-height: 1.3; }
.turn.agent { background: var(--agent); } .turn.customer { background: var(--customer); margin-left: auto !important; }
.turn.call, .turn.result { background: var(--tool); font: 12px/1.4 ui-monospace, "DejaVu Sans Mono", monospace; }
#lost { display: none; } .lost #lost { display: block; }
@media (min-width: 1000px) {
  main { display: grid; grid-template: auto auto 1fr / minmax(0, 3fr) minmax(0, 2fr); align-items: start; }
  header { grid-column: 1 / -1; } #graph { grid-area: 2 / 1 / 4 / 2; position: sticky; top: 0; }
  #findings { grid-area: 2 / 2; } #sample { grid-area: 3 / 2; }
}
"""
SCRIPT = """
let scale = null;
const main = () => document.querySelector('main'), picture = () => document.getElementById('picture');
function zoom(factor) {
  const box = picture(), svg = box && box.querySelector('svg');
  if (!svg) return;
  const [, , width, height] = svg.getAttribute('viewBox').split(' ').map(Number);
  const fit = Math.min(1, Math.max(0.55, (box.clientWidth - 2) / width));
  if (factor === null) scale = null; else if (factor !== 1) scale = Math.min(4, Math.max(0.1, (scale ?? fit) * factor));
  svg.setAttribute('width', width * (scale ?? fit)); svg.setAttribute('height', height * (scale ?? fit));
}
function find(node) {
  for (const group of document.querySelectorAll('#picture g.found')) group.classList.remove('found');
  for (const title of document.querySelectorAll('#picture g > title')) {
    if (!title.textContent.startsWith(node + ' (')) continue;
    title.parentNode.classList.add('found');
    title.parentNode.scrollIntoView({ block: 'center', inline: 'center' });
  }
}
document.addEventListener('click', event => {
  const button = event.target.closest('button');
  if (!button) return;
  if (button.dataset.node) find(button.dataset.node);
  else zoom({ in: 1.25, out: 0.8 }[button.dataset.zoom] ?? null);
});
addEventListener('resize', () => zoom(1));
async function show() {
  const text = await (await fetch('/')).text(), next = new DOMParser().parseFromString(text, 'text/html');
  const left = picture()?.scrollLeft ?? 0, top = picture()?.scrollTop ?? 0;
  main().replaceWith(next.querySelector('main'));
  document.title = next.title;
  zoom(1);
  picture()?.scrollTo(left, top);
}
const saves = new EventSource('/saves');
saves.onmessage = event => { if (event.data !== main().dataset.version) show(); };
saves.onopen = () => document.body.classList.remove('lost');
saves.onerror = () => document.body.classList.add('lost');
zoom(1);
picture()?.scrollTo((picture().scrollWidth - picture().clientWidth) / 2, 0);
"""


@dataclass(frozen=True)
class PreviewPage:
    """The page's text, and a version that differs when what it shows does."""

    version: str
    text: str


def preview_page(preview: Preview) -> PreviewPage:
    """The page of a preview."""
    main = _main(preview)
    version = hashlib.sha256(ET.tostring(main)).hexdigest()[:16]
    main.set("data-version", version)
    html = ET.Element("html", lang="en")
    title = f"{Path(preview.file).name}: {_state(preview)}"
    head = add_head(html, title, STYLE, SCRIPT, "; connect-src 'self'; img-src data:")
    add(head, "link", rel="icon", href="data:,")
    body = add(html, "body")
    add(body, "div", "subterra edit has ended, so later saves are not shown; start it again.", id="lost", class_="error old")
    body.append(main)
    add(body, "script").text = SCRIPT
    return PreviewPage(version, "<!doctype html>\n" + ET.tostring(html, encoding="unicode", method="html") + "\n")


def _main(preview: Preview) -> ET.Element:
    main = ET.Element("main")
    header = add(main, "header")
    add(header, "h1", preview.file)
    add(header, "div", _state(preview), class_="error" if preview.count("error") else "good")
    if preview.procedure is not None:
        add(header, "div", f"{preview.procedure.name}: {summary(preview.procedure.analysis)}", class_="dim")
    if not preview.is_current:
        add(header, "div", _waiting(preview), class_="old")
    _findings(add(main, "section", id="findings"), preview)
    _graph(add(main, "section", id="graph"), preview)
    _sample(add(main, "section", id="sample"), preview)
    return main


def _state(preview: Preview) -> str:
    """Such as ``2 errors, 1 warning``."""
    counts = [(preview.count(severity), severity) for severity in ("error", "warning")]
    said = [counted(count, noun) for count, noun in counts if count]
    if not preview.count("error") and not preview.is_current:
        return "no Procedure in this file"
    return ", ".join(said) or "no findings"


def _waiting(preview: Preview) -> str:
    if preview.procedure is None:
        return "The graph and conversations appear once the file has a Procedure without errors."
    return "Graph and conversations below are those of the last save without errors."


def _graph(section: ET.Element, preview: Preview) -> None:
    add(section, "h2", "Graph")
    if preview.procedure is None:
        return
    zoom = add(section, "div", class_="zoom")
    for name, label, help_text in (("in", "+", "Larger"), ("out", "−", "Smaller"), ("fit", "Fit", "Fit width")):
        button = add(zoom, "button", label, type="button", title=help_text)
        button.set("data-zoom", name)
    box = add(section, "div", id="picture", tabindex="0")
    box.append(draw_svg(preview.procedure.written, preview.procedure.name))


def _findings(section: ET.Element, preview: Preview) -> None:
    add(section, "h2", "Findings")
    if not preview.findings:
        add(section, "p", "Lint found nothing.", class_="dim")
        return
    listed = add(section, "ul")
    for line, finding in preview.findings[:_SHOWN_FINDINGS]:
        _finding(add(listed, "li", class_=finding.severity), preview, line, finding)
    if len(preview.findings) > _SHOWN_FINDINGS:
        add(section, "p", f"and {len(preview.findings) - _SHOWN_FINDINGS:,} more; fix these first", class_="dim")


def _finding(item: ET.Element, preview: Preview, line: int, finding: Finding) -> None:
    add(item, "b", f"line {line}: {finding.severity} ")
    node = _NODE.match(finding.where)
    drawn = {each.id for each in preview.procedure.written.nodes} if preview.procedure else set()
    rest = str(finding)
    if node and node[1] in drawn:
        button = add(item, "button", finding.where, type="button", title="Show it in the graph")
        button.set("data-node", node[1])
        rest = rest.removeprefix(finding.where)
    add(item, "span", rest)


def _sample(section: ET.Element, preview: Preview) -> None:
    add(section, "h2", "Conversations it would teach")
    if preview.procedure is None:
        return
    sample = preview.sample
    if sample is None:
        add(section, "p", "The scripted teacher writes them …", class_="dim")
        return
    _problem(section, sample)
    for conversation in sample.conversations:
        _conversation(add(section, "article"), conversation)


def _problem(section: ET.Element, sample: ShownSample) -> None:
    if sample.problem:
        add(section, "p", f"The scripted teacher cannot write them: {sample.problem}", class_="warning pre")


def _conversation(article: ET.Element, conversation: ShownConversation) -> None:
    add(article, "p", conversation.heading)
    for fact in conversation.facts:
        add(article, "p", fact)
    for turn in conversation.turns:
        box = add(article, "div", class_=f"turn {turn.kind}")
        add(box, "small", " · ".join(filter(None, (turn.kind, ", ".join(turn.nodes)))))
        add(box, "span", turn.text)
    for remark in conversation.remarks:
        add(article, "p", remark)
