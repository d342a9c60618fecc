"""Scripted conversations from the procedure's own examples, or from lines composed of more. Deterministic, free, offline."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from subterra_api.v1alpha1.procedure import Node, Role
from subterra_core.procedure.graph import Graph, Path
from subterra_core.procedure.template import render
from subterra_core.procedure.tools import call_mark
from subterra_jobs.dialogue.tool_calls import call_in_words
from subterra_jobs.errors import InvalidInputError

CHAT_ROLE = {"agent": "assistant", "user": "user"}


@dataclass(frozen=True)
class Utterance:
    """Utterance of one node in one conversation; `taken` is the node that follows."""

    node: str
    role: Role
    text: str
    taken: str | None
    call: str = ""
    """Of a tool call: the call and its result in words, for teachers. The text is then only its mark."""


class CustomerLines(Protocol):
    """Says what customers say; see `phrasing.customer_phrasing.CustomerPhrasing`."""

    def line(self, node: str, taken: str | None, values: Mapping[str, str], rng: random.Random) -> str:
        """The customer's words at `node` when `taken` follows."""
        ...


def scripted_utterances(
    graph: Graph, path: Path, values: Mapping[str, str], rng: random.Random, phrasing: CustomerLines | None = None
) -> list[Utterance]:
    """One utterance per node of the path: an example of the edge that is taken, or for customers what `phrasing` makes of them."""
    following: list[str | None] = [*path[1:], None]

    def words(node: str, taken: str | None) -> str:
        if phrasing is not None and graph.nodes[node].role == "user":
            return phrasing.line(node, taken, values, rng)
        return render(rng.choice(example_templates(graph, node, taken)), values)

    return [
        tool_utterance(graph, node, values, taken)
        if graph.nodes[node].role == "tool"
        else Utterance(node, graph.nodes[node].speaker, words(node, taken), taken)
        for node, taken in zip(path, following, strict=True)
    ]


def tool_utterance(graph: Graph, node_id: str, values: Mapping[str, str], taken: str | None) -> Utterance:
    """The call of a tool node: no words, but a mark that stands among those of the agent."""
    node = graph.nodes[node_id]
    return Utterance(node_id, node.speaker, call_mark(node.tool or ""), taken, call_in_words(graph.spec, node, values))


def example_templates(graph: Graph, node_id: str, taken: str | None) -> tuple[str, ...]:
    """Example templates of a node, for the edge to `taken`. Raises InvalidInputError when there are none."""
    node = graph.nodes[node_id]
    if node.role == "tool":
        return agent_templates(node)
    edge = graph.edge(node_id, taken)
    leaves = graph.leaves(node_id, taken)
    templates = (edge.examples if edge else ()) or (() if leaves else node.examples)
    if not templates and leaves:
        raise InvalidInputError(
            f"the anywhere edge to {taken} has no examples, which the scripted teacher needs; add some, or use another teacher"
        )
    if not templates:
        branch = f" on the branch to {taken}" if edge is not None and len(node.next) > 1 else ""
        raise InvalidInputError(
            f"node {node_id} has no examples{branch}, which the scripted teacher needs; add some, or use another teacher"
        )
    return templates


def chat_messages(
    system_prompt: str, opener: str | None, utterances: list[Utterance], *, greeted: bool = False
) -> list[dict[str, str]]:
    """Chat messages: system prompt, the customer's opener if any, then turns; consecutive utterances of a speaker are joined.

    `greeted`: the agent spoke first and the customer's opener only returned the greeting, so the agent repeats its turn.
    """
    chat = [{"role": "system", "content": system_prompt}]
    if opener is not None:
        chat.append({"role": "user", "content": opener})
    for utterance in utterances:
        role = CHAT_ROLE[utterance.role]
        if chat[-1]["role"] == role:
            chat[-1] = {"role": role, "content": f"{chat[-1]['content']} {utterance.text}"}
        else:
            chat.append({"role": role, "content": utterance.text})
    if greeted and opener is not None:
        chat.insert(1, chat[2])
    return chat


def agent_templates(node: Node) -> tuple[str, ...]:
    """All example templates of an agent node, including those of its edges; the mark of a tool node."""
    if node.role == "tool":
        return (call_mark(node.tool or ""),)
    return tuple(dict.fromkeys([*node.examples, *(text for edge in node.next for text in edge.examples)]))
