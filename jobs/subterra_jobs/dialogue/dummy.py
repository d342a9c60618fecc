"""Dummy conversations of assumed length, for cost estimates."""

from collections.abc import Mapping

from subterra_core.procedure.graph import Graph, Path
from subterra_core.procedure.template import render
from subterra_jobs.dialogue.scripted import Utterance, tool_utterance


def padded(text: str, length: int) -> str:
    """A dummy of a model's turn: `text`, padded to `length` characters."""
    return text.ljust(length, "x")


def dummy_utterances(graph: Graph, path: Path, values: Mapping[str, str], length: int) -> list[Utterance]:
    """A dummy conversation on `path`: the procedure's own examples, each padded to `length` characters."""
    following = [*path[1:], None]
    return [
        tool_utterance(graph, node, values, taken)
        if graph.nodes[node].role == "tool"
        else Utterance(node, graph.nodes[node].speaker, padded(render(_example(graph, node, taken), values), length), taken)
        for node, taken in zip(path, following, strict=True)
    ]


def _example(graph: Graph, node: str, taken: str | None) -> str:
    edge = graph.edge(node, taken)
    others = () if graph.leaves(node, taken) else graph.nodes[node].examples
    return next(iter((edge.examples if edge else ()) or others), "")
