"""Anywhere edges of a called procedure, next to those of the one that calls it. Pure.

A customer who asks for a person goes where the caller's edge leads, also within the called procedure.
"""

from collections.abc import Sequence

from subterra_api.v1alpha1.procedure import AnywhereEdge, ProcedureSpec
from subterra_core.procedure.anywhere import condition_words, example_words


def remaining_anywhere(callee: ProcedureSpec, callers: Sequence[AnywhereEdge], call: str) -> list[tuple[int, AnywhereEdge]]:
    """The anywhere edges of `callee` with their index, without those that are open nowhere.

    An edge of the caller with the same condition or a common example takes their place, unless it excepts the node `call`.
    """
    customers = [node.id for node in callee.nodes if node.role == "user"]
    found = []
    for index, edge in enumerate(callee.anywhere):
        preceded = any(_alike(other, edge) and call not in other.except_ for other in callers)
        if not preceded and not set(customers) <= set(edge.except_):
            found.append((index, edge))
    return found


def unreached(callee: ProcedureSpec, anywhere: Sequence[AnywhereEdge]) -> frozenset[str]:
    """Nodes of `callee` to which only anywhere edges lead that are not among `anywhere`."""
    if len(anywhere) == len(callee.anywhere):
        return frozenset()
    return _reached(callee, callee.anywhere) - _reached(callee, anywhere)


def _reached(callee: ProcedureSpec, anywhere: Sequence[AnywhereEdge]) -> frozenset[str]:
    nodes = {node.id: node for node in callee.nodes}
    seen = dict.fromkeys([callee.start, *(edge.to for edge in anywhere)])
    waiting = [*seen]
    for name in waiting:
        new = [edge.to for edge in nodes[name].next if edge.to not in seen] if name in nodes else []
        seen.update(dict.fromkeys(new))
        waiting += dict.fromkeys(new)
    return frozenset(seen)


def _alike(one: AnywhereEdge, other: AnywhereEdge) -> bool:
    common = set(map(example_words, one.examples)) & set(map(example_words, other.examples))
    return condition_words(one.when) == condition_words(other.when) or bool(common)
