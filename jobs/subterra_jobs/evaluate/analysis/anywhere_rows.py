"""How often the agent honours anywhere edges, and how often it takes one that nobody asked for. Pure."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.anywhere_paths import leaves_at
from subterra_jobs.evaluate.analysis.statistics import share_interval
from subterra_jobs.evaluate.judge.results import Result


def anywhere_rows(graph: Graph, results: Sequence[Result]) -> list[dict[str, Any]]:
    """A row per anywhere edge: turns at which customers took it, after how many the agent went there, and where it did not.

    `unasked` has the conversations in which the agent went there although the customer had said something else.
    """
    asked, honoured = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    unasked = Counter[str]()
    for result in results:
        for node, target, right in requests(graph, result):
            asked[node, target] += 1
            honoured[node, target] += right
        unasked.update(_unasked(result))
    rows = []
    for edge in graph.spec.anywhere:
        nodes = [node for node, edges in graph.anywhere.items() if edge.to in {each.to for each in edges}]
        hits, of = (sum(counts[node, edge.to] for node in nodes) for counts in (honoured, asked))
        row: dict[str, Any] = {"to": edge.to, "when": edge.when, "honoured": hits, "of": of}
        row["share"] = share_interval(hits, of).model_dump() if of else None
        row["nodes"] = [{"node": node, "honoured": honoured[node, edge.to], "of": asked[node, edge.to]} for node in nodes]
        rows.append(row | {"unasked": unasked[edge.to], "conversations": len(results)})
    return rows


def requests(graph: Graph, result: Result) -> list[tuple[str, str, bool]]:
    """The customer's node, the target and whether the agent went there, for each anywhere edge on a conversation's path."""
    path, found = result.replay.path, list[tuple[str, str, bool]]()
    turns = {turn.prescribed.indexes[0]: turn for turn in result.replay.turns}
    for position in range(len(path)):
        if leaves_at(graph, path, position):
            turn = turns.get(position + 1)
            found.append((path[position], path[position + 1], turn is not None and turn.right))
    return found


def _unasked(result: Result) -> set[str]:
    """First nodes of replies that are not what was prescribed."""
    return {turn.label.nodes[0] for turn in result.replay.turns if turn.label is not None and not turn.right and turn.label.nodes}
