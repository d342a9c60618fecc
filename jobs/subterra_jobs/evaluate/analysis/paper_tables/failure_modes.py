"""How conversations failed, from the replayed transcript alone, in every arm alike. Pure.

| mode | what happened |
|---|---|
| noReply | the agent gave no usable reply: an empty one, or an error of its model or server |
| routingError | after a decision hub it took another of the hub's branches than the customer chose |
| endedEarly | it closed the conversation where the procedure goes on, and no branch of a hub leads there |
| skippedStep | it left out a step and took a later one |
| repeatedQuestion | it took a step again that it had taken, where another one was due |
| otherStep | it took a step that neither is due nor comes later |
| unrecognized | its words match no step of the procedure |
| notFinished | every step was right, but the end was never reached: turns ran out, or the customer left |
| lostFact | it said another value than the customer's; where models label, who note no values: Information Accuracy ≤ 3 |
| judgesOnly | the judges gave a Task Success of 3 or less although steps and values are right, or nobody could label the steps |

Where models label, they do not label a conversation without a reply, so that nothing before is known.
Only the first wrong step is classified, because what follows it is its consequence; repeated questions and lost facts are found
anywhere. The *cause* of a failure is the mode that occurred first.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

from subterra_core.procedure.graph import Graph
from subterra_jobs.evaluate.judge.conformance import CheckedTurn, Nodes
from subterra_jobs.evaluate.judge.results import ACCURACY, FAILURE, RULES, Result, counted

FailureMode = Literal[
    "noReply",
    "routingError",
    "endedEarly",
    "skippedStep",
    "repeatedQuestion",
    "otherStep",
    "unrecognized",
    "notFinished",
    "lostFact",
    "judgesOnly",
]
MODES: tuple[FailureMode, ...] = get_args(FailureMode)
Event = tuple[int, FailureMode]
"""Turn of the agent, counted from 0, and what was wrong there."""


def failure_modes(graph: Graph, result: Result) -> list[FailureMode]:
    """Modes of one conversation, in the order in which they occurred; empty when nothing was wrong."""
    events = [*_step_events(graph, result)]
    if result.conversation.error is not None:
        events.append((len(result.conversation.replies), "noReply"))
    else:
        events += _ending(result)
    events += _lost_facts(result)
    found = [*dict.fromkeys(mode for _, mode in sorted(events, key=lambda event: (event[0], MODES.index(event[1]))))]
    return found or (["judgesOnly"] if result.failed else [])


def _step_events(graph: Graph, result: Result) -> Iterator[Event]:
    """The first wrong step, and every question that was asked again, among the labelled turns."""
    turns, taken, on_track = result.replay.turns[: result.replay.labelled], set[str](), True
    for at, turn in enumerate(turns):
        got = turn.label.nodes if turn.label else ()
        again = not turn.right and bool(got) and taken.issuperset(got)
        mode = _wrong_step(graph, result, at, again) if on_track and not turn.right else None
        if mode is not None:
            yield at, mode
        if again and mode != "repeatedQuestion":
            yield at, "repeatedQuestion"
        on_track &= turn.right
        taken.update(got)


def _wrong_step(graph: Graph, result: Result, at: int, again: bool) -> FailureMode:
    turn, path = result.replay.turns[at], result.replay.path
    got = turn.label.nodes if turn.label else ()
    if not got:
        return "unrecognized" if result.conversation.replies[at].text.strip() else "noReply"
    if _left_by_another_branch(graph, turn, got):
        return "routingError"
    if again:
        return "repeatedQuestion"
    if any(not graph.nodes[node].next for node in got):
        return "endedEarly"
    return "skippedStep" if {*got} <= {*path[turn.prescribed.indexes[0] :]} else "otherStep"


def _left_by_another_branch(graph: Graph, turn: CheckedTurn, got: Nodes) -> bool:
    """Whether the steps follow what is due up to a decision hub, and then another of its branches."""
    due = turn.prescribed.nodes
    same = next((index for index, pair in enumerate(zip(due, got, strict=False)) if pair[0] != pair[1]), min(len(due), len(got)))
    hub = due[same - 1] if same else turn.prescribed.hub
    return same < len(got) and is_hub(graph, hub) and graph.edge(hub, got[same]) is not None


def is_hub(graph: Graph, node: str) -> bool:
    """Whether several ways lead on from a node, anywhere edges among them; the start of a conversation is none."""
    return node in graph.nodes and len(graph.edges_of(node)) > 1


def _ending(result: Result) -> Iterator[Event]:
    """A conversation that was right as far as it went, without coming to its end, or closed by the agent too soon."""
    replay = result.replay
    right = all(turn.right for turn in replay.turns[: replay.labelled])
    known = bool(replay.labelled or not result.conversation.replies)
    if known and right and not replay.arrived:
        yield len(replay.turns), "notFinished"


def _lost_facts(result: Result) -> Iterator[Event]:
    mentions = result.replay.mentions
    for mention in mentions:
        if not mention.exact:
            yield mention.turn, "lostFact"
    by_models = any(each is not None and each.judge != RULES for each in result.judgements)
    if not mentions and by_models and result.conversation.error is None and result.score(ACCURACY) <= FAILURE:
        yield len(result.replay.turns), "lostFact"


def failure_table(graph: Graph, results: Sequence[Result]) -> dict[str, Any]:
    """Failures of an arm by cause, and in how many conversations each mode occurs, failed or not.

    A failure is a Task Success of 3 or less; `offTrack` counts conversations with any mode.
    """
    kept = counted(results)
    modes = [failure_modes(graph, result) for result in kept]
    causes = Counter(found[0] for result, found in zip(kept, modes, strict=True) if result.failed)
    occurring = Counter(mode for found in modes for mode in found)
    return {
        "conversations": len(kept),
        "failures": sum(result.failed for result in kept),
        "offTrack": sum(map(bool, modes)),
        "causes": {mode: causes[mode] for mode in MODES if causes[mode]},
        "occurring": {mode: occurring[mode] for mode in MODES if occurring[mode]},
    }
