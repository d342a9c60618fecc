"""What a conversation on a path can be about. Pure."""

from itertools import pairwise

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Path
from subterra_core.procedure.template import variables_of
from subterra_core.procedure.tools import call_variables


def mentioned_on_path(spec: ProcedureSpec, path: Path) -> frozenset[str]:
    """Variables that nodes and edges of the path mention, or that decide there."""
    nodes, hops = {node.id: node for node in spec.nodes}, set(pairwise(path))
    visited = [nodes[name] for name in dict.fromkeys(path)]
    texts = [text for node in visited for text in (node.prompt, *node.examples)]
    taken = [edge for node in visited for edge in node.next if (node.id, edge.to) in hops]
    texts += [text for edge in taken for text in (edge.when or "", *edge.examples)]
    left = [each for each in spec.anywhere if any(each.to == target and nodes[source].role == "user" for source, target in hops)]
    texts += [text for each in left for text in (each.when, *each.examples)]
    called = frozenset(name for node in visited for name in call_variables(spec, node))
    return frozenset(name for text in texts for name in variables_of(text)) | {node.fact for node in visited if node.fact} | called
