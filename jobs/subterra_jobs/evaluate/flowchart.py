"""A whole procedure as text, for a model that must know it: the same bytes for every conversation, so that they can be cached."""

from collections.abc import Iterator

from subterra_api.drawing.flow import condition
from subterra_api.graph import Graph
from subterra_api.v1alpha1.procedure import Node

_SPEAKER = {"agent": "agent", "user": "customer"}


def flowchart(graph: Graph) -> str:
    """Every step with who speaks, what is said, and where it goes on; then the facts that the agent may use."""
    steps = [line for node in graph.spec.nodes for line in _step(node)]
    facts = [f"- {fact.text}" for fact in graph.spec.knowledge]
    head = f"The conversation starts at {graph.spec.start}. {{{{name}}}} stands for a value of the customer's situation."
    return "\n".join([head, "", *steps, "", "Facts that the agent may use:", *(facts or ["- none"])])


def _step(node: Node) -> Iterator[str]:
    bound = f", at most {node.max_visits} times" if node.max_visits != 2 else ""  # 2 is what every other node has
    yield f"[{node.id}] {_SPEAKER[node.role]}{bound}: {node.prompt or 'answers'}"
    if node.outcome:
        yield f"  the conversation ends here: {node.outcome}"
    for edge in node.next:
        when = condition(node, edge)
        yield f"  -> {edge.to}" + (f" when: {when}" if when else "")
