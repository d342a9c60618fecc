"""Alignment-based conformance checking: from labels of single turns to the cheapest alignment of a conversation. Pure.

A labeller that reads turns one by one makes mistakes. The flowchart says what can follow what, so the cheapest alignment is taken:
a second candidate costs 1, an agent step that the procedure does not allow 3, a customer decision that is not among the candidates
4. So one slip of the labeller is corrected, while a step that the agent really took wrongly stays wrong.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from subterra_api.v1alpha1.procedure import Role
from subterra_core.procedure.graph import Graph, Path, Step
from subterra_jobs.dialogue.similarity.closest_examples import CandidateLabel, Nodes
from subterra_jobs.evaluate.judge.rule_labeller import Label

SECOND_CANDIDATE_COST, UNLABELLED_COST, ILLEGAL_STEP_COST, MISLABELLED_COST = 1, 1, 3, 4
_MAX_RUN = 12
"""Longest run of nodes of one speaker that is considered."""
_DEVIATIONS = 2
"""Likeliest candidates of an agent's turn that are considered as a step that is not due."""


@dataclass(frozen=True)
class LabelledTurn:
    """A turn with candidates, the likeliest first; none for a turn that takes no step. `costs` has the cost of each."""

    role: Role
    candidates: tuple[CandidateLabel, ...] = ()
    costs: tuple[float, ...] | None = None
    """`None`: the first is free, each further one costs `SECOND_CANDIDATE_COST` more."""

    def with_costs(self) -> list[tuple[float, CandidateLabel]]:
        """Each candidate after its cost."""
        costs = self.costs or tuple(SECOND_CANDIDATE_COST * rank for rank in range(len(self.candidates)))
        return [*zip(costs, self.candidates, strict=True)]


@dataclass(frozen=True)
class Alignment:
    """`path` runs from the start to a terminal: the customer's decisions, then the shortest completion.

    `labels` are the agent's turns as `replay` expects them. `turns` has the label chosen for every turn, `None` for no step.
    """

    path: Path
    labels: tuple[tuple[Label, ...], ...]
    turns: tuple[CandidateLabel | None, ...]


@dataclass(frozen=True)
class _SpeakerRun:
    """A run of one speaker's nodes and the position after it, `None` at the end. `leaves`: by an anywhere edge."""

    label: CandidateLabel
    then: "Step | str | None"
    leaves: bool = False


@dataclass(frozen=True)
class _PartialAlignment:
    """An alignment of the first turns.

    `position` is where the conversation is: a step, only a node once it has `deviated`, `None` after its end. `on_model` is where
    the path is.
    """

    cost: float
    position: Step | str | None
    on_model: Step | None
    deviated: bool = False
    path: Path = ()
    labels: tuple[tuple[Label, ...], ...] = ()
    turns: tuple[CandidateLabel | None, ...] = ()
    last_agent_nodes: Nodes = ()
    """Nodes of the agent's last utterance."""


def align(graph: Graph, values: Mapping[str, str], turns: Sequence[LabelledTurn]) -> Alignment:
    """The cheapest alignment; among equals, one in which the agent did not deviate."""
    best = min(_all_turns(graph, values, turns), key=_rank)
    rest = _shortest_completion(graph, best.on_model) if best.on_model is not None else ()
    return Alignment((*best.path, *(rest or ())), best.labels, best.turns)


def last_step_lead(graph: Graph, values: Mapping[str, str], turns: Sequence[LabelledTurn]) -> float:
    """How much more the cheapest alignment costs in which the last turn takes another step; infinite if there is none."""
    found = _all_turns(graph, values, turns)
    best = min(found, key=_rank)
    return min((each.cost for each in found if _last_node(each) != _last_node(best)), default=math.inf) - best.cost


def _rank(partial: _PartialAlignment) -> tuple[float, bool]:
    return partial.cost, partial.deviated


def _last_node(partial: _PartialAlignment) -> str | None:
    label = partial.turns[-1] if partial.turns else None
    return label.nodes[-1] if label else None


def _all_turns(graph: Graph, values: Mapping[str, str], turns: Sequence[LabelledTurn]) -> list[_PartialAlignment]:
    """Alignments of all turns: the cheapest for each way of taking the last one."""
    start = graph.begin(values)
    opener = int(bool(turns) and turns[0].role != graph.nodes[start.node].speaker)  # an opener takes no step
    waiting = {opener: [_PartialAlignment(0, start, start, turns=(None,) * opener)]}
    for index in range(opener, len(turns)):
        for partial in _cheapest(waiting.pop(index, ())):
            for consumed, extended in _extend(graph, partial, turns[index:]):
                waiting.setdefault(index + consumed, []).append(extended)
    return waiting[len(turns)]


def _cheapest(partials: Iterable[_PartialAlignment]) -> list[_PartialAlignment]:
    """The cheapest alignment for each state that matters for what follows."""
    cheapest: dict[object, _PartialAlignment] = {}
    for partial in partials:
        key = (partial.position, partial.deviated, partial.last_agent_nodes)
        if key not in cheapest or partial.cost < cheapest[key].cost:
            cheapest[key] = partial
    return list(cheapest.values())


def _extend(graph: Graph, partial: _PartialAlignment, turns: Sequence[LabelledTurn]) -> Iterator[tuple[int, _PartialAlignment]]:
    """All extensions by the next turn or two, with the number of turns each consumes."""
    turn = turns[0]
    runs = [] if partial.position is None else _speaker_runs(graph, partial.position, turn.role)
    if not runs:  # after the end
        yield 1, _off_path(partial, turns[:1], UNLABELLED_COST if turn.role == "agent" and turn.candidates else 0)
    elif turn.role == "agent":
        yield from ((1, extended) for extended in _agent_turn(graph, partial, turn, runs))
    else:
        yield from ((1, extended) for extended in _customer_turn(partial, turn, runs))
        if not turn.candidates and (len(turns) < 2 or _only_repeats(partial, turns[1])):
            yield min(2, len(turns)), _off_path(partial, turns[:2], 0)


def _off_path(partial: _PartialAlignment, turns: Sequence[LabelledTurn], cost: float) -> _PartialAlignment:
    """Extension by turns off the path: a clarifying question and its answer, or thanks after the end."""
    repeated = CandidateLabel(partial.last_agent_nodes)
    labels = tuple(repeated if any(candidate.nodes == repeated.nodes for candidate in turn.candidates) else None for turn in turns)
    return replace(partial, cost=partial.cost + cost, turns=(*partial.turns, *labels))


def _only_repeats(partial: _PartialAlignment, turn: LabelledTurn) -> bool:
    """Whether the agent's turn takes no new step."""
    return not turn.candidates or any(candidate.nodes == partial.last_agent_nodes for candidate in turn.candidates)


def _customer_turn(partial: _PartialAlignment, turn: LabelledTurn, runs: Sequence[_SpeakerRun]) -> Iterator[_PartialAlignment]:
    """Extensions by a customer turn: whatever the label, the customer took some open edge."""
    leaving = {run.label for run in runs if run.leaves}
    alone = sum(not run.leaves for run in runs) == 1  # no decision to make, unless the words say that the customer leaves
    for run in runs:
        if run.leaves:  # believed only if the words say so: else an agent could go there unasked
            costs = [cost for cost, candidate in turn.with_costs() if candidate == run.label]
            yield _follow(partial, run, min(costs, default=MISLABELLED_COST + UNLABELLED_COST))
            continue
        costs = [
            cost + (0 if alone or candidate.to == run.label.to else UNLABELLED_COST)
            for cost, candidate in turn.with_costs()
            if candidate.nodes == run.label.nodes and (alone or candidate.to in (None, run.label.to))
            if candidate not in leaving
        ]
        yield _follow(partial, run, min(costs, default=MISLABELLED_COST if turn.candidates else UNLABELLED_COST))


def _agent_turn(
    graph: Graph, partial: _PartialAlignment, turn: LabelledTurn, runs: Sequence[_SpeakerRun]
) -> Iterator[_PartialAlignment]:
    """Extensions by an agent turn: the step that is due, or a deviation."""
    due = {spoken_nodes(graph, run.label.nodes) for run in runs}
    for rank, (cost, candidate) in enumerate(turn.with_costs()):
        said = spoken_nodes(graph, candidate.nodes)
        if said not in due:
            if rank >= _DEVIATIONS:
                continue
            deviation = _deviate(partial, runs[0], candidate, ILLEGAL_STEP_COST + cost)
            yield from (replace(deviation, position=then) for then in _next_customer_nodes(graph, candidate.nodes[-1]))
            continue
        for run in (run for run in runs if spoken_nodes(graph, run.label.nodes) == said):
            uttered = replace(partial, last_agent_nodes=candidate.nodes, labels=(*partial.labels, (Label(run.label.nodes, ()),)))
            yield _follow(uttered, run, cost)
    if not turn.candidates:
        deviation = _deviate(partial, runs[0], None, ILLEGAL_STEP_COST)
        yield from (replace(deviation, position=then) for then in _next_customer_nodes(graph, runs[0].label.nodes[-1]))


def spoken_nodes(graph: Graph, nodes: Nodes) -> Nodes:
    """The nodes at which something is said: tool calls are checked by themselves, whatever a labeller makes of them."""
    return tuple(node for node in nodes if graph.nodes[node].role != "tool")


def _follow(partial: _PartialAlignment, run: _SpeakerRun, cost: float) -> _PartialAlignment:
    """Extension by a turn that is due."""
    extended = replace(partial, cost=partial.cost + cost, position=run.then, turns=(*partial.turns, run.label))
    return extended if partial.deviated else _advance(extended, run)


def _deviate(partial: _PartialAlignment, due: _SpeakerRun, candidate: CandidateLabel | None, cost: float) -> _PartialAlignment:
    """Extension by a deviation: the path takes the step that was due and stops there."""
    base = partial if partial.deviated else replace(_advance(partial, due), deviated=True)
    labels = (*base.labels, (Label(candidate.nodes, ()),) if candidate else ())
    nodes = candidate.nodes if candidate else base.last_agent_nodes
    return replace(base, cost=base.cost + cost, labels=labels, turns=(*base.turns, candidate), last_agent_nodes=nodes)


def _advance(partial: _PartialAlignment, run: _SpeakerRun) -> _PartialAlignment:
    assert not isinstance(run.then, str), "paths consist of steps"
    return replace(partial, path=(*partial.path, *run.label.nodes), on_model=run.then)


def _speaker_runs(graph: Graph, position: Step | str, role: Role) -> list[_SpeakerRun]:
    """Runs this speaker can utter here: along open edges from a step, along any edges from a node."""
    first = position if isinstance(position, str) else position.node
    runs: list[_SpeakerRun] = []
    waiting: list[tuple[Step | str, Nodes]] = [(position, (first,))] if graph.nodes[first].speaker == role else []
    for here, nodes in waiting:
        moves = list(_moves(graph, here))
        if not moves:
            runs.append(_SpeakerRun(CandidateLabel(nodes), None))
        for to, then in moves:
            if graph.nodes[to].speaker != role:
                runs.append(_SpeakerRun(CandidateLabel(nodes, to), then, graph.leaves(nodes[-1], to)))
            elif len(nodes) < _MAX_RUN:
                waiting.append((then, (*nodes, to)))
    return runs


def _moves(graph: Graph, position: Step | str) -> Iterator[tuple[str, Step | str]]:
    if isinstance(position, str):
        yield from ((edge.to, edge.to) for edge in graph.edges_of(position))
    else:
        moves = ((edge.to, graph.take(position, edge)) for edge in graph.choices(position, again=True))
        yield from (move for move in moves if _shortest_completion(graph, move[1]) is not None)


def _next_customer_nodes(graph: Graph, node: str) -> list[str | None]:
    """Customer nodes that may follow an agent node, skipping agent nodes between; `None` for an end."""
    customer_nodes: dict[str | None, None] = {}
    seen, waiting = {node}, [node]
    for here in waiting:
        following = [edge.to for edge in graph.nodes[here].next]
        if not following:
            customer_nodes[None] = None
        for to in following:
            if graph.nodes[to].speaker == "user":
                customer_nodes[to] = None
            elif to not in seen:
                seen.add(to)
                waiting.append(to)
    return list(customer_nodes)


@lru_cache(maxsize=10_000)
def _shortest_completion(graph: Graph, begin: Step) -> Path | None:
    """Shortest path to a terminal that bounds and guards allow, or `None`."""
    waiting: deque[tuple[Step, Path]] = deque([(begin, (begin.node,))])
    seen = {begin}
    while waiting:
        step, path = waiting.popleft()
        if not graph.nodes[step.node].next:
            return path
        for following in (graph.take(step, edge) for edge in graph.open_edges(step)):
            if following not in seen:
                seen.add(following)
                waiting.append((following, (*path, following.node)))
    return None
