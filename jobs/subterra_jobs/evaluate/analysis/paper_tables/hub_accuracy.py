"""How often an agent takes the right branch at decision hubs, and how often an orchestrator's router does. Pure.

Only decisions that were reached with everything before them right are counted: behind a wrong turn no branch is right.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from subterra_core.procedure.graph import Graph
from subterra_jobs.evaluate.analysis.paper_tables.failure_modes import is_hub
from subterra_jobs.evaluate.analysis.statistics import share_interval
from subterra_jobs.evaluate.judge.results import Result, counted

Decision = tuple[str, bool]
"""A hub, and whether the branch after it was the right one."""


def hub_decisions(graph: Graph, result: Result) -> Iterator[Decision]:
    """Decisions that show in what the agent said, up to the first wrong turn."""
    path = result.replay.path
    for turn in result.replay.turns:
        got = turn.label.nodes if turn.label else ()
        for position, index in enumerate(turn.prescribed.indexes):
            right = got[: position + 1] == turn.prescribed.nodes[: position + 1]
            if index and is_hub(graph, path[index - 1]):
                yield path[index - 1], right
            if not right:
                return
        if not turn.right:
            return


def router_decisions(graph: Graph, result: Result) -> Iterator[Decision]:
    """Decisions of an orchestrator's model, from the route that its replies left, up to the first wrong one."""
    path, position = result.replay.path, 0
    for hub, target in (hop for reply in result.conversation.replies for hop in reply.route):
        if hub not in path[position:-1]:
            return
        position = path.index(hub, position) + 1
        right = path[position] == target
        yield hub, right
        if not right:
            return


def hub_table(graph: Graph, results: Sequence[Result]) -> dict[str, Any]:
    """Accuracy of an arm at decision hubs, in all and by hub; `router` is `None` for an arm without one."""
    kept = counted(results)
    routed = any(reply.route for result in kept for reply in result.conversation.replies)
    return {
        "replies": _accuracy([each for result in kept for each in hub_decisions(graph, result)]),
        "router": _accuracy([each for result in kept for each in router_decisions(graph, result)]) if routed else None,
    }


def _accuracy(decisions: Sequence[Decision]) -> dict[str, Any]:
    of, hits = Counter(hub for hub, _ in decisions), Counter(hub for hub, right in decisions if right)
    return {
        "hits": hits.total(),
        "of": of.total(),
        "share": share_interval(hits.total(), of.total()).model_dump() if decisions else None,
        "hubs": {hub: {"hits": hits[hub], "of": of[hub]} for hub in sorted(of)},
    }
