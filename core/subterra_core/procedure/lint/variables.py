"""Checks of variables, templates and knowledge."""

import re
from collections.abc import Iterator, Set

from subterra_api.v1alpha1.procedure import Edge, Node, ProcedureSpec, Variable
from subterra_core.procedure.lint.findings import Finding, _each_edge, _each_node, _error, _warning
from subterra_core.procedure.template import variables_of

_FORMAT = {
    "integer": re.compile(r"([^{}]|\{value(:,)?\})*"),
    "dateRange": re.compile(r"([^{}]|\{(start|end)(:[^{}]*)?\})*"),
    "string": re.compile(r"[^{}]*"),
}
"""What a variable's format may hold: no attribute access, so that a procedure cannot reach into the writer."""


def _variables(spec: ProcedureSpec) -> Iterator[Finding]:
    declared, used = {variable.name for variable in spec.variables}, set[str]()
    for name, at, text in _texts(spec):
        used |= set(variables_of(text))
        for unknown in sorted(set(variables_of(text)) - declared):
            problem = f"uses {{{{{unknown}}}}}, which is not declared"
            yield _error(name, at, problem, "add it to spec.variables or correct it")
    used |= {node.fact for node in spec.nodes if node.fact}
    if names := variables_of(spec.system_prompt):
        problem = f"holds {{{{{names[0]}}}}}, but the system prompt is the same for everybody"
        cure = "take it out and set the variable's visibility to context: a line of its own then follows the system prompt"
        yield _error("spec.systemPrompt", "spec.systemPrompt", problem, cure)
    for place, variable in enumerate(spec.variables):
        where, at = f"variable {variable.name}", f"spec.variables[{place}]"
        if variable.name not in used:
            yield _warning(where, at, "is not used by any node", "remove it or mention it")
        for field, problem, cure in _variable(variable):
            yield _error(where, f"{at}{field}", problem, cure)


def _texts(spec: ProcedureSpec) -> Iterator[tuple[str, str, str]]:
    """All that is said or prompted, with its place."""
    for place, text in enumerate(spec.openers):
        yield "spec.openers", f"spec.openers[{place}]", text
    for node, where, field in _each_node(spec):
        yield where, f"{field}.prompt", node.prompt
        for place, text in enumerate(node.examples):
            yield where, f"{field}.examples[{place}]", text
        for edge, name, at in _each_edge(node, field):
            for place, text in enumerate(edge.examples):
                yield name, f"{at}.examples[{place}]", text


def _variable(variable: Variable) -> Iterator[tuple[str, str, str]]:
    if variable.type == "string" and not variable.values:
        yield "", "has no values", "list some"
    if variable.type == "integer" and (variable.minimum is None or variable.maximum is None or variable.minimum > variable.maximum):
        yield "", "needs minimum and maximum", "set both, minimum first"
    if variable.type == "dateRange" and (not variable.from_ or not variable.to or variable.from_ > variable.to):
        yield "", "needs from and to", "set both, the earlier day first"
    if variable.type == "dateRange" and variable.min_days > variable.max_days:
        yield ".minDays", "has minDays above maxDays", "swap them"
    for place, text in enumerate(variable.formats):
        if not _FORMAT[variable.type].fullmatch(text):
            cure = "use {value} or {value:,} for integers, {start:%-d %B} and {end:%-d %B} for date ranges"
            yield f".formats[{place}]", f"has the format {text!r}, which is not understood", cure


def _knowledge(spec: ProcedureSpec) -> Iterator[Finding]:
    """Whether the agent knows what it says and what it decides by: what nobody told it, training would teach it to make up."""
    for variable in spec.variables:
        if variable.visibility == "context":
            continue
        untold = _untold(spec, variable.name)
        for node, where, field in _each_node(spec):
            if node.id not in untold:
                continue
            told = all(_tells(node, edge, variable.name) for edge in node.next)
            if node.fact == variable.name and variable.visibility == "customer" and not told:
                problem = f"rests on {variable.name}, which the customer may not have said by then"
                cure = f"let a turn of the customer before it say {{{{{variable.name}}}}}, or set its visibility to context"
                yield _error(where, f"{field}.fact", problem, cure)
            if node.role == "agent" and any(variable.name in variables_of(text) for text in _speech(node)):
                problem = f"the agent says {{{{{variable.name}}}}}, which nobody may have told it by then; it learns to make it up"
                cure = "let the customer say it before, or set the variable's visibility to context"
                yield _warning(where, field, problem, cure)


def _untold(spec: ProcedureSpec, variable: str) -> Set[str]:
    """Nodes that some conversation reaches before the customer said the variable's value."""
    nodes = {node.id: node for node in spec.nodes}
    found, waiting = {spec.start}, [spec.start]
    while waiting:
        node = nodes[waiting.pop()]
        onward = {edge.to for edge in node.next if not _tells(node, edge, variable)} - found
        found |= onward
        waiting += onward
    return found


def _tells(node: Node, edge: Edge, variable: str) -> bool:
    texts = edge.examples or node.examples or (node.prompt,)
    return node.role == "user" and all(variable in variables_of(text) for text in texts)


def _speech(node: Node) -> tuple[str, ...]:
    return (node.prompt, *node.examples, *(text for edge in node.next for text in edge.examples))
