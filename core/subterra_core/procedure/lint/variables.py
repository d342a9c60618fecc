"""Checks of variables and templates, and of what the agent knows when it speaks or decides."""

import re
from collections.abc import Iterator, Set

from subterra_api.v1alpha1.procedure import Edge, Node, ProcedureSpec, Variable
from subterra_core.procedure.lint.findings import Finding, error, located_nodes, located_utterances, speech, warning
from subterra_core.procedure.template import variables_of

_FORMAT = {
    "integer": re.compile(r"([^{}]|\{value(:,)?\})*"),
    "dateRange": re.compile(r"([^{}]|\{(start|end)(:[^{}]*)?\})*"),
    "string": re.compile(r"[^{}]*"),
}
"""Allowed formats by type: no attribute access, so that a procedure cannot reach into the writer."""


def check_variables(spec: ProcedureSpec) -> Iterator[Finding]:
    """Undeclared, unused and incomplete variables."""
    declared, used = {variable.name for variable in spec.variables}, set[str]()
    for name, path, text in located_utterances(spec):
        used |= set(variables_of(text))
        for unknown in sorted(set(variables_of(text)) - declared):
            problem = f"uses {{{{{unknown}}}}}, which is not declared"
            yield error(name, path, problem, "add it to spec.variables or correct it")
    used |= {node.fact for node in spec.nodes if node.fact}
    if names := variables_of(spec.system_prompt):
        problem = f"contains {{{{{names[0]}}}}}, but the system prompt is the same in all conversations"
        fix = "remove it and set the variable's visibility to context: a line with its value then follows the system prompt"
        yield error("spec.systemPrompt", "spec.systemPrompt", problem, fix)
    for index, variable in enumerate(spec.variables):
        where, path = f"variable {variable.name}", f"spec.variables[{index}]"
        if variable.name not in used:
            yield warning(where, path, "is not used by any node", "remove it or use it")
        for field, problem, fix in _incomplete(variable):
            yield error(where, f"{path}{field}", problem, fix)


def _incomplete(variable: Variable) -> Iterator[tuple[str, str, str]]:
    """Field, problem and fix of whatever its type lacks."""
    if variable.type == "string" and not variable.values:
        yield "", "has no values", "list its values"
    if variable.type == "integer" and (variable.minimum is None or variable.maximum is None or variable.minimum > variable.maximum):
        yield "", "needs minimum and maximum", "set both, with minimum not above maximum"
    if variable.type == "dateRange" and (not variable.from_ or not variable.to or variable.from_ > variable.to):
        yield "", "needs from and to", "set both, with from not after to"
    if variable.type == "dateRange" and variable.min_days > variable.max_days:
        yield ".minDays", "has minDays above maxDays", "swap them"
    for index, text in enumerate(variable.formats):
        if not _FORMAT[variable.type].fullmatch(text):
            fix = "use {value} or {value:,} for integers, {start:%-d %B} and {end:%-d %B} for date ranges"
            yield f".formats[{index}]", f"has the unsupported format {text!r}", fix


def check_known_when_used(spec: ProcedureSpec) -> Iterator[Finding]:
    """Values that the agent says or decides by without knowing them: training would teach it to invent them."""
    for variable in spec.variables:
        if variable.visibility == "context":
            continue
        unknown_at = _nodes_before_mention(spec, variable.name)
        for node, where, field in located_nodes(spec):
            if node.id not in unknown_at:
                continue
            says_it = all(_mentions(node, edge, variable.name) for edge in node.next)
            if node.fact == variable.name and variable.visibility == "customer" and not says_it:
                problem = f"depends on {variable.name}, which the customer may not have said by then"
                fix = f"let an earlier customer turn say {{{{{variable.name}}}}}, or set its visibility to context"
                yield error(where, f"{field}.fact", problem, fix)
            if node.role == "agent" and any(variable.name in variables_of(text) for text in speech(node)):
                unknown = f"the agent says {{{{{variable.name}}}}}, which may be unknown at this point"
                fix = "let an earlier customer turn say it, or set the variable's visibility to context"
                yield warning(where, field, f"{unknown}: the model would learn to invent it", fix)


def _nodes_before_mention(spec: ProcedureSpec, variable: str) -> Set[str]:
    """Nodes that some conversation reaches before the customer has said the variable's value."""
    nodes = {node.id: node for node in spec.nodes}
    reached, waiting = {spec.start}, [spec.start]
    while waiting:
        node = nodes[waiting.pop()]
        onward = {edge.to for edge in node.next if not _mentions(node, edge, variable)} - reached
        reached |= onward
        waiting += onward
    return reached


def _mentions(node: Node, edge: Edge, variable: str) -> bool:
    """Whether the customer always says the value at `node` on the way along `edge`."""
    texts = edge.examples or node.examples or (node.prompt,)
    return node.role == "user" and all(variable in variables_of(text) for text in texts)
