"""Checks of the nodes that call other procedures: their fields, inputs, outputs, and where the endings lead."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from subterra_api.v1alpha1.procedure import AnywhereEdge, Edge, Node, ProcedureSpec, Variable
from subterra_core.procedure.calls.shared_anywhere import unreached
from subterra_core.procedure.dependencies import bounds_of
from subterra_core.procedure.lint.findings import Finding, did_you_mean, error, located_edges, located_nodes
from subterra_core.procedure.template import variables_of

_LISTED = 8
"""Names that a message lists."""
SHARED = ("context", "result")
"""Visibilities of variables with one meaning everywhere: the program that serves the customer sends them."""


def has_calls(spec: ProcedureSpec) -> bool:
    """Whether a node calls a procedure, or has fields that only such a node may have."""
    return any(node.role == "call" or _fields_of_calls(node) or any(edge.outcome for edge in node.next) for node in spec.nodes)


def check_fields(spec: ProcedureSpec) -> Iterator[Finding]:
    """Fields that do not go with a node's role, in calls and in other nodes, and guards that name a call."""
    calls = {node.id for node in spec.nodes if node.role == "call"}
    for node, where, field in located_nodes(spec):
        for name in _fields_of_calls(node) if node.role != "call" else ():
            yield error(where, f"{field}.{name}", f"has {name}, but its role is not call", "set role: call, or remove it")
        for name in _foreign_fields(node) if node.role == "call" else ():
            fix = "remove it, or write it at a node of the called procedure"
            yield error(where, f"{field}.{name}", f"has {name}, but the nodes of another procedure stand here", fix)
        if node.role == "call" and node.procedure is None:
            yield error(where, f"{field}.procedure", "names no procedure", "set it to the name of the called Procedure")
        for edge, name, path in located_edges(node, field):
            yield from _check_edge(node, edge, name, path)
            for index, guard in enumerate(edge.guards):
                if guard.hub in calls:
                    problem = f"its guard names {guard.hub}, which calls a procedure and is not a hub"
                    yield error(name, f"{path}.guards[{index}].hub", problem, "name a hub of this procedure, or remove the guard")


def _check_edge(node: Node, edge: Edge, where: str, path: str) -> Iterator[Finding]:
    if node.role != "call":
        if edge.outcome:
            yield error(where, f"{path}.outcome", "has an outcome, but no procedure is called here", "set role: call, or remove it")
        return
    found = {"when": edge.when, "values": edge.values, "guards": edge.guards, "examples": edge.examples, "weight": edge.weight > 1}
    for name in (name for name, value in found.items() if value):
        problem = f"has {name}, but the ending of the called procedure decides here"
        yield error(where, f"{path}.{name}", problem, "remove it, and set outcome to an ending")


def _fields_of_calls(node: Node) -> list[str]:
    found = {"procedure": node.procedure, "inputs": node.inputs, "outputs": node.outputs}
    return [name for name, value in found.items() if value]


def _foreign_fields(node: Node) -> list[str]:
    found = {
        "examples": node.examples,
        "outcome": node.outcome,
        "maxVisits": node.max_visits != Node.model_fields["max_visits"].default,
        "decidedBy": node.decided_by != "customer",
        "fact": node.fact,
        "tool": node.tool,
        "arguments": node.arguments,
    }
    return [name for name, value in found.items() if value]


@dataclass(frozen=True)
class Call:
    """A call node of a procedure, with the called one, itself without calls."""

    node: Node
    field: str
    callee: ProcedureSpec
    anywhere: Sequence[tuple[int, AnywhereEdge]] = ()
    """Anywhere edges of the called procedure that the caller has not itself, with their index."""

    @cached_property
    def nodes(self) -> Sequence[tuple[int, Node]]:
        """Nodes of the called procedure to which a conversation can come here, with their index."""
        without = unreached(self.callee, [edge for _, edge in self.anywhere])
        return [(index, node) for index, node in enumerate(self.callee.nodes) if node.id not in without]

    @property
    def where(self) -> str:
        """The node's name for people."""
        return f"node {self.node.id}"

    @property
    def variables(self) -> Mapping[str, Variable]:
        """Variables of the called procedure."""
        return {variable.name: variable for variable in self.callee.variables}

    def check(self, caller: ProcedureSpec) -> Iterator[Finding]:
        """Errors of inputs, outputs and endings."""
        yield from self._check_inputs({variable.name: variable for variable in caller.variables})
        yield from self._check_outputs({variable.name for variable in caller.variables})
        yield from self._check_endings()

    def exits(self) -> dict[str, int]:
        """For each ending of the called procedure, the index of the edge that is taken after it."""
        endings = {node.id: node.outcome for node in self.callee.nodes if not node.next}
        by_name = {edge.outcome: index for index, edge in reversed([*enumerate(self.node.next)])}
        found = {end: by_name.get(end, by_name.get(outcome, by_name.get(None))) for end, outcome in endings.items()}
        return {end: index for end, index in found.items() if index is not None}

    def _check_inputs(self, known: Mapping[str, Variable]) -> Iterator[Finding]:
        given = Counter(each.name for each in self.node.inputs)
        for index, each in enumerate(self.node.inputs):
            path, variable = f"{self.field}.inputs[{index}]", self.variables.get(each.name)
            if variable is None:
                yield self._unknown_variable(each.name, f"{path}.name")
            elif given[each.name] > 1:
                given[each.name] = 1
                yield error(self.where, f"{path}.name", f"gives {each.name} more than once", "keep one of them")
            elif variable.visibility == "result":
                problem = f"gives {each.name}, which a tool of {self.node.procedure} returns"
                yield error(self.where, f"{path}.name", problem, "remove it from inputs; it has the same name here")
            else:
                yield from self._check_value(each.value, variable, known, f"{path}.value")

    def _check_value(self, value: str, variable: Variable, known: Mapping[str, Variable], path: str) -> Iterator[Finding]:
        names = variables_of(value)
        if not names:
            yield from self._check_fixed_text(value, variable, path)
        elif value.strip() != f"{{{{{names[0]}}}}}":
            problem = f"mixes text and variables in {value!r}"
            fix = f"write one variable alone, such as '{{{{{names[0]}}}}}', or a text without variables"
            yield error(self.where, path, problem, fix)
        elif names[0] in known and known[names[0]].type != variable.type:
            problem = f"gives {names[0]} of type {known[names[0]].type} for {variable.name}, whose type is {variable.type}"
            yield error(self.where, path, problem, f"name a variable of type {variable.type}")

    def _check_fixed_text(self, text: str, variable: Variable, path: str) -> Iterator[Finding]:
        """Errors where a fixed text cannot stand for a variable: something depends on its values."""
        hub = next((node.id for node in self.callee.nodes if node.fact == variable.name), None)
        bounded = next((each.name for each in self.callee.variables if variable.name in bounds_of(each).values()), None)
        name, procedure = variable.name, self.node.procedure
        if hub is not None:
            fix = "give a variable, or call another procedure that has only this branch"
            yield error(self.where, path, f"gives a fixed text for {name}, which decides at node {hub} of {procedure}", fix)
        elif bounded is not None:
            problem = f"gives a fixed text for {name}, which bounds {bounded} in {procedure}"
            yield error(self.where, path, problem, "give a variable")
        elif variable.type == "string" and not variable.open and variable.values and text not in variable.values:
            fix = f"use one of {_listed(variable.values)}, or set open: true on it"
            yield error(self.where, path, f"{text!r} is not a value of {name} in {procedure}", fix)

    def _check_outputs(self, declared: set[str]) -> Iterator[Finding]:
        inputs, given = {each.name for each in self.node.inputs}, Counter(each.name for each in self.node.outputs)
        sources = Counter(variables_of(each.value)[0] for each in self.node.outputs)
        for index, each in enumerate(self.node.outputs):
            path, source = f"{self.field}.outputs[{index}]", variables_of(each.value)[0]
            variable = self.variables.get(source)
            if variable is None:
                yield self._unknown_variable(source, f"{path}.value")
            elif variable.visibility in SHARED:
                problem = f"renames {source}, which has visibility {variable.visibility} and the same name everywhere"
                yield error(self.where, path, problem, f"remove it from outputs, and write {{{{{source}}}}}")
            elif source in inputs:
                yield error(self.where, path, f"{source} is also one of its inputs", "remove it from outputs")
            elif sources[source] > 1 or given[each.name] > 1:
                sources[source] = given[each.name] = 1
                yield error(self.where, path, f"has {source} or {each.name} more than once", "keep one of them")
            elif each.name in declared:
                problem = f"{each.name} is declared in this procedure too"
                fix = f"remove it from spec.variables, or give it in inputs as {{name: {source}, value: '{{{{{each.name}}}}}'}}"
                yield error(self.where, f"{path}.name", problem, fix)

    def _unknown_variable(self, name: str, path: str) -> Finding:
        problem = f"procedure {self.node.procedure} has no variable {name!r}"
        fix = f"use one of {_listed([*self.variables])}" if self.variables else "remove it"
        return error(self.where, path, problem, did_you_mean(name, self.variables, fix))

    def _check_endings(self) -> Iterator[Finding]:
        """Errors where an edge is taken after no ending, or an ending leads nowhere. Without edges, the conversation ends there."""
        endings = {node.id: node.outcome for node in self.callee.nodes if not node.next}
        exits, first = self.exits(), dict[str | None, int]()
        for index, (edge, name, path) in enumerate(located_edges(self.node, self.field)):
            if first.setdefault(edge.outcome, index) != index:
                problem = f"another edge has the outcome {edge.outcome}" if edge.outcome else "another edge has no outcome either"
                yield error(name, f"{path}.outcome", problem, "give each edge its own ending, or merge them")
            elif edge.outcome and edge.outcome not in endings and edge.outcome not in endings.values():
                problem = f"procedure {self.node.procedure} has no ending {edge.outcome!r}"
                fix = f"use one of its terminals ({_listed([*endings])}) or outcomes ({_listed(_outcomes(endings))})"
                yield error(name, f"{path}.outcome", problem, did_you_mean(edge.outcome, [*endings, *_outcomes(endings)], fix))
            elif index not in exits.values():
                problem = "is taken after no ending: other edges name them all"
                yield error(name, path, problem, "remove it, or the outcome of another edge")
        reached = {node.id for _, node in self.nodes}
        if self.node.next and (unmapped := [end for end in endings if end not in exits and end in reached]):
            listed = _listed([f"{end} ({endings[end]})" for end in unmapped])
            problem = f"procedure {self.node.procedure} can also end at {listed}, after which no edge is taken"
            fix = f"add an edge with outcome: {unmapped[0]}, or one without outcome for all endings that are left"
            yield error(self.where, f"{self.field}.next", problem, fix)


def _outcomes(endings: Mapping[str, str | None]) -> list[str]:
    return sorted({outcome for outcome in endings.values() if outcome})


def _listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    rest = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")
