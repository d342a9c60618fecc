"""Checks of variables and templates, and of what the agent knows when it speaks or decides."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

from subterra_api.v1alpha1.procedure import Node, ProcedureSpec, Variable
from subterra_core.procedure.anywhere import anywhere_edges_by_node
from subterra_core.procedure.dependencies import bounds_of
from subterra_core.procedure.lint.findings import Finding, error, located_nodes, located_utterances, speech, warning
from subterra_core.procedure.lint.tool_checks import check_results_known
from subterra_core.procedure.template import variables_of
from subterra_core.procedure.tools import call_variables, learned_on_edges

_SINGLE_BRACES = re.compile(r"(?<!\{)\{\s*([a-zA-Z][a-zA-Z0-9_]*)\s*\}(?!\})")
"""How a variable looks to those who expect one pair of braces."""
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
        for literal in sorted(set(_SINGLE_BRACES.findall(text)) & declared):
            yield warning(name, path, f"says {{{literal}}} as it stands", f"write {{{{{literal}}}}} for the variable's value")
    used |= {node.fact for node in spec.nodes if node.fact}
    used |= {name for variable in spec.variables for name in bounds_of(variable).values()}
    used |= {name for node in spec.nodes for name in call_variables(spec, node)}
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
    said = {node.id: _said_on_edges(node) for node in spec.nodes}
    known = {node.id: _joined(said[node.id], learned_on_edges(spec, node)) for node in spec.nodes}
    unknown = _unknown_at_nodes(spec, known)
    yield from check_results_known(spec, unknown)
    spoken = {node.id: _mentioned_in(speech(node)) for node in spec.nodes if node.role == "agent"}
    for variable in spec.variables:
        if variable.visibility in ("context", "result"):
            continue
        for node, where, field in located_nodes(spec):
            if variable.name not in unknown[node.id]:
                continue
            says_it = all(variable.name in names for names in said[node.id])
            if node.fact == variable.name and variable.visibility == "customer" and not says_it:
                problem = f"depends on {variable.name}, which the customer may not have said by then"
                fix = f"let an earlier customer turn say {{{{{variable.name}}}}}, or set its visibility to context"
                yield error(where, f"{field}.fact", problem, fix)
            if variable.name in spoken.get(node.id, ()):
                problem = f"the agent says {{{{{variable.name}}}}}, which may be unknown at this point"
                fix = "let an earlier customer turn say it, or set the variable's visibility to context"
                yield warning(where, field, f"{problem}: the model would learn to invent it", fix)


def _unknown_at_nodes(spec: ProcedureSpec, said: Mapping[str, Sequence[Set[str]]]) -> Mapping[str, Set[str]]:
    """For each node, the variables whose values the customer has not said yet in some conversation that reaches it."""
    nodes = {node.id: node for node in spec.nodes}
    unknown: dict[str, set[str]] = {node: set() for node in nodes}
    unknown[spec.start] = {variable.name for variable in spec.variables}
    waiting, leaving_by_node = dict.fromkeys([spec.start]), anywhere_edges_by_node(spec)
    while waiting:
        node = nodes[next(iter(waiting))]
        del waiting[node.id]
        leaving = leaving_by_node.get(node.id, ())
        ways = [*zip(node.next, said[node.id], strict=True), *((edge, _said_in_all(edge.examples or ("",))) for edge in leaving)]
        for edge, names in ways:
            if more := unknown[node.id] - names - unknown[edge.to]:
                unknown[edge.to] |= more
                waiting[edge.to] = None
    return unknown


def _said_on_edges(node: Node) -> list[Set[str]]:
    """For each edge, the variables whose values the customer always says at `node` on the way along it."""
    if node.role != "user":
        return [frozenset()] * len(node.next)
    otherwise = _said_in_all(node.examples or (node.prompt,))
    return [_said_in_all(edge.examples) if edge.examples else otherwise for edge in node.next]


def _joined(said: Sequence[Set[str]], learned: Sequence[Set[str]]) -> list[Set[str]]:
    return [one | other for one, other in zip(said, learned, strict=True)]


def _said_in_all(texts: Iterable[str]) -> Set[str]:
    return set.intersection(*(set(variables_of(text)) for text in texts))


def _mentioned_in(texts: Iterable[str]) -> Set[str]:
    return {name for text in texts for name in variables_of(text)}
