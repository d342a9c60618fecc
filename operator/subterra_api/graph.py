"""The procedure as a graph: what is wrong with it, how many paths it has, how long they are.

A *path* runs from the start to a terminal and visits no node more often than its ``maxVisits``; an edge may be guarded by
earlier decisions. A *turn* is an uninterrupted stretch of one speaker. A *hub* has several ways out.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import networkx as nx

from subterra_api.template import variables_of
from subterra_api.v1alpha1.procedure import Edge, Node, ProcedureSpec, Variable

PATH_LIMIT = 20_000
"""Counting stops here and says "more than"."""

Path = tuple[str, ...]

_FORMAT = {
    "integer": re.compile(r"([^{}]|\{value(:,)?\})*"),
    "dateRange": re.compile(r"([^{}]|\{(start|end)(:[^{}]*)?\})*"),
    "string": re.compile(r"[^{}]*"),
}
"""What a variable's format may hold: no attribute access, so that a procedure cannot reach into the writer."""


@dataclass(frozen=True)
class Finding:
    """Something that the author should know, with the cure."""

    severity: Literal["error", "warning"]
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


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

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity == "warning")

    @property
    def path_count(self) -> str:
        return f"more than {self.paths}" if self.truncated else str(self.paths)


@dataclass(frozen=True)
class Step:
    """Where a walk is: the node, how often each node was visited, and what each hub decided last."""

    node: str
    visits: Counter[str] = field(default_factory=Counter)
    decisions: dict[str, str] = field(default_factory=dict)


class Graph:
    """A procedure ready to be walked. Expects one without errors, see `analyse`."""

    def __init__(self, spec: ProcedureSpec) -> None:
        self.spec = spec
        self.nodes: dict[str, Node] = {node.id: node for node in spec.nodes}

    def begin(self) -> Step:
        """The walk's first step."""
        return Step(self.spec.start, Counter([self.spec.start]))

    def take(self, step: Step, edge: Edge) -> Step:
        """The step after ``edge``."""
        decided = {step.node: edge.to} if len(self.nodes[step.node].next) > 1 else {}
        return Step(edge.to, step.visits + Counter([edge.to]), step.decisions | decided)

    def open_edges(self, step: Step) -> list[Edge]:
        """The ways out that bounds and guards leave open here."""
        return [
            edge
            for edge in self.nodes[step.node].next
            if step.visits[edge.to] < self.nodes[edge.to].max_visits
            and all(step.decisions.get(guard.hub) in guard.took for guard in edge.guards)
        ]

    def paths(self) -> Iterator[Path]:
        """All bounded paths, depth first in the order of the edges."""
        stack: list[tuple[Step, Path]] = [(self.begin(), (self.spec.start,))]
        while stack:
            step, path = stack.pop()
            if not self.nodes[step.node].next:
                yield path
            for edge in reversed(self.open_edges(step)):
                stack.append((self.take(step, edge), (*path, edge.to)))

    def walk(self, choose: Callable[[Node, Sequence[Edge]], Edge], attempts: int = 100) -> Path:
        """A path along the edges that ``choose`` takes; starts over where bounds leave no way on."""
        for _ in range(attempts):
            step, path = self.begin(), [self.spec.start]
            while edges := self.open_edges(step):
                step = self.take(step, choose(self.nodes[step.node], edges))
                path.append(step.node)
            if not self.nodes[step.node].next:
                return tuple(path)
        raise ValueError(f"no path to a terminal found in {attempts} walks; raise maxVisits or loosen guards")

    def turns(self, path: Path) -> int:
        """Number of uninterrupted stretches of one speaker."""
        roles = [self.nodes[node].role for node in path]
        return sum(1 for i, role in enumerate(roles) if i == 0 or roles[i - 1] != role)


def analyse(spec: ProcedureSpec, limit: int = PATH_LIMIT) -> Analysis:
    """All findings at once, and the counts."""
    findings = [*_structure(spec), *_nodes(spec), *_variables(spec)]
    sizes = (
        len(spec.nodes),
        sum(len(n.next) for n in spec.nodes),
        sum(1 for n in spec.nodes if len(n.next) > 1),
        sum(1 for n in spec.nodes if not n.next),
    )
    if any(f.severity == "error" for f in findings):
        return Analysis(tuple(findings), *sizes)
    graph, truncated = Graph(spec), False
    turns: list[int] = []
    for path in graph.paths():
        if len(turns) == limit:
            truncated = True
            break
        turns.append(graph.turns(path))
    if not turns:
        findings.append(_error(f"node {spec.start}", "no path reaches a terminal within maxVisits; raise maxVisits on the loop"))
        return Analysis(tuple(findings), *sizes)
    return Analysis(tuple(findings), *sizes, len(turns), truncated, min(turns), None if truncated else max(turns))


def _error(where: str, message: str) -> Finding:
    return Finding("error", where, message)


def _structure(spec: ProcedureSpec) -> Iterator[Finding]:
    ids = [node.id for node in spec.nodes]
    known = set(ids)
    for node_id, count in Counter(ids).items():
        if count > 1:
            yield _error(f"node {node_id}", f"id is used {count} times; give every node its own id")
    if spec.start not in known:
        yield _error("spec.start", f"there is no node {spec.start!r}; name one of the nodes")
        return
    graph: nx.DiGraph[Any] = nx.DiGraph()
    graph.add_nodes_from(known)
    for node in spec.nodes:
        for edge in node.next:
            if edge.to in known:
                graph.add_edge(node.id, edge.to)
            else:
                yield _error(f"node {node.id}", f"goes to {edge.to!r}, which does not exist; add that node or correct the edge")
    reachable = nx.descendants(graph, spec.start) | {spec.start}
    ends = {node.id for node in spec.nodes if not node.next}
    for node in spec.nodes:
        if node.id not in reachable:
            yield _error(f"node {node.id}", "cannot be reached from the start; add an edge to it or remove it")
        elif node.next and not ends & nx.descendants(graph, node.id):
            yield _error(
                f"node {node.id}", "leads to no terminal: a loop without a way out; add an edge that ends the conversation"
            )


def _nodes(spec: ProcedureSpec) -> Iterator[Finding]:
    hubs = {node.id for node in spec.nodes if len(node.next) > 1}
    for node in spec.nodes:
        where = f"node {node.id}"
        if not node.next and node.outcome is None:
            yield _error(where, "is a dead end: set outcome to success, abandonment or escalation, or give it a way out (next)")
        if node.next and node.outcome is not None:
            yield _error(where, "has an outcome and a way out; remove outcome, or next")
        if node.role == "agent" and not node.prompt.strip():
            yield _error(where, "has no prompt; say what the agent should do here")
        yield from _edges(node, hubs, where)


def _edges(node: Node, hubs: set[str], where: str) -> Iterator[Finding]:
    targets = [edge.to for edge in node.next]
    for target in sorted({t for t in targets if targets.count(t) > 1}):
        yield _error(where, f"has two edges to {target}; merge them")
    for edge in node.next:
        if len(node.next) > 1 and not edge.when:
            yield _error(where, f"branches to {edge.to} without saying when; set when on that edge")
        for guard in edge.guards:
            if guard.hub not in hubs:
                yield _error(
                    where, f"guards the edge to {edge.to} by {guard.hub!r}, which is no hub; name a node with several edges"
                )
    whens = [edge.when.strip().lower() for edge in node.next if edge.when]
    if len(set(whens)) < len(whens):
        yield _error(where, "has two branches with the same when; make their conditions differ")
    if node.id in hubs and node.role == "agent" and node.decided_by == "customer":
        yield _error(
            where, "is the agent's turn, so no customer decides there; move the branch to the customer's node or set decidedBy"
        )


def _variables(spec: ProcedureSpec) -> Iterator[Finding]:
    declared = {variable.name for variable in spec.variables}
    used: set[str] = set()
    for node in spec.nodes:
        texts = [node.prompt, *node.examples, *(text for edge in node.next for text in edge.examples)]
        names = {name for text in texts for name in variables_of(text)}
        used |= names
        for name in sorted(names - declared):
            yield _error(f"node {node.id}", f"uses {{{{{name}}}}}, which is not declared; add it to spec.variables or correct it")
    for name in sorted({name for text in spec.openers for name in variables_of(text)} - declared):
        yield _error("spec.openers", f"uses {{{{{name}}}}}, which is not declared; add it to spec.variables or correct it")
    for variable in spec.variables:
        if variable.name not in used:
            yield Finding("warning", f"variable {variable.name}", "is not used by any node; remove it or mention it")
        for problem in _variable(variable):
            yield _error(f"variable {variable.name}", problem)


def _variable(variable: Variable) -> Iterator[str]:
    if variable.type == "string" and not variable.values:
        yield "has no values; list some"
    if variable.type == "integer" and (variable.minimum is None or variable.maximum is None or variable.minimum > variable.maximum):
        yield "needs minimum and maximum, minimum first"
    if variable.type == "dateRange" and (not variable.from_ or not variable.to or variable.from_ > variable.to):
        yield "needs from and to, the earlier day first"
    if variable.type == "dateRange" and variable.min_days > variable.max_days:
        yield "has minDays above maxDays; swap them"
    for text in variable.formats:
        if not _FORMAT[variable.type].fullmatch(text):
            hint = "use {value} or {value:,} for integers, {start:%-d %B} and {end:%-d %B} for date ranges"
            yield f"has the format {text!r}, which is not understood; {hint}"
