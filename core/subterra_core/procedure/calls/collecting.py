"""Nodes that collect several variables, as ordinary nodes: one pair of turns for each set of variables that is still missing. Pure.

The agent's turn keeps the node's id where all are missing; behind it the customer says all of them or a part, in any order, and the
agent asks for the rest alone.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

from subterra_api.v1alpha1.procedure import AnywhereEdge, Edge, Node, ProcedureSpec, Question, Slot
from subterra_core.procedure.calls.author_words import Origin
from subterra_core.procedure.calls.renaming import SEPARATOR, Renaming
from subterra_core.procedure.calls.spoken_language import guessed_language, listed, sentence, without_stop
from subterra_core.procedure.lint.findings import Finding, did_you_mean, error, located_nodes
from subterra_core.procedure.template import variables_of

Open = TypeVar("Open", AnywhereEdge, Question)
"""What customers may say at every turn, with exceptions."""
MISSING = "missing"
"""In prompt and examples of such a node, the placeholder for what the agent asks for."""
_SAID = "said"
_MAX_EXAMPLES = 6
"""Phrasings of the customer for each set of variables."""


@dataclass(frozen=True)
class Prepared:
    """A procedure without such nodes, or the errors in them; and where each of its nodes was written."""

    spec: ProcedureSpec
    origins: Sequence[Origin]
    findings: tuple[Finding, ...] = ()


def without_collecting(spec: ProcedureSpec) -> Prepared:
    """The procedure with ordinary nodes in place of those that collect variables."""
    own = [Origin(f"spec.nodes[{index}]") for index in range(len(spec.nodes))]
    if not any(node.role == "collect" or node.collects for node in spec.nodes):
        return Prepared(spec, own)
    if findings := tuple(_errors(spec)):
        return Prepared(spec, own, findings)
    language = guessed_language(spec)
    nodes: list[Node] = []
    origins: list[Origin] = []
    customers: dict[str, list[str]] = {}
    for node, origin in zip(spec.nodes, own, strict=True):
        made = [*_turns(node, language)] if node.role == "collect" else [node]
        nodes += made
        origins += [Origin(origin.field, made_of=node.id) if node.role == "collect" else origin] * len(made)
        customers[node.id] = [each.id for each in made if each.role == "user"] if node.role == "collect" else [node.id]
    anywhere = tuple(_excepting(edge, customers) for edge in spec.anywhere)
    questions = tuple(_excepting(question, customers) for question in spec.questions)
    return Prepared(spec.model_copy(update={"nodes": tuple(nodes), "anywhere": anywhere, "questions": questions}), origins)


def _excepting(each: Open, customers: Mapping[str, list[str]]) -> Open:
    closed = [name for node in each.except_ for name in customers.get(node, [node])]
    return each.model_copy(update={"except_": tuple(closed)})


def _turns(node: Node, language: str) -> Iterator[Node]:
    """The agent's and the customer's turn for each set of missing variables, larger sets first."""
    for size in range(len(node.collects), 0, -1):
        for missing in combinations(node.collects, size):
            yield from (_question(node, missing, language), _answer(node, missing, language))


def _name(node: Node, missing: Sequence[Slot]) -> str:
    """The id of the agent's turn."""
    rest = [] if len(missing) == len(node.collects) else ["_".join(slot.variable for slot in missing)]
    return SEPARATOR.join([node.id, *rest])


def _question(node: Node, missing: Sequence[Slot], language: str) -> Node:
    asked = listed([slot.ask for slot in missing])
    written = Renaming({}, {}, {MISSING: listed([slot.ask for slot in missing], language)}).node(node)
    again = len(missing) < len(node.collects)
    prompt = f"{written.prompt} Ask {'only for what is still missing' if again else 'for this'}: {asked}."
    return Node.model_construct(
        id=_name(node, missing),
        role="agent",
        prompt=prompt.strip(),
        examples=written.examples,
        max_visits=node.max_visits,
        next=(Edge.model_construct(to=_said(node, missing)),),
    )


def _answer(node: Node, missing: Sequence[Slot], language: str) -> Node:
    asked = listed([f"{slot.ask} ({{{{{slot.variable}}}}})" for slot in missing])
    edges = tuple(
        _edge(node, missing, given, language) for size in range(len(missing), 0, -1) for given in combinations(missing, size)
    )
    prompt = f"Say {asked}." if len(missing) == 1 else f"Say all of this or a part: {listed([slot.ask for slot in missing])}."
    return Node.model_construct(id=_said(node, missing), role="user", prompt=prompt, max_visits=node.max_visits, next=edges)


def _said(node: Node, missing: Sequence[Slot]) -> str:
    return SEPARATOR.join([_name(node, missing), _SAID])


def _edge(node: Node, missing: Sequence[Slot], given: Sequence[Slot], language: str) -> Edge:
    """The edge that is taken when the customer says `given`. In training half of the customers say all that is missing."""
    rest = [slot for slot in missing if slot not in given]
    said = listed([f"{slot.ask} ({{{{{slot.variable}}}}})" for slot in given])
    without = f", and not {listed([slot.ask for slot in rest])}" if rest else ""
    return Edge.model_construct(
        to=_name(node, rest) if rest else node.next[0].to,
        when=f"The customer says {said}{without}." if len(missing) > 1 else None,
        examples=tuple(_sentences(given, language)),
        weight=1 if rest else max(1, 2 ** len(missing) - 2),
    )


def _sentences(given: Sequence[Slot], language: str) -> Iterator[str]:
    """What the customer says, each time with other phrasings, and every second time in the opposite order."""
    if not all(slot.examples for slot in given):
        return
    found: dict[str, None] = {}
    for number in range(min(_MAX_EXAMPLES, max(len(slot.examples) for slot in given))):
        parts = [without_stop(slot.examples[(number + place) % len(slot.examples)]) for place, slot in enumerate(given)]
        text = listed(parts if number % 2 == 0 else parts[::-1], language)
        found[sentence(text)] = None
    yield from found


def _errors(spec: ProcedureSpec) -> Iterator[Finding]:
    declared = {variable.name: variable.visibility for variable in spec.variables}
    for node, where, field in located_nodes(spec):
        if node.role != "collect":
            if node.collects:
                yield error(
                    where, f"{field}.collects", "has collects, but its role is not collect", "set role: collect, or remove it"
                )
            continue
        for name in _foreign_fields(node):
            yield error(where, f"{field}.{name}", f"has {name}, but it only collects variables", "remove it")
        if not node.collects:
            yield error(where, f"{field}.collects", "collects nothing", "list the variables that the customer should say")
        if len(node.next) != 1 or _decides(node.next[0]):
            fix = "write one edge with nothing but to, and branch at the node behind it"
            yield error(where, f"{field}.next", "does not lead on to one node once everything is known", fix)
        for index, text in enumerate(node.examples):
            if MISSING not in variables_of(text):
                problem = f"{text!r} does not contain {{{{{MISSING}}}}}, so the agent would ask for what it knows"
                yield error(where, f"{field}.examples[{index}]", problem, f"write {{{{{MISSING}}}}} in place of what it asks for")
        yield from _slot_errors(node, declared, where, field)


def _slot_errors(node: Node, declared: Mapping[str, str], where: str, field: str) -> Iterator[Finding]:
    named = Counter(slot.variable for slot in node.collects)
    for index, slot in enumerate(node.collects):
        path, name = f"{field}.collects[{index}]", slot.variable
        if named[name] > 1:
            named[name] = 1
            yield error(where, f"{path}.variable", f"collects {name} more than once", "keep one of them")
        if name not in declared:
            fix = did_you_mean(name, declared, "add it to spec.variables or correct it")
            yield error(where, f"{path}.variable", f"collects {name!r}, which is not declared", fix)
        elif declared[name] != "customer":
            problem = f"collects {name}, whose visibility is {declared[name]}"
            yield error(where, f"{path}.variable", problem, "set its visibility to customer, or remove it here")
        for place, text in enumerate(slot.examples):
            if name not in variables_of(text):
                problem = f"{text!r} does not say {{{{{name}}}}}"
                yield error(where, f"{path}.examples[{place}]", problem, f"write {{{{{name}}}}} where the value stands")


def _decides(edge: Edge) -> bool:
    return bool(edge.when or edge.values or edge.guards or edge.examples or edge.outcome)


def _foreign_fields(node: Node) -> list[str]:
    found = {
        "outcome": node.outcome,
        "decidedBy": node.decided_by != "customer",
        "fact": node.fact,
        "tool": node.tool,
        "arguments": node.arguments,
        "procedure": node.procedure,
        "inputs": node.inputs,
        "outputs": node.outputs,
    }
    return [name for name, value in found.items() if value]
