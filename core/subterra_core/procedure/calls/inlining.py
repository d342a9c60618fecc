"""Puts the nodes of called procedures in the place of calls. Expects calls without errors. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from subterra_api.digest import significant_fields
from subterra_api.v1alpha1.procedure import AnywhereEdge, Edge, Knowledge, Question, Tool, Variable
from subterra_core.procedure.anywhere import example_words
from subterra_core.procedure.calls.author_words import LISTS, Origin, Origins
from subterra_core.procedure.calls.call_checks import SHARED, Call
from subterra_core.procedure.calls.collecting import Open, Prepared
from subterra_core.procedure.calls.renaming import Renaming, node_prefix, variable_prefix
from subterra_core.procedure.lint.findings import Finding, did_you_mean, error
from subterra_core.procedure.template import variables_of

Located = tuple[Any, Origin]
"""An entry of one of the procedure's lists, and where it was written."""


class Inlining:
    """The flat procedure of one with calls, and the origin of each of its parts."""

    def __init__(self, prepared: Prepared, calls: Mapping[str, tuple[Call, Origins]]) -> None:
        self.caller = caller = prepared.spec
        self._origins = prepared.origins
        self._parts = {name: _Part(call, origins) for name, (call, origins) in calls.items()}
        entries = {name: part.entry for name, part in self._parts.items()}
        self._own = Renaming(entries, {}, {})
        self._clashes: list[Finding] = []
        nodes = self._nodes()
        customers = [node.id for node, _ in nodes if node.role == "user"]
        lists: dict[str, Sequence[Located]] = {
            "nodes": nodes,
            "variables": self._merged("variables", "variable", "name"),
            "knowledge": self._knowledge(),
            "anywhere": self._anywhere(customers),
            "questions": self._questions(customers),
            "tools": self._merged("tools", "tool", "name"),
        }
        start = entries.get(caller.start, caller.start)
        self.spec = caller.model_copy(update={"start": start, **{name: tuple(each for each, _ in lists[name]) for name in LISTS}})
        self.origins: Origins = {name: [origin for _, origin in lists[name]] for name in LISTS}

    def clashes(self) -> Iterator[Finding]:
        """Errors for names that several procedures use in different ways, and for inputs that nobody declares."""
        yield from self._clashes
        known = {variable.name for variable in self.spec.variables}
        twice = {name for name, count in Counter(node.id for node in self.spec.nodes).items() if count > 1}
        for part in self._parts.values():
            call = part.call
            for index, each in enumerate(call.node.inputs):
                if (names := variables_of(each.value)) and names[0] not in known:
                    problem = f"gives {{{{{names[0]}}}}}, which is not declared"
                    path = f"{call.field}.inputs[{index}].value"
                    fix = did_you_mean(names[0], known, "add it to spec.variables or correct it")
                    yield error(call.where, path, problem, fix)
            for name in sorted(twice.intersection(part.renaming.nodes.values())):
                problem = f"a node of {call.node.procedure} is {name} here, which is also the id of a node of this procedure"
                yield error(call.where, f"{call.field}.id", problem, "rename one of them")

    def _nodes(self) -> list[Located]:
        found: list[Located] = []
        for node, origin in zip(self.caller.nodes, self._origins, strict=True):
            part = self._parts.get(node.id)
            found += part.led_on(self._own) if part else [(self._own.node(node), origin)]
        return found

    def _merged(self, name: str, kind: str, key: str) -> list[Located]:
        """The caller's variables or tools, then those of the called procedures that it does not have already."""
        own: Sequence[Any] = getattr(self.caller, name)
        found: list[Located] = [(each, Origin(f"spec.{name}[{index}]")) for index, each in enumerate(own)]
        present: dict[str, Any] = {getattr(each, key): each for each in own}
        for part in self._parts.values():
            for each, origin in part.variables if name == "variables" else part.tools:
                other = present.setdefault(getattr(each, key), None)
                if other is None:
                    present[getattr(each, key)] = each
                    found.append((each, origin))
                elif isinstance(each, Variable) and each.visibility not in SHARED:
                    self._clashes.append(_taken(part.call, each.name))
                elif fields := _different_fields(other, each):
                    self._clashes.append(_declared_differently(part.call, kind, getattr(each, key), fields))
        return found

    def _knowledge(self) -> list[Located]:
        found: list[Located] = [(each, Origin(f"spec.knowledge[{index}]")) for index, each in enumerate(self.caller.knowledge)]
        texts = {each.text for each in self.caller.knowledge}
        for part in self._parts.values():
            found += [(each, origin) for each, origin in part.knowledge if each.text not in texts]
            texts.update(each.text for each, _ in part.knowledge)
        return found

    def _anywhere(self, customers: Sequence[str]) -> list[Located]:
        """The caller's anywhere edges, open in called procedures too, then those of each called procedure, open in it alone."""
        found: list[Located] = []
        for index, each in enumerate(self.caller.anywhere):
            found.append((self._closed(self._own.anywhere(each), each.except_), Origin(f"spec.anywhere[{index}]")))
        for part in self._parts.values():
            found += [(part.closed_outside(edge, customers), origin) for edge, origin in part.anywhere]
        return found

    def _questions(self, customers: Sequence[str]) -> list[Located]:
        """The caller's questions, asked in called procedures too, then those of each called procedure, asked in it alone."""
        found: list[Located] = []
        for index, each in enumerate(self.caller.questions):
            found.append((self._closed(each, each.except_), Origin(f"spec.questions[{index}]")))
        places = dict[tuple[str, ...], int]()
        for part in self._parts.values():
            for each, origin in part.questions(self.caller.questions):
                question, words = part.closed_outside(each, customers), (each.question, each.answer, *each.examples)
                place = places.setdefault(words, len(found))
                if place == len(found):
                    found.append((question, origin))
                else:  # of a procedure that is called twice
                    first, written = found[place]
                    closed = tuple(name for name in first.except_ if name in question.except_)
                    found[place] = (first.model_copy(update={"except_": closed}), written)
        return found

    def _closed(self, each: Open, excepted: Sequence[str]) -> Open:
        """The same with exceptions of the flat procedure: a call stands for the customer's nodes in it."""
        closed = [name for node in excepted for name in (self._parts[node].customers if node in self._parts else [node])]
        return each.model_copy(update={"except_": tuple(dict.fromkeys(closed))})


class _Part:
    """What one call adds, under the names of the caller."""

    def __init__(self, call: Call, origins: Origins) -> None:
        self.call, self._origins = call, origins
        self._prefix = node_prefix(call.node.id)
        self.renaming = Renaming({node.id: self._prefix + node.id for node in call.callee.nodes}, *_variable_names(call))
        self.entry = self.renaming.nodes.get(call.callee.start, call.callee.start)
        self._exits = call.exits()

    @cached_property
    def customers(self) -> list[str]:
        """Ids of the customer's nodes."""
        return [self._prefix + node.id for _, node in self.call.nodes if node.role == "user"]

    def led_on(self, own: Renaming) -> list[Located]:
        """The nodes; those that end the called procedure lead to where the call does."""
        found: list[Located] = []
        for index, original in self.call.nodes:
            node, way_out = self.renaming.node(original), self._exits.get(original.id)
            if way_out is None:
                found.append((node, self._origin("nodes", index)))
                continue
            to = self.call.node.next[way_out].to
            led = node.model_copy(update={"outcome": None, "next": (Edge(to=own.nodes.get(to, to)),)})
            found.append((led, self._origin("nodes", index, f"{self.call.field}.next[{way_out}]")))
        return found

    @property
    def variables(self) -> Iterator[tuple[Variable, Origin]]:
        """The variables that are no inputs."""
        given = {each.name for each in self.call.node.inputs}
        for index, each in enumerate(self.call.callee.variables):
            if each.name not in given:
                yield self.renaming.variable(each), self._origin("variables", index)

    @property
    def tools(self) -> Iterator[tuple[Tool, Origin]]:
        """The tools, whose names and results are those of the program that runs them."""
        return ((each, self._origin("tools", index)) for index, each in enumerate(self.call.callee.tools))

    @property
    def knowledge(self) -> list[tuple[Knowledge, Origin]]:
        """The facts that the agent may use."""
        facts = enumerate(self.call.callee.knowledge)
        return [(each.model_copy(update={"id": self._prefix + each.id}), self._origin("knowledge", at)) for at, each in facts]

    @property
    def anywhere(self) -> Iterator[tuple[AnywhereEdge, Origin]]:
        """The anywhere edges that the caller has not itself."""
        for index, each in self.call.anywhere:
            yield self.renaming.anywhere(each), self._origin("anywhere", index)

    def questions(self, callers: Sequence[Question]) -> Iterator[tuple[Question, Origin]]:
        """The questions of which the caller has no example itself."""
        known = {example_words(text) for question in callers for text in (question.question, *question.examples)}
        for index, each in enumerate(self.call.callee.questions):
            if known.isdisjoint(map(example_words, (each.question, *each.examples))):
                name = {"id": self._prefix + each.id} if each.id else {}
                yield self.renaming.question(each).model_copy(update=name), self._origin("questions", index)

    def closed_outside(self, each: Open, customers: Sequence[str]) -> Open:
        """The same, excepting each customer's node that is not in this part."""
        inside = set(self.customers)
        outside = [name for name in customers if name not in inside or name in each.except_]
        return each.model_copy(update={"except_": tuple(outside)})

    def _origin(self, name: str, index: int, way_out: str | None = None) -> Origin:
        return Origin(self.call.field, self.call.node, self._origins[name][index], way_out)


def _variable_names(call: Call) -> tuple[dict[str, str], dict[str, str]]:
    """New names of the called procedure's variables, and the fixed texts in place of some."""
    texts = {each.name: each.value for each in call.node.inputs if not variables_of(each.value)}
    names = {each.name: variables_of(each.value)[0] for each in call.node.inputs if each.name not in texts}
    names |= {variables_of(each.value)[0]: each.name for each in call.node.outputs}
    for variable in call.callee.variables:
        if variable.visibility not in SHARED:
            names.setdefault(variable.name, variable_prefix(call.node.id) + variable.name)
    return names, texts


def _different_fields(one: Variable | Tool, other: Variable | Tool) -> list[str]:
    first, second = significant_fields(one), significant_fields(other)
    return [name for name in dict.fromkeys((*first, *second)) if first.get(name) != second.get(name)]


def _taken(call: Call, name: str) -> Finding:
    problem = f"a variable of {call.node.procedure} is {name} here, which another variable is called already"
    return error(call.where, f"{call.field}.outputs", problem, "rename one of them, or the call")


def _declared_differently(call: Call, kind: str, name: str, fields: Sequence[str]) -> Finding:
    problem = f"{kind} {name} of procedure {call.node.procedure} has another {', '.join(fields)} than here"
    alike = f"declare {name} alike in both, since the program that serves the customer knows it by this name"
    other = f", or give it in inputs as {{name: {name}, value: '{{{{…}}}}'}}" if kind == "variable" else ""
    return error(call.where, f"{call.field}.procedure", problem, alike + other)
