"""Replays a conversation against the procedure: did the agent take the prescribed step after each decision of the customer?

The scenario's path has the decision at every hub: the customer's lines were written for it, facts follow from the scenario's
values, and history follows from the path itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from subterra_api.unicode_forms import alike
from subterra_core.procedure.graph import Graph, Path
from subterra_jobs.evaluate.judge.rule_labeller import Label

Nodes = tuple[str, ...]


@dataclass(frozen=True)
class PrescribedTurn:
    """Nodes that one agent turn must utter. `hub` is the customer node before it, `indexes` are the nodes' indexes on the path."""

    nodes: Nodes
    hub: str
    indexes: tuple[int, ...]


@dataclass(frozen=True)
class CheckedTurn:
    """One agent turn and what was prescribed; `label` is `None` when the reply was not recognized or is missing."""

    prescribed: PrescribedTurn
    label: Label | None

    @property
    def right(self) -> bool:
        return self.label is not None and self.label.nodes == self.prescribed.nodes


@dataclass(frozen=True)
class Mention:
    """A value that the agent repeated, and the value that the customer has."""

    turn: int
    variable: str
    said: str
    meant: str

    @property
    def exact(self) -> bool:
        return alike(self.said) == alike(self.meant)


@dataclass(frozen=True)
class Violation:
    """The first transition that the procedure does not allow; `got` is empty for a reply that was not recognized."""

    turn: int
    hub: str
    expected: Nodes
    got: Nodes


@dataclass(frozen=True)
class CallFault:
    """The first wrong tool call of a turn of the agent, counted from 0. `due` or `made` is empty where there is none."""

    turn: int
    kind: Literal["missing call", "unexpected call", "wrong tool", "wrong arguments"]
    due: str
    made: str


@dataclass(frozen=True)
class CallCheck:
    """The tool calls of a conversation: how many were due, how many of them were made as prescribed, and what was wrong."""

    due: int = 0
    right: int = 0
    faults: tuple[CallFault, ...] = ()


@dataclass(frozen=True)
class StatedResults:
    """Values of results that the agent said, and how many of them no tool had returned."""

    of: int = 0
    invented: int = 0


@dataclass(frozen=True)
class Replay:
    """A conversation checked against the procedure. `reached` is the first terminal the agent uttered, at turn `reached_at`."""

    turns: tuple[CheckedTurn, ...]
    mentions: tuple[Mention, ...]
    reached: str | None
    reached_at: int | None
    arrived: bool
    """Whether the agent reached the right terminal, and not too early."""
    violation: Violation | None
    path: Path
    """The path that the agent should have followed."""
    labelled: int = 0
    """Number of labelled replies."""
    calls: CallCheck = CallCheck()
    """The tool calls; see `call_conformance`."""
    results: StatedResults = StatedResults()
    """What the agent said of the results of tools."""

    @property
    def conformant(self) -> bool:
        return self.violation is None and self.arrived and not self.calls.faults and not self.results.invented

    @property
    def broken_off(self) -> bool:
        """Whether all replies take the right step, but the path is not at its end."""
        return not self.conformant and self.labelled < len(self.turns) and all(turn.right for turn in self.turns[: self.labelled])


def prescribed_turns(graph: Graph, path: Path) -> list[PrescribedTurn]:
    """Agent turns on a path."""
    turns: list[PrescribedTurn] = []
    hub = "start"
    for index, node in enumerate(path):
        if graph.nodes[node].speaker == "user":
            hub = node
        elif index and graph.nodes[path[index - 1]].speaker == "agent":
            last = turns[-1]
            turns[-1] = PrescribedTurn((*last.nodes, node), last.hub, (*last.indexes, index))
        else:
            turns.append(PrescribedTurn((node,), hub, (index,)))
    return turns


def replay(graph: Graph, path: Path, values: Mapping[str, str], labels: Sequence[Sequence[Label]]) -> Replay:
    """The conversation checked turn by turn; `labels` has the candidate labels of each reply.

    Replies beyond the path are ignored: when the customer has the last word, the agent's reply to it means nothing.
    """
    prescribed = prescribed_turns(graph, path)
    candidates = [*labels, *([()] * (len(prescribed) - len(labels)))]
    turns = tuple(CheckedTurn(due, _choose_label(due, found)) for due, found in zip(prescribed, candidates, strict=False))
    ends = [
        (index, node) for index, turn in enumerate(turns) if turn.label for node in turn.label.nodes if not graph.nodes[node].next
    ]
    reached_at, reached = ends[0] if ends else (None, None)
    if graph.nodes[path[-1]].role == "user":  # the customer ends it, so the agent must not
        arrived = not ends and bool(turns) and turns[-1].right
    else:
        arrived = reached == path[-1] and reached_at == len(turns) - 1
    return Replay(turns, _mentions(turns, values), reached, reached_at, arrived, _first_violation(turns), path, len(labels))


def _choose_label(due: PrescribedTurn, candidates: Sequence[Label]) -> Label | None:
    """The prescribed label where the phrasing is ambiguous, else the first."""
    return next((label for label in candidates if label.nodes == due.nodes), candidates[0] if candidates else None)


def _mentions(turns: Sequence[CheckedTurn], values: Mapping[str, str]) -> tuple[Mention, ...]:
    return tuple(
        Mention(index, name, said, values.get(name, ""))
        for index, turn in enumerate(turns)
        if turn.label is not None
        for name, said in turn.label.slots
    )


def _first_violation(turns: Sequence[CheckedTurn]) -> Violation | None:
    for index, turn in enumerate(turns):
        if not turn.right:
            return Violation(index, turn.prescribed.hub, turn.prescribed.nodes, turn.label.nodes if turn.label else ())
    return None
