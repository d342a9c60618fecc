"""Checks of tools and of the nodes that call them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Set

from subterra_api.v1alpha1.procedure import Node, ProcedureSpec, Tool, ToolArgument, ToolParameter, Variable
from subterra_core.procedure.lint.findings import Finding, did_you_mean, error, located_edges, located_nodes, speech, warning
from subterra_core.procedure.template import variables_of
from subterra_core.procedure.tools import SUCCESS, argument_variables, json_value, returned_variables, tools_by_name

_LISTED = 5
"""Names that a message lists."""


def check_tools(spec: ProcedureSpec) -> Iterator[Finding]:
    """Errors in tools, their results, and the nodes that call them."""
    yield from _check_declarations(spec)
    yield from _check_results(spec)
    known, roles = tools_by_name(spec), {node.id: node.role for node in spec.nodes}
    for node, where, field in located_nodes(spec):
        if node.role != "tool":
            yield from _check_no_call(node, where, field)
            continue
        yield from _check_place(node, where, field, roles)
        tool = known.get(node.tool or "")
        if tool is None:
            problem = f"calls {node.tool!r}, which is not declared" if node.tool else "has no tool"
            listed = ", ".join(list(known)[:_LISTED])
            fix = f"set tool to one of {listed}" if known else "declare it in spec.tools"
            yield error(where, f"{field}.tool", problem, did_you_mean(node.tool or "", known, fix))
        else:
            yield from _check_arguments(spec, node, tool, where, field)


def check_results_known(spec: ProcedureSpec, unknown: Mapping[str, Set[str]]) -> Iterator[Finding]:
    """Errors for arguments that the agent may not know yet, and for results that are used before a tool returned them."""
    results = {variable.name for variable in spec.variables if variable.visibility == "result"}
    context = {variable.name for variable in spec.variables if variable.visibility == "context"}
    if not results and not spec.tools:
        return
    for node, where, field in located_nodes(spec):
        for name in sorted((argument_variables(node) & unknown[node.id]) - context):
            index = next(i for i, argument in enumerate(node.arguments) if name in variables_of(argument.value))
            problem = f"needs {{{{{name}}}}}, which may be unknown at this point"
            source = "call the tool that returns it first" if name in results else "let an earlier customer turn say it"
            fix = f"{source}, or set its visibility to context"
            yield error(where, f"{field}.arguments[{index}].value", problem, fix)
        said = {name for text in speech(node) for name in variables_of(text)}
        for name in sorted(said & results & unknown[node.id]):
            problem = f"says {{{{{name}}}}}, which no tool has returned on some way here"
            yield error(where, field, problem, _call_first(spec, name))
        if node.fact in results & unknown[node.id] and node.fact not in _own_results(spec, node):
            problem = f"depends on {node.fact}, which no tool has returned on some way here"
            yield error(where, f"{field}.fact", problem, _call_first(spec, node.fact or ""))


def _call_first(spec: ProcedureSpec, name: str) -> str:
    tool = next((tool for tool in spec.tools if name in returned_variables(tool)), None)
    if tool is None:
        return "add it to the results of a tool"
    behind = f", and go on from the edge for {tool.outcome} {SUCCESS}" if tool.outcome and name != tool.outcome else ""
    return f"call {tool.name} on every way to this node{behind}"


def _own_results(spec: ProcedureSpec, node: Node) -> tuple[str, ...]:
    """What the node's own call returns in any case, before its edges are looked at."""
    tool = tools_by_name(spec).get(node.tool or "") if node.role == "tool" else None
    if tool is None:
        return ()
    return (tool.outcome,) if tool.outcome else tool.results


def _check_declarations(spec: ProcedureSpec) -> Iterator[Finding]:
    called = {node.tool for node in spec.nodes if node.role == "tool"}
    names = Counter(tool.name for tool in spec.tools)
    for index, tool in enumerate(spec.tools):
        where, path = f"tool {tool.name}", f"spec.tools[{index}]"
        if names[tool.name] > 1:
            names[tool.name] = 1
            yield error(where, f"{path}.name", "its name is used more than once", "give every tool its own name")
        if tool.name not in called:
            yield warning(where, path, "is not called by any node", "remove it, or call it at a node of role tool")
        parameters = Counter(parameter.name for parameter in tool.parameters)
        for place, parameter in enumerate(tool.parameters):
            if parameters[parameter.name] > 1:
                parameters[parameter.name] = 1
                problem = f"has several parameters {parameter.name}"
                yield error(where, f"{path}.parameters[{place}].name", problem, "give every parameter its own name")
            if parameter.enum and parameter.type != "string":
                problem = f"has an enum for {parameter.name}, whose type is {parameter.type}"
                yield error(where, f"{path}.parameters[{place}].enum", problem, "remove it, or set type: string")


def _check_results(spec: ProcedureSpec) -> Iterator[Finding]:
    variables = {variable.name: variable for variable in spec.variables}
    returned = {name for tool in spec.tools for name in returned_variables(tool)}
    for index, tool in enumerate(spec.tools):
        where, path = f"tool {tool.name}", f"spec.tools[{index}]"
        fields = [(f"{path}.results[{place}]", name) for place, name in enumerate(tool.results)]
        for field, name in [*fields, *([(f"{path}.outcome", tool.outcome)] if tool.outcome else ())]:
            if name in variables:
                yield from _check_result(variables[name], where, field)
            else:
                fix = did_you_mean(name, variables, "add it to spec.variables with visibility: result")
                yield error(where, field, f"returns {name!r}, which is not declared", fix)
        if tool.outcome in tool.results:
            yield error(where, f"{path}.outcome", f"{tool.outcome} is also one of its results", "remove it from results")
        outcome = variables.get(tool.outcome or "")
        if outcome is not None:
            yield from _check_outcome(outcome, where, f"{path}.outcome")
    for index, variable in enumerate(spec.variables):
        if variable.visibility == "result" and variable.name not in returned:
            fix = "add it to results of one of spec.tools, or set another visibility"
            yield error(f"variable {variable.name}", f"spec.variables[{index}]", "is a result that no tool returns", fix)


def _check_result(variable: Variable, where: str, field: str) -> Iterator[Finding]:
    if variable.visibility != "result":
        problem = f"returns {variable.name}, whose visibility is {variable.visibility}"
        yield error(where, field, problem, f"set visibility: result on {variable.name}, or return another variable")


def _check_outcome(outcome: Variable, where: str, field: str) -> Iterator[Finding]:
    if outcome.type != "string" or outcome.open or SUCCESS not in outcome.values:
        problem = f"its outcome {outcome.name} does not list the value {SUCCESS}, or is open"
        yield error(where, field, problem, f"make {outcome.name} a closed string with values such as [{SUCCESS}, not_found]")


def _check_no_call(node: Node, where: str, field: str) -> Iterator[Finding]:
    if node.tool is not None:
        yield error(where, f"{field}.tool", "names a tool, but its role is not tool", "set role: tool, or remove tool")
    if node.arguments:
        yield error(where, f"{field}.arguments", "has arguments, but its role is not tool", "set role: tool, or remove them")


def _check_place(node: Node, where: str, field: str, roles: Mapping[str, str]) -> Iterator[Finding]:
    """Errors for words at a call, and for a call that the agent does not go on from."""
    if node.examples:
        problem = "has examples, but nothing is said while a tool is called"
        yield error(where, f"{field}.examples", problem, "move them to an agent's node before or after it")
    if not node.next:
        yield error(
            where, f"{field}.next", "ends the conversation with a call", "add an edge to an agent's node that says the result"
        )
    for edge, name, path in located_edges(node, field):
        if edge.examples:
            problem = "has examples, but nothing is said while a tool is called"
            yield error(name, f"{path}.examples", problem, "move them to the agent's node that follows")
        if edge.when and len(node.next) > 1 and node.decided_by != "customer":
            yield error(
                name, f"{path}.when", "has a condition in words, but a fact decides after a call", "remove when, set values"
            )
        if roles.get(edge.to) == "user":
            problem = "leads from a call to the customer, but the agent has to say what came of it"
            yield error(name, f"{path}.to", problem, "put an agent's node between them")


def _check_arguments(spec: ProcedureSpec, node: Node, tool: Tool, where: str, field: str) -> Iterator[Finding]:
    parameters = {parameter.name: parameter for parameter in tool.parameters}
    variables = {variable.name: variable for variable in spec.variables}
    given = Counter(argument.name for argument in node.arguments)
    for index, argument in enumerate(node.arguments):
        path, parameter = f"{field}.arguments[{index}]", parameters.get(argument.name)
        if parameter is None:
            fix = f"use one of {', '.join(parameters)}" if parameters else "remove it"
            problem = f"{tool.name} has no parameter {argument.name!r}"
            yield error(where, f"{path}.name", problem, did_you_mean(argument.name, parameters, fix))
        elif given[argument.name] > 1:
            given[argument.name] = 1
            yield error(where, f"{path}.name", f"gives {argument.name} more than once", "keep one of them")
        else:
            yield from _check_value(argument, parameter, variables, where, f"{path}.value")
    for name, parameter in parameters.items():
        if not parameter.optional and name not in given:
            problem = f"does not give {name}, which {tool.name} needs"
            yield error(
                where, f"{field}.arguments", problem, f"add an argument with name: {name}, or set optional on the parameter"
            )


def _check_value(
    argument: ToolArgument, parameter: ToolParameter, variables: Mapping[str, Variable], where: str, field: str
) -> Iterator[Finding]:
    names = variables_of(argument.value)
    if not names:
        yield from _check_literal(argument.value, parameter, where, field)
        return
    if argument.value.strip() != f"{{{{{names[0]}}}}}":
        problem = f"mixes text and variables in {argument.value!r}"
        yield error(where, field, problem, f"write one variable alone, such as '{{{{{names[0]}}}}}', or a text without variables")
        return
    variable = variables.get(names[0])
    if variable is None:
        fix = did_you_mean(names[0], variables, "add it to spec.variables or correct it")
        yield error(where, field, f"uses {{{{{names[0]}}}}}, which is not declared", fix)
    elif variable.visibility == "hidden":
        problem = f"uses {variable.name}, which only the teacher sees: the model would learn to invent it"
        yield error(where, field, problem, "set its visibility to context, or let the customer say it")
    elif (found := _misfit(variable, parameter)) is not None:
        yield error(where, field, *found)


def _check_literal(text: str, parameter: ToolParameter, where: str, field: str) -> Iterator[Finding]:
    if not _is_literal(parameter.type, text):
        yield error(where, field, f"{text!r} is no {parameter.type}", f"write a value of the type of {parameter.name}")
    elif parameter.enum and text not in parameter.enum:
        yield error(where, field, f"{parameter.name} is never {text!r}", f"use one of {', '.join(parameter.enum[:_LISTED])}")


def _is_literal(kind: str, text: str) -> bool:
    try:
        return str(json_value(kind, text)).lower() == text.lower()
    except ValueError:
        return False


def _misfit(variable: Variable, parameter: ToolParameter) -> tuple[str, str] | None:
    """Problem and fix where a variable has values that the parameter does not take."""
    if parameter.type in ("integer", "number") and variable.type != "integer":
        return f"gives {variable.name} of type {variable.type} for {parameter.name}, which is a number", "use an integer variable"
    if parameter.type == "boolean" and not {value.lower() for value in variable.values or ("",)} <= {"true", "false"}:
        return f"gives {variable.name} for {parameter.name}, which is true or false", "write true or false"
    if parameter.enum:
        strange = [value for value in variable.values if value not in parameter.enum]
        if variable.open or variable.type != "string" or strange:
            values = f"values such as {strange[0]!r}" if strange else "any value"
            return (
                f"gives {variable.name}, which may have {values}, for {parameter.name}",
                "list the values in the parameter's enum",
            )
    return None
