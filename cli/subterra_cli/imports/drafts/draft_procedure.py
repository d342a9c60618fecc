"""Makes a procedure of a draft: choices become hubs, tools get what they return, and what nobody said becomes a gap. Pure."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import networkx as nx
import yaml

from subterra_api.v1alpha1 import API_VERSION
from subterra_cli.imports.drafts.draft import (
    MAX_EXAMPLE,
    MAX_EXAMPLES,
    MAX_PROMPT,
    MAX_VALUE,
    MAX_WAYS,
    MAX_WHEN,
    Draft,
    DraftError,
    Step,
    Way,
    flatten_choices,
    node_id,
    one_line,
    reachable,
    skip_silent,
    unused,
)
from subterra_cli.imports.drafts.draft_values import settle_values
from subterra_cli.imports.gap_count import find_gaps
from subterra_core.procedure.anywhere import condition_words, example_words
from subterra_core.procedure.lint.gaps import GAP

_REST = "otherwise"
_KEYS = ("id", "role", "prompt", "examples", "tool", "arguments", "decidedBy", "fact", "outcome", "next")


def to_procedure(draft: Draft, name: str) -> dict[str, Any]:
    """The Procedure as a document, with its gaps marked. Raises DraftError. Changes `draft`."""
    if draft.start not in draft.steps:
        raise DraftError("there is no step with which a conversation could begin; draw one")
    skip_silent(draft)
    flatten_choices(draft)
    _place_choices(draft)
    _separate_calls(draft)
    _separate_turns(draft)
    _write_endings(draft)
    _end_loops(draft)
    steps = reachable(draft)
    if len(steps) < 2:
        raise DraftError("fewer than two steps can be reached from the beginning; a conversation has at least two")
    spec = _spec(draft, steps)
    settle_values(spec, pass_known=draft.pass_known)
    _check_sizes(spec)
    spec["nodes"] = [{key: node[key] for key in _KEYS if key in node} for node in spec["nodes"]]
    return {"apiVersion": API_VERSION, "kind": "Procedure", "metadata": {"name": name}, "spec": spec}


def _check_sizes(spec: dict[str, Any]) -> None:
    for kind, most in (("nodes", 500), ("variables", 100), ("tools", 30)):
        if len(spec.get(kind, ())) > most:
            problem = f"has {len(spec[kind])} {kind}, more than the {most} of a procedure"
            raise DraftError(f"what was read {problem}; import a part of it: one process, or one flow")


def to_yaml(procedure: dict[str, Any], source: str, hints: tuple[str, ...]) -> str:
    """The Procedure as YAML, below a comment that says what is left to do."""
    lines = [
        f"Imported from {source}.",
        f"- Replace each GAP with what it asks for ({len(find_gaps(procedure))}).",
        *(f"- {hint}" for hint in hints),
        "`subterra lint` lists what is left.",
    ]
    head = "".join(f"# {one_line(line, 1000)}\n" for line in lines)
    return head + yaml.safe_dump(procedure, sort_keys=False, allow_unicode=True, width=120)


def _place_choices(draft: Draft) -> None:
    """Gives the ways of each choice to the steps before it: a customer's or a tool's own, else to a turn of the customer."""
    before = defaultdict[str, list[Step]](list)
    for step in reachable(draft):
        if step.kind != "choice":
            for way in step.ways:
                before[way.to].append(step)
    _begin_with_words(draft)
    for choice in [step for step in draft.steps.values() if step.kind == "choice"]:
        _place(draft, choice, before[choice.key])
    for step in draft.steps.values():
        _settle_turn(step)


def _begin_with_words(draft: Draft) -> None:
    """A conversation begins with words: the customer's, before a call or a branch of facts."""
    first = draft.steps[draft.start]
    if first.kind == "tool" or (first.kind == "choice" and first.decided_by == "fact"):
        key = unused("opening", draft.steps)
        draft.add(Step(key, "user", "opening", draft.opening or f"{GAP}what the customer says first", ways=[Way(first.key)]))
        draft.start = key


def _settle_turn(step: Step) -> None:
    """A choice that is left is a turn of the customer if the customer decides, else a turn of the agent."""
    if step.kind != "choice":
        return
    step.kind = "agent" if step.decided_by == "fact" else "user"
    if step.kind == "agent":
        step.prompt = f"{GAP}what the agent says before it depends on {step.prompt or step.name!r}"


def _place(draft: Draft, choice: Step, before: list[Step]) -> None:
    single = [step for step in before if len(step.ways) == 1]
    calls = [step for step in single if step.kind == "tool"]
    if choice.decided_by == "fact" or calls:
        takers = single if choice.decided_by == "fact" else calls
        fact, ways = _by_fact(draft, choice, [step.tool for step in takers if step.kind == "tool"], all_calls=takers == calls)
        for step in takers:
            step.ways, step.decided_by, step.fact = list(ways), "fact", fact
        if choice.decided_by == "fact":
            choice.ways, choice.fact = list(ways), fact
    if choice.decided_by == "customer":
        for step in single:
            if step.kind == "user":
                step.ways, step.prompt = list(choice.ways), step.prompt or choice.prompt


def _by_fact(draft: Draft, choice: Step, tools: list[str], *, all_calls: bool) -> tuple[str, list[Way]]:
    """The variable that decides, and the ways with its values. One is declared if no variable of the source decides alone."""
    facts = {way.fact for way in choice.ways if not way.otherwise}
    alone = len(facts) == 1 and all(way.values for way in choice.ways if not way.otherwise)
    known = draft.variables.get(next(iter(facts), ""), {})
    if alone and known.get("values") and not known.get("open"):
        return next(iter(facts)), _with_values_left(choice.ways, known["values"])
    fact = unused(f"{node_id(choice.name).removesuffix('_case')}_case", draft.variables)
    ways, values = list[Way](), list[str]()
    for way in choice.ways:
        value = _REST if way.otherwise else one_line(" or ".join(way.values) or way.when, MAX_VALUE - 10)
        value = unused(value or f"{GAP}which result leads to {draft.steps[way.to].name!r}", values)
        values.append(value)
        ways.append(replace(way, fact=fact, values=(value,), otherwise=False))
    seen = "result" if all_calls and tools else "context"
    note = f"Decides: {choice.prompt}" if choice.prompt else f"Which of these holds at {choice.name}."
    draft.variable(fact, description=one_line(note, MAX_WHEN), visibility=seen, values=values)
    for tool in dict.fromkeys(tools) if seen == "result" else ():
        draft.tools[tool].setdefault("results", []).append(fact)
    return fact, ways


def _separate_calls(draft: Draft) -> None:
    """Has the agent speak between a call and the customer's turn."""
    for step in [step for step in draft.steps.values() if step.kind == "tool"]:
        for index, way in enumerate(step.ways):
            if draft.steps[way.to].kind != "user":
                continue
            key = f"{step.key} says {way.to}"
            if key not in draft.steps:
                said = f"{GAP}what the agent says after calling {step.tool!r}"
                draft.add(Step(key, "agent", f"after_{step.name}", said, ways=[Way(way.to)]))
            step.ways[index] = replace(way, to=key)


def _separate_turns(draft: Draft) -> None:
    """Has the agent speak where the customer would decide twice in a row."""
    for step in list(draft.steps.values()):
        for index, way in enumerate(step.ways):
            after = draft.steps[way.to]
            if step.kind != "user" or after.kind != "user" or min(len(step.ways), len(after.ways)) < 2:
                continue
            key = f"before {after.key}"
            if key not in draft.steps:
                said = f"{GAP}what the agent says before {after.name!r}; the source says nothing there"
                draft.add(Step(key, "agent", f"before_{after.name}", said, ways=[Way(after.key)]))
            step.ways[index] = replace(way, to=key)


def _end_loops(draft: Draft) -> None:
    """A way out of each loop that has none: the customer's, whose words are a gap."""
    graph: Any = nx.DiGraph()
    for step in reachable(draft):
        graph.add_node(step.key)
        graph.add_edges_from((step.key, way.to) for way in step.ways)
    inner = nx.condensation(graph)
    for part in [part for part in inner if inner.out_degree(part) == 0]:
        members = inner.nodes[part]["members"]
        turns = [draft.steps[key] for key in graph if key in members]
        asked = [step for step in turns if step.kind == "user" and step.decided_by == "customer" and len(step.ways) < MAX_WAYS]
        if not all(step.ways for step in turns) or not asked:
            continue
        taken = max(asked, key=lambda step: len(step.ways))
        taken.ways = [replace(way, otherwise=way.otherwise or len(taken.ways) == 1) for way in taken.ways]
        closing = draft.add(Step(f"{taken.key} over", "agent", "closing", f"{GAP}how the agent ends the conversation"))
        taken.ways.append(Way(closing.key, f"{GAP}what the customer says when the conversation is over"))


def _write_endings(draft: Draft) -> None:
    """Ends each conversation with words of the agent: those of an end, or the turn before an end that has none."""
    for step in list(draft.steps.values()):
        if step.kind == "agent" and len(step.ways) == 1:
            after = draft.steps[step.ways[0].to]
            if after.kind == "end" and not after.prompt:
                step.ways, step.outcome = [], after.outcome
        elif step.kind in ("user", "tool") and not step.ways:
            step.ways = [Way(draft.add(Step(f"{step.key} end", "end", "closing")).key)]
    for step in draft.steps.values():
        if step.kind == "end":
            step.kind, step.prompt = "agent", step.prompt or f"{GAP}how the agent ends the conversation"


def _spec(draft: Draft, steps: list[Step]) -> dict[str, Any]:
    ids = dict[str, str]()
    for step in steps:
        ids[step.key] = unused(node_id(step.name), ids.values())
    spec: dict[str, Any] = {
        "systemPrompt": one_line(draft.system_prompt, 2000) or f"{GAP}one sentence that says who the agent is",
        "start": ids[draft.start],
        "nodes": [_node(step, ids, draft) for step in steps],
    }
    called = {step.tool for step in steps if step.kind == "tool"}
    tools = [tool for name, tool in draft.tools.items() if name in called]
    variables = [draft.variables[name] for name in _used(draft, spec["nodes"], tools)]
    said = {"offTopic": draft.off_topic, "unknownValue": draft.unknown_value}
    otherwise = {kind: _said(texts)[:MAX_WAYS] for kind, texts in said.items() if texts}
    lists: tuple[tuple[str, Any], ...] = (("variables", variables), ("tools", tools), ("otherwise", otherwise))
    return spec | {name: found for name, found in lists if found}


def _used(draft: Draft, nodes: list[dict[str, Any]], tools: list[dict[str, Any]]) -> Iterator[str]:
    """Names of the variables that nodes or tools name."""
    text = str(nodes)
    returned = {name for tool in tools for name in tool.get("results", [])}
    facts = {node.get("fact") for node in nodes}
    for name in draft.variables:
        if name in returned or name in facts or f"{{{{{name}}}}}" in text:
            yield name


def _node(step: Step, ids: dict[str, str], draft: Draft) -> dict[str, Any]:
    node: dict[str, Any] = {"id": ids[step.key], "role": step.kind}
    if prompt := one_line(step.prompt, MAX_PROMPT):
        node["prompt"] = prompt
    elif step.kind == "agent":
        node["prompt"] = f"{GAP}what the agent says at {step.name!r}"
    if step.kind == "tool":
        node["tool"] = step.tool
        if step.arguments:
            node["arguments"] = [{"name": name, "value": one_line(value, 500)} for name, value in step.arguments.items()]
    ways = _merged(step.ways)
    if len(ways) > MAX_WAYS:
        raise DraftError(f"{step.name!r} has {len(ways)} ways; a node has at most {MAX_WAYS}: import a part of it")
    branches = len(ways) > 1
    by_fact = step.decided_by == "fact"
    if step.examples and step.kind != "tool" and not (step.kind == "user" and branches and not by_fact):
        node["examples"] = _said(step.examples)
    if by_fact and branches:
        node |= {"decidedBy": "fact", "fact": step.fact}
    if not ways:
        return node | {"outcome": step.outcome}
    write: Callable[[Way], dict[str, Any]] = _fact_edge if by_fact and branches else _edge
    edges = [write(way) | {"to": ids[way.to]} for way in ways]
    node["next"] = [{"to": edge.pop("to"), **edge} for edge in edges]
    if step.kind == "user" and branches and not by_fact:
        _tell_apart(node["next"], ways, draft)
    elif not branches:
        node["next"] = [{"to": ids[ways[0].to]}]
        _say_only_way(node, ways[0])
    return node


def _say_only_way(node: dict[str, Any], way: Way) -> None:
    """What the customer says on the only way becomes the node's own words."""
    if node["role"] == "user":
        said = {"prompt": one_line(way.when, MAX_WHEN), "examples": _said(way.examples)}
        node |= {field: value for field, value in said.items() if value and field not in node}


def _said(texts: tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys(one_line(text, MAX_EXAMPLE) for text in texts if text.strip()))[:MAX_EXAMPLES]


def _edge(way: Way) -> dict[str, Any]:
    when, examples = one_line(way.when, MAX_WHEN), _said(way.examples)
    return ({"when": when} if when else {}) | ({"examples": examples} if examples else {})


def _fact_edge(way: Way) -> dict[str, Any]:
    return {"values": list(way.values)} if way.values and not way.otherwise else {}


def _tell_apart(edges: list[dict[str, Any]], ways: list[Way], draft: Draft) -> None:
    """Writes a condition on each edge of a customer's hub, and leaves an example to the first edge that has it."""
    told, said = set[Any](), set[Any]()
    for edge, way in zip(edges, ways, strict=True):
        target = draft.steps[way.to]
        others = "; ".join(each.when for each in ways if each is not way and each.when and GAP not in each.when)
        if way.otherwise and not way.when:
            edge["when"] = one_line(f"None of these: {others}" if others else "None of the others applies.", MAX_WHEN)
        if not edge.get("when") or condition_words(edge["when"]) in told:
            label = f" (the source calls it {way.when!r})" if way.when else ""
            edge["when"] = one_line(f"{GAP}what the customer says to get to {target.name!r}{label}", MAX_WHEN)
        told.add(condition_words(edge["when"]))
        kept = [text for text in edge.get("examples", []) if example_words(text) not in said]
        said.update(map(example_words, kept))
        edge.pop("examples", None)
        if kept:
            edge["examples"] = kept


def _with_values_left(ways: list[Way], values: list[str]) -> list[Way]:
    """The ways without one for the rest, where the others have all values of the fact."""
    named = {value for way in ways for value in way.values}
    return [way for way in ways if not way.otherwise or not named >= {*values}]


def _merged(ways: list[Way]) -> list[Way]:
    """One way to each target, with the conditions of all."""
    found = dict[str, Way]()
    for way in ways:
        if (same := found.get(way.to)) is None:
            found[way.to] = way
            continue
        rest = same.otherwise or way.otherwise
        words = " or ".join(dict.fromkeys(each.when for each in (same, way) if each.when))
        found[way.to] = Way(
            way.to,
            words if not rest else "",
            (*same.examples, *way.examples),
            same.fact,
            () if rest else tuple(dict.fromkeys((*same.values, *way.values))),
            rest,
        )
    return list(found.values())
