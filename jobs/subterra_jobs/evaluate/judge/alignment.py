"""From guesses about single turns to one reading of a conversation: which way the customer went, and what the agent said. Pure.

A labeller that looks at turns one by one errs here and there. The flowchart says what can follow what, so the reading that costs
least is taken: a second guess costs 1, a step of the agent that the procedure does not allow 3, a customer's decision that was not
among the guesses 4. So one slip of the labeller is mended, while a step that the agent really took wrongly stays wrong.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from subterra_api.v1alpha1.procedure import Role
from subterra_core.procedure.graph import Graph, Path, Step
from subterra_jobs.evaluate.judge.rule_labeller import Label

SECOND, UNHEARD, ILLEGAL, MISHEARD = 1, 1, 3, 4
_RUN = 12
"""Nodes of one speaker in a row that are looked at."""

Nodes = tuple[str, ...]


@dataclass(frozen=True)
class Guess:
    """What a turn may be: the nodes it utters, and where a customer's decision leads; none where that is not said."""

    nodes: Nodes
    to: str | None = None


@dataclass(frozen=True)
class Heard:
    """A turn with at most two guesses, the likelier first; without any it is no step of the procedure."""

    role: Role
    guesses: tuple[Guess, ...] = ()


@dataclass(frozen=True)
class Decoded:
    """``path`` runs from the start to a terminal: what the customer decided, then the shortest way on where that ended.

    ``labels`` are the agent's turns as `replay` wants them. ``turns`` is what every turn was taken for; none for no step.
    """

    path: Path
    labels: tuple[tuple[Label, ...], ...]
    turns: tuple[Guess | None, ...]


@dataclass(frozen=True)
class _Run:
    """Nodes of one speaker up to the other's, and what comes then; none at the end."""

    guess: Guess
    then: "Step | str | None"


@dataclass(frozen=True)
class _Reading:
    """A reading so far. ``at`` is where the conversation stands, none after its end: a step, or once it went astray only a node.

    ``lawful`` is where the path stands.
    """

    cost: int
    at: Step | str | None
    lawful: Step | None
    astray: bool = False
    path: Path = ()
    labels: tuple[tuple[Label, ...], ...] = ()
    turns: tuple[Guess | None, ...] = ()
    said: Nodes = ()
    """What the agent said last."""


def decode(graph: Graph, values: Mapping[str, str], turns: Sequence[Heard]) -> Decoded:
    """The cheapest reading; of several the one in which the agent went astray least."""
    start = graph.begin(values)
    opener = int(bool(turns) and turns[0].role != graph.nodes[start.node].role)  # it is no step
    waiting = {opener: [_Reading(0, start, start, turns=(None,) * opener)]}
    for index in range(opener, len(turns)):
        for reading in _best(waiting.pop(index, ())):
            for taken, further in _further(graph, reading, turns[index:]):
                waiting.setdefault(index + taken, []).append(further)
    best = min(waiting[len(turns)], key=lambda reading: (reading.cost, reading.astray))
    rest = _shortest(graph, best.lawful) if best.lawful is not None else ()
    return Decoded((*best.path, *(rest or ())), best.labels, best.turns)


def _best(readings: Iterable[_Reading]) -> list[_Reading]:
    """The cheapest for each place that matters for what follows."""
    found: dict[object, _Reading] = {}
    for reading in readings:
        key = (reading.at, reading.astray, reading.said)
        if key not in found or reading.cost < found[key].cost:
            found[key] = reading
    return list(found.values())


def _further(graph: Graph, reading: _Reading, turns: Sequence[Heard]) -> Iterator[tuple[int, _Reading]]:
    """The reading with the next turn, or the next two, read in every way that there is."""
    turn = turns[0]
    runs = [] if reading.at is None else _runs(graph, reading.at, turn.role)
    if not runs:  # after the end
        yield 1, _beside(reading, turns[:1], UNHEARD if turn.role == "agent" and turn.guesses else 0)
    elif turn.role == "agent":
        yield from ((1, each) for each in _agent(graph, reading, turn, runs))
    else:
        yield from ((1, each) for each in _customer(reading, turn, runs))
        if not turn.guesses and (len(turns) < 2 or _only_repeats(reading, turns[1])):
            yield min(2, len(turns)), _beside(reading, turns[:2], 0)


def _beside(reading: _Reading, turns: Sequence[Heard], cost: int) -> _Reading:
    """Turns that are no part of the path: a question back and its answer, or thanks after the end."""
    again = Guess(reading.said)
    taken = tuple(again if any(guess.nodes == again.nodes for guess in turn.guesses) else None for turn in turns)
    return replace(reading, cost=reading.cost + cost, turns=(*reading.turns, *taken))


def _only_repeats(reading: _Reading, turn: Heard) -> bool:
    """Whether the agent's turn takes no step."""
    return not turn.guesses or any(guess.nodes == reading.said for guess in turn.guesses)


def _customer(reading: _Reading, turn: Heard, runs: Sequence[_Run]) -> Iterator[_Reading]:
    """Whatever was heard, the customer went some way that there is."""
    alone = len(runs) == 1
    for run in runs:
        ranks = [
            SECOND * rank + (0 if alone or guess.to == run.guess.to else UNHEARD)
            for rank, guess in enumerate(turn.guesses)
            if guess.nodes == run.guess.nodes and (alone or guess.to in (None, run.guess.to))
        ]  # fmt: skip
        yield _taken(reading, run, min(ranks, default=MISHEARD if turn.guesses else UNHEARD))


def _agent(graph: Graph, reading: _Reading, turn: Heard, runs: Sequence[_Run]) -> Iterator[_Reading]:
    """A step that is due, or one that is not."""
    due = {run.guess.nodes for run in runs}
    for rank, guess in enumerate(turn.guesses):
        if guess.nodes not in due:
            strayed = _strayed(reading, runs[0], guess, ILLEGAL + SECOND * rank)
            yield from (replace(strayed, at=then) for then in _after(graph, guess.nodes[-1]))
            continue
        for run in (run for run in runs if run.guess.nodes == guess.nodes):
            said = replace(reading, said=guess.nodes, labels=(*reading.labels, (Label(guess.nodes, ()),)))
            yield _taken(said, run, SECOND * rank)
    if not turn.guesses:
        strayed = _strayed(reading, runs[0], None, ILLEGAL)
        yield from (replace(strayed, at=then) for then in _after(graph, runs[0].guess.nodes[-1]))


def _taken(reading: _Reading, run: _Run, cost: int) -> _Reading:
    """The reading with a turn that is due."""
    further = replace(reading, cost=reading.cost + cost, at=run.then, turns=(*reading.turns, run.guess))
    return further if reading.astray else _lawfully(further, run)


def _strayed(reading: _Reading, due: _Run, guess: Guess | None, cost: int) -> _Reading:
    """The path goes on with the step that was due, and stops there: after that nothing follows from it."""
    on = reading if reading.astray else replace(_lawfully(reading, due), astray=True)
    labels = (*on.labels, (Label(guess.nodes, ()),) if guess else ())  # none holds the turn's place
    said = guess.nodes if guess else on.said
    return replace(on, cost=on.cost + cost, labels=labels, turns=(*on.turns, guess), said=said)


def _lawfully(reading: _Reading, run: _Run) -> _Reading:
    assert not isinstance(run.then, str), "paths consist of steps"
    return replace(reading, path=(*reading.path, *run.guess.nodes), lawful=run.then)


def _runs(graph: Graph, at: Step | str, role: Role) -> list[_Run]:
    """What this speaker can say here: lawfully from a step, or along any edges from a node."""
    first = at if isinstance(at, str) else at.node
    found: list[_Run] = []
    waiting: list[tuple[Step | str, Nodes]] = [(at, (first,))] if graph.nodes[first].role == role else []
    for here, nodes in waiting:
        ways = list(_ways(graph, here))
        if not ways:
            found.append(_Run(Guess(nodes), None))
        for to, then in ways:
            if graph.nodes[to].role != role:
                found.append(_Run(Guess(nodes, to), then))
            elif len(nodes) < _RUN:
                waiting.append((then, (*nodes, to)))
    return found


def _ways(graph: Graph, at: Step | str) -> Iterator[tuple[str, Step | str]]:
    if isinstance(at, str):
        yield from ((edge.to, edge.to) for edge in graph.nodes[at].next)
    else:
        lawful = ((edge.to, graph.take(at, edge)) for edge in graph.open_edges(at))
        yield from (way for way in lawful if _shortest(graph, way[1]) is not None)


def _after(graph: Graph, node: str) -> list[str | None]:
    """The customer's nodes that may follow an agent's node, steps that it left out skipped; none at an end."""
    found: dict[str | None, None] = {}
    seen, waiting = {node}, [node]
    for here in waiting:
        following = [edge.to for edge in graph.nodes[here].next]
        if not following:
            found[None] = None
        for to in following:
            if graph.nodes[to].role == "user":
                found[to] = None
            elif to not in seen:
                seen.add(to)
                waiting.append(to)
    return list(found)


@lru_cache(maxsize=10_000)
def _shortest(graph: Graph, begin: Step) -> Path | None:
    """To a terminal on the shortest lawful way; none when bounds and guards leave no way."""
    waiting: deque[tuple[Step, Path]] = deque([(begin, (begin.node,))])
    seen = {begin}
    while waiting:
        step, path = waiting.popleft()
        if not graph.nodes[step.node].next:
            return path
        for further in (graph.take(step, edge) for edge in graph.open_edges(step)):
            if further not in seen:
                seen.add(further)
                waiting.append((further, (*path, further.node)))
    return None
