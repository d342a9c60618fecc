"""The procedure as text, for models that must know it: the in-context baseline, and judges. Pure."""

from collections.abc import Iterator

from subterra_api.v1alpha1.procedure import Edge, Node, ProcedureSpec

_SPEAKER = {"agent": "agent", "user": "customer"}


def flowchart(spec: ProcedureSpec) -> str:
    """All nodes with what is said there, and the ways between them. ``{{name}}`` stands for the value of a variable."""
    return "\n".join([f"The conversation begins at {spec.start}.", *(line for node in spec.nodes for line in _node(node))])


def knowledge(spec: ProcedureSpec) -> str:
    """The facts that the agent may use, a line each."""
    return "\n".join(f"- {fact.text}" for fact in spec.knowledge) or "- none"


def variables(spec: ProcedureSpec) -> str:
    """What ``{{name}}`` stands for, a line each."""
    return "\n".join(f"- {variable.name}: {variable.description or variable.type}" for variable in spec.variables) or "- none"


def _node(node: Node) -> Iterator[str]:
    told = [_SPEAKER[node.role]]
    if node.outcome:
        told.append(f"the end: {node.outcome}")
    if node.max_visits != 2:
        told.append(f"at most {node.max_visits} times")
    yield f"{node.id} ({', '.join(told)}): {node.prompt or 'Answers.'}"
    for edge in node.next:
        wanted = condition(node, edge)
        yield f"  -> {edge.to}" + (f" when: {wanted}" if wanted else "")


def condition(node: Node, edge: Edge) -> str:
    """What makes a conversation go this way; empty when nothing decides."""
    parts = [edge.when] if edge.when else []
    if node.fact is not None:
        parts.append(f"{node.fact} is {' or '.join(edge.values)}" if edge.values else f"{node.fact} is anything else")
    parts += [f"{guard.hub} went to {' or '.join(guard.took)} last" for guard in edge.guards]
    return "; ".join(parts)
