"""Converts a Mermaid flowchart to a Procedure. What a drawing does not say becomes a gap or a finding of lint, never a guess.

Boxes are turns of the agent unless their class or their first word (`Customer: …`) names the customer. A box of the agent that
branches is followed by a turn of the customer who decides. What `subterra graph -o mermaid` wrote is recognized by its classes.
"""

import re
from collections.abc import Mapping
from typing import Any, get_args

import yaml

from subterra_api.v1alpha1 import API_VERSION
from subterra_api.v1alpha1.procedure import ROLE_SPELLINGS, Outcome
from subterra_cli.imports.gap_count import find_gaps
from subterra_cli.imports.mermaid_text import Arrow, Box, Flowchart, MermaidError
from subterra_core.procedure.lint.gaps import GAP

_OUTCOMES = get_args(Outcome)
_ROLES = {**ROLE_SPELLINGS, "caller": "user", "client": "user", "bot": "agent", "assistant": "agent"}
_SPEAKER = re.compile(rf"({'|'.join(_ROLES)})\s*:\s*", re.IGNORECASE)
_OWN_NAME = re.compile(r"n\d+")
_NODE_ID = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,62}")
_COUNT = re.compile(r"\s*\([\d,]+×\)$")
_GUARDS = re.compile(r"^(.*?)\s*\(if (\S+ went to .+ last)\)$", re.DOTALL)
_GUARD = re.compile(r"(\S+) went to (.+?) last(?: and |$)")
_BEGINNINGS, _ENDINGS = ("start", "begin", "beginning"), ("end", "stop", "finish", "done")
_ROLES_WITHOUT_PROMPT = {
    "tool": "role: tool with tool and arguments",
    "collect": "role: collect with collects",
    "call": "role: call with procedure, inputs and outcomes of its edges",
}
"""Classes of boxes, and what their nodes have in place of a prompt."""
_HISTORY, _REST = "history", "anything else"


def to_procedure(chart: Flowchart, name: str) -> dict[str, Any]:
    """The Procedure as a document, with its gaps marked. Raises MermaidError for a chart without nodes."""
    if not chart.boxes:
        raise MermaidError("the flowchart has no nodes; draw at least two")
    own = all(_OWN_NAME.fullmatch(box.name) and {*box.classes} & {*_ROLES, *_OUTCOMES} for box in chart.boxes.values())
    chart = chart if own else _without_start(chart)
    ids = _own_ids(chart) if own else _ids(chart)
    variables: dict[str, list[str]] = {}
    boxes = [box for box in chart.boxes.values() if box.name != chart.anywhere]
    nodes = [node for box in boxes for node in _nodes(box, chart, ids, variables, own=own)]
    spec: dict[str, Any] = {"systemPrompt": f"{GAP}one sentence that says who the agent is", "start": ids[_start(chart, own=own)]}
    spec["nodes"] = nodes
    if chart.anywhere:
        spec["anywhere"] = _anywhere(chart, ids)
    if variables:
        note = f"{GAP}what it means; correct visibility if the customer says it, and complete the values"
        spec["variables"] = [
            {"name": fact, "visibility": "context", "values": values, "description": note} for fact, values in variables.items()
        ]
    return {"apiVersion": API_VERSION, "kind": "Procedure", "metadata": {"name": name}, "spec": spec}


def _without_start(chart: Flowchart) -> Flowchart:
    """The chart without a box that only says that the conversation begins."""
    for name, box in chart.boxes.items():
        out = [arrow for arrow in chart.arrows if arrow.source == name]
        entered = any(arrow.target == name for arrow in chart.arrows)
        if (box.text or name).lower() in _BEGINNINGS and len(out) == 1 and not entered and not out[0].label:
            boxes = {other: each for other, each in chart.boxes.items() if other != name}
            return Flowchart(boxes, [arrow for arrow in chart.arrows if arrow.source != name], out[0].target)
    return chart


def _own_ids(chart: Flowchart) -> dict[str, str]:
    return {name: box.text.partition("\n")[0] for name, box in chart.boxes.items()}


def _ids(chart: Flowchart) -> dict[str, str]:
    """A valid node id for each name of the chart, and one that is free with `_answer` behind it."""
    ids: dict[str, str] = {}
    for name in chart.boxes:
        plain = re.sub(r"[^a-zA-Z0-9_-]+", "_", name).strip("_")
        plain = (plain if plain[:1].isascii() and plain[:1].isalpha() else f"node_{plain}".rstrip("_"))[:40]
        used = {taken for node in ids.values() for taken in (node, f"{node}_answer", f"{node}_closing")}
        candidates = (plain, *(f"{plain}_{number}" for number in range(2, len(used) + 3)))
        ids[name] = next(each for each in candidates if not {each, f"{each}_answer", f"{each}_closing"} & used)
    return ids


def _start(chart: Flowchart, *, own: bool) -> str:
    """The named start; else the first node, or the first one to which nothing leads if others drew the chart."""
    entered = {arrow.target for arrow in chart.arrows}
    free = [name for name in chart.boxes if name not in entered]
    return chart.start or next(iter(chart.boxes if own or not free else free))


def _nodes(
    box: Box, chart: Flowchart, ids: Mapping[str, str], variables: dict[str, list[str]], *, own: bool
) -> list[dict[str, Any]]:
    arrows = _merged([arrow for arrow in chart.arrows if arrow.source == box.name])
    role, text = _role(box)
    outcome = next((each for each in box.classes if each in _OUTCOMES), None)
    if own:
        text = _prompt_in(text, outcome)
    for kind, instead in _ROLES_WITHOUT_PROMPT.items():
        if kind in box.classes:
            text = f"{GAP}{instead}, instead of this prompt, for {text!r}"
    prompt = {"prompt": text or f"{GAP}what the agent says at {ids[box.name]!r}"} if text or role == "agent" else {}
    node: dict[str, Any] = {"id": ids[box.name], "role": role, **prompt}
    if own and len(arrows) > 1 and box.name in chart.decides:
        return [node | _decided(arrows, chart.decides[box.name], ids, variables)]
    if not arrows:
        return _ending(node, outcome)
    if len(arrows) > 1:
        branches = {"next": [_branch(arrow, ids, chart) for arrow in arrows]}
        return _answered(node, branches) if role == "agent" else [node | branches]
    (arrow,) = arrows
    if not own and role == "agent" and _is_answered(arrow, text, chart):
        prompt = {} if arrow.label else {"prompt": f"{GAP}what the customer answers to {text!r}"}
        return _answered(node, prompt | {"next": [_edge(arrow, ids)]})
    return [node | {"next": [_edge(arrow, ids)]}]


def _prompt_in(text: str, outcome: str | None) -> str:
    """The prompt in a box that `subterra graph` drew, below the node's id; a gap where it was cut."""
    prompt = "\n".join(line for line in text.splitlines()[1:] if line != f"ends: {outcome}")
    return f"{GAP}the whole of: {prompt}" if prompt.endswith(" …") else prompt


def _is_answered(arrow: Arrow, text: str, chart: Flowchart) -> bool:
    """Whether the customer must speak between an agent's box with one arrow and the box behind it."""
    return _role(chart.boxes[arrow.target])[0] == "agent" and bool(arrow.label or text.endswith("?"))


def _answered(node: dict[str, Any], answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The agent's node, and the customer's turn after it."""
    customer = f"{node['id']}_answer"
    return [node | {"next": [{"to": customer}]}, {"id": customer, "role": "user", **answer}]


def _anywhere(chart: Flowchart, ids: Mapping[str, str]) -> list[dict[str, Any]]:
    """The edges that the customer may take at any turn, with their exceptions."""
    edges = []
    for arrow in _merged([arrow for arrow in chart.arrows if arrow.source == chart.anywhere]):
        closed = [ids[name] for name in chart.exceptions.get(arrow.target, ()) if name in ids]
        label = _COUNT.sub("", arrow.label).removesuffix(f" (not at {', '.join(closed)})")
        edges.append(_branch(Arrow(arrow.source, arrow.target, label), ids, chart) | ({"except": closed} if closed else {}))
    return edges


def _ending(node: dict[str, Any], outcome: str | None) -> list[dict[str, Any]]:
    """A terminal. The agent has the last word, and lint asks for an outcome that the chart does not name."""
    ends = {"outcome": outcome} if outcome else {}
    if node["role"] == "agent":
        silent = node["prompt"].lower() in _ENDINGS
        return [node | ({"prompt": f"{GAP}how the agent ends the conversation"} if silent else {}) | ends]
    closing = f"{node['id']}_closing"
    last = {"id": closing, "role": "agent", "prompt": f"{GAP}how the agent ends the conversation after {node['id']!r}", **ends}
    return [node | {"next": [{"to": closing}]}, last]


def _role(box: Box) -> tuple[str, str]:
    """Who speaks, and what: by class, by the name in front of the text, else the agent."""
    named = _SPEAKER.match(box.text)
    role = next((_ROLES[each.lower()] for each in box.classes if each.lower() in _ROLES), None)
    text = box.text[named.end() :] if named else box.text
    return role or (_ROLES[named[1].lower()] if named else "agent"), text or ("" if box.text else box.name)


def _merged(arrows: list[Arrow]) -> list[Arrow]:
    """One edge to each target, with the labels of all."""
    labels: dict[str, list[str]] = {}
    for arrow in arrows:
        labels.setdefault(arrow.target, []).extend([arrow.label] if arrow.label else [])
    return [Arrow(arrows[0].source, target, " or ".join(dict.fromkeys(texts))) for target, texts in labels.items()]


def _edge(arrow: Arrow, ids: Mapping[str, str]) -> dict[str, Any]:
    """An edge with its condition and its guards."""
    label, guards = _COUNT.sub("", arrow.label), []
    if guarded := _GUARDS.match(label):
        label = guarded[1]
        guards = [{"hub": hub, "took": took.split(" or ")} for hub, took in _GUARD.findall(guarded[2])]
    return {"to": ids[arrow.target], **({"when": label[:500]} if label else {}), **({"guards": guards} if guards else {})}


def _branch(arrow: Arrow, ids: Mapping[str, str], chart: Flowchart) -> dict[str, Any]:
    target = (chart.boxes[arrow.target].text or arrow.target).replace("\n", " ")
    return {"to": ids[arrow.target], "when": f"{GAP}what the customer says to get to {target!r}"[:500]} | _edge(arrow, ids)


def _decided(arrows: list[Arrow], by: str, ids: Mapping[str, str], variables: dict[str, list[str]]) -> dict[str, Any]:
    """Decision and edges of a hub where `by` decides: the history, or the fact of this name."""
    edges = [_edge(arrow, ids) for arrow in arrows]
    decisions = [edge.pop("when", "").rpartition(f"{by} is ") for edge in edges]
    if by == _HISTORY:
        return {"decidedBy": _HISTORY, "next": edges}
    known = variables.setdefault(by, [])
    for edge, (when, _, text) in zip(edges, decisions, strict=True):
        values = [] if text == _REST else text.split(" or ")
        known += [value for value in values if value not in known]
        edge.update(({"when": when.removesuffix("; ")} if when else {}) | ({"values": values} if values else {}))
    if not all("values" in edge for edge in edges) and (other := f"{GAP}the other values") not in known:
        known.append(other)
    return {"decidedBy": "fact", "fact": by, "next": edges}


def to_yaml(procedure: dict[str, Any], source: str) -> str:
    """The Procedure as YAML, below a comment that says what is left to do."""
    head = f"""\
# Imported from {source}. A drawing does not say who speaks in a box, who decides, or how a conversation ended:
# - replace each GAP with what it asks for ({len(find_gaps(procedure))}), and set the outcome of each ending;
# - put a turn of the customer wherever the customer speaks: boxes of the agent in a row are one message;
# - a branch is taken to be the customer's to decide; where a fact decides, set decidedBy: fact and fact.
# `subterra lint` lists what is left.
"""
    return head + yaml.safe_dump(procedure, sort_keys=False, allow_unicode=True, width=120)
