"""What is wrong with a procedure, and what it amounts to: all findings at once, each with its place and its cure. Pure."""

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Literal

import networkx as nx

from subterra_api.digest import canonical, meaning
from subterra_api.v1alpha1.procedure import Edge, Guard, Node, ProcedureSpec, Variable
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.path_count import EFFORT, Count, count
from subterra_core.procedure.template import variables_of

LARGEST = 512 * 1024
"""Bytes of a procedure's canonical form. A ConfigMap holds one MiB, and a run's input has the procedure in it."""
READABLE = 10**12
"""Larger counts are told by their order of magnitude."""

_FORMAT = {
    "integer": re.compile(r"([^{}]|\{value(:,)?\})*"),
    "dateRange": re.compile(r"([^{}]|\{(start|end)(:[^{}]*)?\})*"),
    "string": re.compile(r"[^{}]*"),
}
"""What a variable's format may hold: no attribute access, so that a procedure cannot reach into the writer."""
_ARTICLES = frozenset({"a", "an", "the"})


@dataclass(frozen=True)
class Finding:
    """Something that the author should know. ``field`` is a path such as ``spec.nodes[3].next[1].when``."""

    severity: Literal["error", "warning"]
    where: str
    field: str
    problem: str
    cure: str

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}; {self.cure}"


@dataclass(frozen=True)
class Analysis:
    """What a procedure amounts to. Counts of paths and turns are present only when there is no error."""

    findings: tuple[Finding, ...]
    nodes: int
    edges: int
    hubs: int
    terminals: int
    paths: int = 0
    truncated: bool = False
    min_turns: int | None = None
    max_turns: int | None = None
    """None also when paths could not all be counted: longer ones may exist."""

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity == "warning")

    @property
    def path_count(self) -> str:
        """The number of paths, or "more than" a number."""
        if self.paths >= READABLE:
            return f"more than 10^{len(str(self.paths - 1)) - 1}"
        return f"more than {self.paths}" if self.truncated else str(self.paths)


def analyse(spec: ProcedureSpec, effort: int = EFFORT) -> Analysis:
    """All findings at once, and the counts; ``effort`` bounds the counting."""
    findings = [*_size(spec), *_structure(spec), *_nodes(spec), *_hubs(spec), *_variables(spec)]
    sizes = (
        len(spec.nodes),
        sum(len(node.next) for node in spec.nodes),
        sum(1 for node in spec.nodes if len(node.next) > 1),
        sum(1 for node in spec.nodes if not node.next),
    )
    if not any(finding.severity == "error" for finding in findings):
        found = count(Graph(spec), effort)
        findings += [*_knowledge(spec), *_flow(spec, found)]
        if not any(finding.severity == "error" for finding in findings):
            return Analysis(tuple(findings), *sizes, found.paths, found.truncated, found.min_turns, found.max_turns)
    return Analysis(tuple(findings), *sizes)


def _error(where: str, field: str, problem: str, cure: str) -> Finding:
    return Finding("error", where, field, problem, cure)


def _warning(where: str, field: str, problem: str, cure: str) -> Finding:
    return Finding("warning", where, field, problem, cure)


def _each_node(spec: ProcedureSpec) -> Iterator[tuple[Node, str, str]]:
    """Nodes with their name for people and their field path."""
    for place, node in enumerate(spec.nodes):
        yield node, f"node {node.id}", f"spec.nodes[{place}]"


def _each_edge(node: Node, field: str) -> Iterator[tuple[Edge, str, str]]:
    """Edges with their name for people and their field path."""
    for place, edge in enumerate(node.next):
        yield edge, f"edge {node.id} → {edge.to}", f"{field}.next[{place}]"


def _size(spec: ProcedureSpec) -> Iterator[Finding]:
    size = len(canonical(meaning(spec)))
    if size > LARGEST:
        problem = f"it has {size / 1024:,.0f} KiB in its canonical form, and no more than {LARGEST // 1024} fit into a run's input"
        yield _error("the procedure", "spec", problem, "shorten prompts, or list fewer examples and values")


def _structure(spec: ProcedureSpec) -> Iterator[Finding]:
    known = {node.id for node in spec.nodes}
    yield from _named_twice("node", "nodes", "id", [node.id for node in spec.nodes])
    yield from _named_twice("variable", "variables", "name", [variable.name for variable in spec.variables])
    yield from _named_twice("persona", "personas", "name", [persona.name for persona in spec.personas])
    yield from _named_twice("fact", "knowledge", "id", [fact.id for fact in spec.knowledge])
    if spec.start not in known:
        yield _error("spec.start", "spec.start", f"there is no node {spec.start!r}", "name one of the nodes")
        return
    drawn: nx.DiGraph[str] = nx.DiGraph()
    drawn.add_nodes_from(known)
    for node, _, field in _each_node(spec):
        for edge, name, at in _each_edge(node, field):
            if edge.to in known:
                drawn.add_edge(node.id, edge.to)
            else:
                yield _error(name, f"{at}.to", f"there is no node {edge.to!r}", "add that node or correct the edge")
    reachable = nx.descendants(drawn, spec.start) | {spec.start}
    ends = [node.id for node in spec.nodes if not node.next]
    ending = set(ends).union(*(nx.ancestors(drawn, end) for end in ends))
    for node, where, field in _each_node(spec):
        if node.id not in reachable:
            yield _error(where, field, "cannot be reached from the start", "add an edge to it or remove it")
        elif node.id not in ending:
            cure = "add an edge that ends the conversation"
            yield _error(where, f"{field}.next", "leads to no terminal: a loop without a way out", cure)


def _named_twice(kind: str, field: str, key: str, names: Sequence[str]) -> Iterator[Finding]:
    """What the API server refuses as well."""
    seen = Counter[str]()
    for place, name in enumerate(names):
        seen[name] += 1
        if seen[name] == 2:
            at, cure = f"spec.{field}[{place}].{key}", f"give every {kind} its own {key}"
            yield _error(f"{kind} {name}", at, f"its {key} is used more than once", cure)


def _nodes(spec: ProcedureSpec) -> Iterator[Finding]:
    for node, where, field in _each_node(spec):
        if not node.next and node.outcome is None:
            cure = "set outcome to success, abandonment or escalation, or give it a way out (next)"
            yield _error(where, field, "is a dead end without an outcome", cure)
        if node.next and node.outcome is not None:
            yield _error(where, f"{field}.outcome", "has an outcome and a way out", "remove outcome, or next")
        if node.role == "agent" and not node.prompt.strip():
            yield _error(where, f"{field}.prompt", "has no prompt", "say what the agent should do here")
        targets = Counter(edge.to for edge in node.next)
        for edge, name, at in _each_edge(node, field):
            if targets[edge.to] > 1:
                targets[edge.to] = 0
                yield _error(name, f"{at}.to", "there are two edges between these nodes", "merge them")


def _hubs(spec: ProcedureSpec) -> Iterator[Finding]:
    hubs = {node.id: node for node in spec.nodes if len(node.next) > 1}
    for node, where, field in _each_node(spec):
        for edge, name, at in _each_edge(node, field):
            for place, guard in enumerate(edge.guards):
                yield from _guard(guard, hubs, name, f"{at}.guards[{place}]")
            if edge.values and (node.id not in hubs or node.decided_by != "fact"):
                cure = "set decidedBy: fact and fact on the hub, or remove values"
                yield _error(name, f"{at}.values", "has values, but no fact decides here", cure)
        if node.fact is not None and (node.id not in hubs or node.decided_by != "fact"):
            cure = "set decidedBy: fact on a node with several edges, or remove fact"
            yield _error(where, f"{field}.fact", "names a fact that decides nothing", cure)
        if node.id not in hubs:
            continue
        if node.decided_by == "customer":
            yield from _customer_hub(node, where, field)
        if node.decided_by == "fact":
            yield from _fact_hub(spec, node, where, field)


def _guard(guard: Guard, hubs: dict[str, Node], name: str, at: str) -> Iterator[Finding]:
    if guard.hub not in hubs:
        yield _error(name, f"{at}.hub", f"its guard asks for {guard.hub!r}, which is no hub", "name a node with several edges")
        return
    for took in sorted(set(guard.took) - {edge.to for edge in hubs[guard.hub].next}):
        problem = f"its guard asks whether {guard.hub} took {took!r}, which is none of its branches"
        yield _error(name, f"{at}.took", problem, "name targets of that hub's edges")


def _customer_hub(node: Node, where: str, field: str) -> Iterator[Finding]:
    if node.role == "agent":
        problem = "is the agent's turn, so no customer decides there"
        yield _error(where, f"{field}.decidedBy", problem, "move the branch to the customer's node or set decidedBy")
        return
    for edge, name, at in _each_edge(node, field):
        if not edge.when:
            yield _error(name, at, "the customer decides, but it does not say when", "set when on this edge")
    for (one, _, _), (other, name, at) in itertools.combinations(_each_edge(node, field), 2):
        if _exclusive(one, other):
            continue
        if one.when and other.when and _words(one.when) == _words(other.when):
            cure = "make their conditions differ, or guard them by different decisions"
            yield _error(name, f"{at}.when", f"means the same as the branch to {one.to}", cure)
        said = {tuple(text.lower().split()): text for text in one.examples}
        for place, text in enumerate(other.examples):
            if tuple(text.lower().split()) in said:
                problem = f"{text!r} is also said on the branch to {one.to}, so the words decide nothing"
                yield _error(name, f"{at}.examples[{place}]", problem, "keep it on one branch")


def _exclusive(one: Edge, other: Edge) -> bool:
    """Whether guards never leave both open."""
    return any(a.hub == b.hub and not set(a.took) & set(b.took) for a in one.guards for b in other.guards)


def _words(text: str) -> frozenset[str]:
    """What a condition is compared by: order, case, articles and punctuation do not make a difference."""
    return frozenset(re.findall(r"\w+", text.lower())) - _ARTICLES


def _fact_hub(spec: ProcedureSpec, node: Node, where: str, field: str) -> Iterator[Finding]:
    variable = next((each for each in spec.variables if each.name == node.fact), None)
    if node.fact is None or variable is None:
        problem = f"a fact decides, but there is no variable {node.fact!r}" if node.fact else "a fact decides, but none is named"
        yield _error(where, f"{field}.fact", problem, "set fact to one of spec.variables")
        return
    if variable.type != "string" or variable.open:
        cure = "list its values and leave open out, or put a variable with a few values in its place"
        yield _error(where, f"{field}.fact", f"rests on {node.fact}, which may have any value", cure)
        return
    if variable.visibility == "hidden":
        problem = f"rests on {node.fact}, which only the writer sees: training would teach the agent to make it up"
        yield _error(where, f"{field}.fact", problem, "set its visibility to context, or let the customer say it")
    taken: dict[str, str] = {}
    for edge, name, at in _each_edge(node, field):
        for value in sorted(set(edge.values)):
            if value not in variable.values:
                cure = "correct it, or add it to the variable's values"
                yield _error(name, f"{at}.values", f"{node.fact} is never {value!r}", cure)
            if value in taken:
                yield _error(name, f"{at}.values", f"{value!r} already leads to {taken[value]}", "keep it on one edge")
            taken.setdefault(value, edge.to)
    yield from _rest(node, where, field, [value for value in variable.values if value not in taken])


def _rest(node: Node, where: str, field: str, left: list[str]) -> Iterator[Finding]:
    """Whether the values that no edge names have exactly one way to go."""
    without = [(name, at) for edge, name, at in _each_edge(node, field) if not edge.values]
    if left and not without:
        problem = f"has no branch for {node.fact} being {', '.join(map(repr, left[:5]))}"
        yield _error(where, f"{field}.next", problem, "add these values to an edge, or leave values out on one of them")
    if not left and without:
        yield _error(*without[0], "no value is left for it", "give it values, or remove it")
    for name, at in without[1:]:
        yield _error(name, at, "two edges are for all other values", "give one of them values")


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


def _flow(spec: ProcedureSpec, found: Count) -> Iterator[Finding]:
    """What only shows when all walks are walked."""
    if not found.paths and not found.truncated:
        yield _error("spec.start", "spec.start", "no path reaches a terminal", "raise maxVisits on loops, or loosen guards")
        return
    for node, where, field in _each_node(spec):
        if node.id in found.stuck:
            problem = "leaves no way on in some conversations, because of maxVisits and guards"
            if node.decided_by == "history" and len(node.next) > 1:
                yield _error(where, f"{field}.next", problem, "end the list with an edge that is always open")
            else:
                yield _warning(where, f"{field}.next", problem, "raise maxVisits of what follows, or add a way out")
        for edge, name, at in () if found.truncated else _each_edge(node, field):
            if (node.id, edge.to) not in found.taken:
                yield _warning(name, at, "is never taken: guards, facts or maxVisits always close it", "loosen them, or remove it")
