"""The procedure as text, for prompts of models that must know it: baselines and judges. Pure.

These texts are part of cache keys and fingerprints: changing one invalidates paid responses.
"""

from collections.abc import Iterator

from subterra_api.v1alpha1.procedure import Edge, Node, NodeRole, ProcedureSpec
from subterra_core.procedure.otherwise import question_lines
from subterra_core.procedure.tools import label_text

SPEAKERS: dict[NodeRole, str] = {"agent": "agent", "user": "customer", "tool": "tool", "call": "call", "collect": "agent"}
"""Names of the speakers, and of calls, for people and models."""


def flowchart_text(spec: ProcedureSpec) -> str:
    """All nodes with their prompts and edges. `{{name}}` stands for the value of a variable."""
    lines = (line for node in spec.nodes for line in _node(node))
    return "\n".join([f"The conversation begins at {spec.start}.", *lines, *anywhere_lines(spec), *question_lines(spec)])


def anywhere_lines(spec: ProcedureSpec) -> Iterator[str]:
    """The anywhere edges, a line each below a heading; none for a procedure without any."""
    if spec.anywhere:
        yield "At every step of the customer, the customer may do one of these instead, and the conversation goes on there at once:"
    nodes = {node.id: node for node in spec.nodes}
    for each in spec.anywhere:
        closed = [node for node in each.except_ if node in nodes]
        yield f"  -> {each.to} when: {each.when}" + (f" (not at {', '.join(closed)})" if closed else "")


def knowledge_text(spec: ProcedureSpec) -> str:
    """The facts that the agent may use, one per line."""
    return "\n".join(f"- {fact.text}" for fact in spec.knowledge) or "- none"


def variables_text(spec: ProcedureSpec) -> str:
    """The meaning of each `{{name}}`, one per line."""
    return "\n".join(f"- {variable.name}: {variable.description or variable.type}" for variable in spec.variables) or "- none"


def _node(node: Node) -> Iterator[str]:
    properties = [SPEAKERS[node.role]]
    if node.outcome:
        properties.append(f"the end: {node.outcome}")
    if node.max_visits != 2:
        properties.append(f"at most {node.max_visits} times")
    yield f"{node.id} ({', '.join(properties)}): {label_text(node) or 'Answers.'}"
    for edge in node.next:
        condition = edge_condition(node, edge)
        yield f"  -> {edge.to}" + (f" when: {condition}" if condition else "")


def edge_condition(node: Node, edge: Edge) -> str:
    """Condition under which a conversation takes `edge`; empty if nothing decides."""
    return "; ".join([*(decision_texts(node, edge) or order_texts(node, edge)), *guard_texts(edge)])


def decision_texts(node: Node, edge: Edge) -> list[str]:
    """What decides for `edge` at `node`: the customer's words, a fact."""
    texts = [edge.when] if edge.when else []
    if node.fact is not None:
        texts.append(f"{node.fact} is {' or '.join(edge.values) if edge.values else 'anything else'}")
    return texts


def order_texts(node: Node, edge: Edge) -> list[str]:
    """Where the history decides: the place of `edge` in the order of the edges."""
    if len(node.next) < 2 or node.decided_by != "history":
        return []
    return ["first choice" if edge is node.next[0] else "if the edges above are used up or closed"]


def guard_texts(edge: Edge) -> list[str]:
    """Earlier decisions on which `edge` depends."""
    return [f"{guard.hub} went to {' or '.join(guard.took)} last" for guard in edge.guards]
