"""Replays a dialogue against the procedure: after each decision of the customer, did the agent do what is prescribed?

The scenario's path holds what was decided at every hub: the customer's lines were written for it, facts follow from the
scenario's values, and history follows from the path itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from subterra_core.procedure.graph import Graph, Path
from subterra_jobs.evaluate.judge.rule_labeller import Label

Nodes = tuple[str, ...]


@dataclass(frozen=True)
class Prescribed:
    """What one agent turn must utter. ``hub`` is the customer's node before it, ``places`` are its nodes' places on the path."""

    nodes: Nodes
    hub: str
    places: tuple[int, ...]


@dataclass(frozen=True)
class Turn:
    """One agent turn beside what was prescribed; ``label`` is none when the reply was not recognised or never came."""

    prescribed: Prescribed
    label: Label | None

    @property
    def right(self) -> bool:
        return self.label is not None and self.label.nodes == self.prescribed.nodes


@dataclass(frozen=True)
class Mention:
    """A value that the agent repeated, and what the customer had said."""

    turn: int
    variable: str
    said: str
    meant: str

    @property
    def exact(self) -> bool:
        return self.said == self.meant


@dataclass(frozen=True)
class Violation:
    """The first transition that the procedure does not allow; ``got`` is empty for a reply that was not recognised."""

    turn: int
    hub: str
    expected: Nodes
    got: Nodes


@dataclass(frozen=True)
class Replay:
    """A dialogue as the procedure sees it. ``reached`` is the terminal that the agent uttered first, at ``reached_at``."""

    turns: tuple[Turn, ...]
    mentions: tuple[Mention, ...]
    reached: str | None
    reached_at: int | None
    arrived: bool
    """The right terminal, and not before its time."""
    violation: Violation | None
    path: Path
    """What was decided, and should have been followed."""

    @property
    def conformant(self) -> bool:
        return self.violation is None and self.arrived


def prescribe(graph: Graph, path: Path) -> list[Prescribed]:
    """The agent's turns on a path."""
    turns: list[Prescribed] = []
    hub = "start"
    for place, node in enumerate(path):
        if graph.nodes[node].role == "user":
            hub = node
        elif place and graph.nodes[path[place - 1]].role == "agent":
            last = turns[-1]
            turns[-1] = Prescribed((*last.nodes, node), last.hub, (*last.places, place))
        else:
            turns.append(Prescribed((node,), hub, (place,)))
    return turns


def replay(graph: Graph, path: Path, values: Mapping[str, str], labels: Sequence[Sequence[Label]]) -> Replay:
    """The dialogue judged turn by turn; ``labels`` are the readings of each reply.

    Replies beyond the path are left out: when the customer says the last word, the agent's answer to it means nothing.
    """
    prescribed = prescribe(graph, path)
    readings = [*labels, *([()] * (len(prescribed) - len(labels)))]
    turns = tuple(Turn(want, _read(want, found)) for want, found in zip(prescribed, readings, strict=False))
    ends = [(at, node) for at, turn in enumerate(turns) if turn.label for node in turn.label.nodes if not graph.nodes[node].next]
    reached_at, reached = ends[0] if ends else (None, None)
    if graph.nodes[path[-1]].role == "user":  # the customer ends it, so the agent must not
        arrived = not ends and bool(turns) and turns[-1].right
    else:
        arrived = reached == path[-1] and reached_at == len(turns) - 1
    return Replay(turns, _mentions(turns, values), reached, reached_at, arrived, _violation(turns), path)


def _read(want: Prescribed, readings: Sequence[Label]) -> Label | None:
    """The prescribed reading where wordings leave a choice, else the first."""
    return next((label for label in readings if label.nodes == want.nodes), readings[0] if readings else None)


def _mentions(turns: Sequence[Turn], values: Mapping[str, str]) -> tuple[Mention, ...]:
    return tuple(
        Mention(at, name, said, values.get(name, ""))
        for at, turn in enumerate(turns)
        if turn.label is not None
        for name, said in turn.label.slots
    )


def _violation(turns: Sequence[Turn]) -> Violation | None:
    for at, turn in enumerate(turns):
        if not turn.right:
            return Violation(at, turn.prescribed.hub, turn.prescribed.nodes, turn.label.nodes if turn.label else ())
    return None
