"""Scores of an evaluation: from one result per scenario to what the gate reads."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from subterra_api.v1alpha1.scores import Branch, Interval, MeanTokens, Proportion, Scores, ToolScores
from subterra_core.drawing.graph_summary import FailureCounts, TraversalCounts
from subterra_core.procedure.graph import Graph
from subterra_jobs.evaluate.analysis import statistics
from subterra_jobs.evaluate.analysis.gate_statistics import gate_statistics
from subterra_jobs.evaluate.analysis.paired_scores import rounded
from subterra_jobs.evaluate.judge.conformance import Nodes
from subterra_jobs.evaluate.judge.results import CRITERIA, GRACEFUL, Result, counted
from subterra_jobs.evaluate.scenarios.path_cover import path_edges
from subterra_jobs.evaluate.simulate.agents import in_context_prompt
from subterra_jobs.evaluate.simulate.participants import CANDIDATE
from subterra_jobs.llm.cost_estimate import text_tokens

MIN_CHALLENGES = 5
"""Graceful Handling is omitted when fewer conversations were challenged."""
WORST_BRANCHES = 4
"""Branches in the termination message; the report has all."""


def criterion_scores(results: Sequence[Result], criterion: str) -> list[float]:
    """A criterion's scores; Graceful Handling only where challenged, because it is capped elsewhere."""
    return [r.score(criterion) for r in results if criterion != GRACEFUL or r.challenged]


def summarise(arms: Mapping[str, Sequence[Result]], seed: int, rare_branches: Sequence[Result] = ()) -> Scores:
    """Scores that the gate needs, from the arms `candidate` and, if present, `serving` and `anchor`.

    Further conversations on `rare_branches` count for the branches alone.

    A failed conversation gets the lowest score on every criterion. `scenarios` counts those that are left out too. Raises
    ValueError when all are.
    """
    results = counted(arms[CANDIDATE])
    criteria = {name: criterion_scores(results, name) for name in CRITERIA}
    if len(criteria[GRACEFUL]) < MIN_CHALLENGES:
        del criteria[GRACEFUL]
    finished = [r for r in results if r.conversation.error is None]
    exact = [mention.exact for r in results for mention in r.replay.mentions]
    outcomes = branch_outcomes([*results, *counted(rare_branches)])
    return Scores(
        scenarios=len(arms[CANDIDATE]),
        criteria={name: _rounded(statistics.mean_interval(values, seed)) for name, values in criteria.items()},
        failure_rate=_rounded(statistics.share_interval(sum(r.failed for r in results), len(results))),
        conformance=_rounded(statistics.share_interval(sum(r.conformant for r in results), len(results))),
        turns_per_conversation=round(sum(map(_requests, finished)) / max(1, len(finished)), 4),
        slots_exact=round(sum(exact) / len(exact), 4) if exact else None,
        branches_judged=len(outcomes),
        worst_branches=tuple(outcomes[:WORST_BRANCHES]),
        tools=tool_scores(results),
        statistics=gate_statistics(arms),
    )


def tool_scores(results: Sequence[Result]) -> ToolScores | None:
    """Calls and stated results of all conversations; `None` where no call was due and none was made."""
    calls, stated = [result.replay.calls for result in results], [result.replay.results for result in results]
    due, faults = sum(check.due for check in calls), [fault for check in calls for fault in check.faults]
    if not due and not faults:
        return None
    return ToolScores(
        calls=Proportion(hits=sum(check.right for check in calls), of=due),
        unprescribed=sum(bool(fault.made) for fault in faults),
        invented_results=Proportion(hits=sum(each.invented for each in stated), of=sum(each.of for each in stated)),
    )


def _requests(result: Result) -> int:
    """Requests that a conversation took: a reply is one, and each tool call one more. The price is counted by requests."""
    said = [part for message in result.conversation.chat for part in message.get("messages") or ()]
    calls = [part for part in said if part["role"] == "tool"]
    return len(result.conversation.replies) + len(calls)


def mean_tokens(graph: Graph, results: Sequence[Result]) -> MeanTokens | None:
    """Tokens of the mean finished conversation; `None` if the server reported none."""
    finished = [result for result in results if result.conversation.error is None]
    replies = [reply for result in finished for reply in result.conversation.replies]
    read, written = sum(reply.prompt_tokens for reply in replies), sum(reply.completion_tokens for reply in replies)
    if not read or not written:
        return None
    hubs = {node.id for node in graph.spec.nodes if len(node.next) > 1}
    passed = sum(node in hubs for result in finished for node in result.replay.path)
    return MeanTokens(
        prompt=round(read / len(finished), 2),
        completion=round(written / len(finished), 2),
        procedure=text_tokens(in_context_prompt(graph.spec)),
        nodes=len(graph.spec.nodes),
        hubs=round(passed / len(finished), 2),
    )


def traversal_counts(results: Sequence[Result]) -> TraversalCounts:
    """Conversations that should have passed each node and edge, and how many of them failed."""
    nodes, edges = (Counter[str](), Counter[str]()), (Counter[tuple[str, str]](), Counter[tuple[str, str]]())
    for result in results:
        for counter in range(1 + result.failed):
            nodes[counter].update(set(result.replay.path))
            edges[counter].update(path_edges(result.replay.path))
    return TraversalCounts(len(results), nodes[0], edges[0], FailureCounts(nodes[1], edges[1]))


def branch_outcomes(results: Sequence[Result]) -> list[Branch]:
    """Failures on each edge out of a hub, highest Wilson lower bound first."""
    counts = traversal_counts(results)
    assert counts.failures is not None
    edges_out = Counter(hub for hub, _ in counts.edges)
    outcomes = [
        Branch(hub=hub, to=to, conversations=count, failures=counts.failures.edges.get((hub, to), 0))
        for (hub, to), count in sorted(counts.edges.items())
        if edges_out[hub] > 1
    ]
    return sorted(outcomes, key=lambda branch: -statistics.share_interval(branch.failures, branch.conversations).low)


def _rounded(value: Interval) -> Interval:
    return Interval(mean=rounded(value.mean), low=rounded(value.low), high=rounded(value.high))


def compare_seen_with_held_out(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Seen and held-out values by criterion: an unpaired test, adjusted for five criteria (Holm)."""
    seen = [r for r in results if not r.scenario.unseen]
    unseen = [r for r in results if r.scenario.unseen]
    sides = {name: (criterion_scores(seen, name), criterion_scores(unseen, name)) for name in CRITERIA}
    sides = {name: both for name, both in sides.items() if both[0] and both[1]}
    adjusted = statistics.holm({name: statistics.mann_whitney(*both).p for name, both in sides.items()})
    return [
        {
            "criterion": name,
            "seen": float(np.mean(a)),
            "unseen": float(np.mean(b)),
            "seenN": len(a),
            "unseenN": len(b),
            "p": adjusted[name],
            "cohensD": statistics.cohens_d(a, b),
        }
        for name, (a, b) in sides.items()
    ]


def illegal_transitions(results: Sequence[Result]) -> list[dict[str, Any]]:
    """First illegal transition of each conversation, counted, most frequent first."""
    counts: Counter[tuple[str, Nodes, Nodes]] = Counter()
    for result in results:
        if result.conversation.error is None and (wrong := result.replay.violation) is not None:
            counts[wrong.hub, wrong.expected, wrong.got] += 1
    due = Counter((turn.prescribed.hub, turn.prescribed.nodes) for r in results for turn in r.replay.turns)
    return [
        {"hub": hub, "expected": list(expected), "got": list(got), "count": count, "of": due[hub, expected]}
        for (hub, expected, got), count in counts.most_common()
    ]
