"""Which speech act an edge is: recognized by cues, and by none at all where it could be mistaken for a sibling."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from subterra_api.v1alpha1.procedure import Edge, Node
from subterra_core.procedure.graph import Graph, Hop
from subterra_jobs.dialogue.phrasing.phrasebook import Phrasebook, SpeechAct, holds_any

_NEEDED_SHARE = 1 / 3
"""Share of an edge's examples that must hold a word of the act."""
_SECOND_VERB = re.compile(r",? and (?=(?:then |also )?(?:does|\w{2,}s)\b)")
"""Before what the customer does besides."""


def edge_acts(graph: Graph, book: Phrasebook) -> dict[Hop, SpeechAct]:
    """The acts of the customer's edges, by the ids of their nodes; edges without a clear act are left out.

    A customer's node without edges is an edge to the empty id. Sibling edges that have one `when` and the same examples are one
    branch: the author lets the customer say the same on both.
    """
    found: dict[Hop, SpeechAct] = {}
    for node in graph.spec.nodes:
        if node.role == "user" and node.decided_by == "customer":
            found |= {(node.id, to): act for to, act in _acts_at(node, book)}
    return found | _acts_anywhere(graph, book, found)


def _acts_anywhere(graph: Graph, book: Phrasebook, ordinary: Mapping[Hop, SpeechAct]) -> dict[Hop, SpeechAct]:
    """The acts of anywhere edges, by node, where no other edge that is open there could be meant by such words."""
    found: dict[Hop, SpeechAct] = {}
    for node, edges in graph.anywhere.items():
        acts = {edge.to: _recognized(edge.when or "", edge.examples, book) for edge in edges}
        own = [ordinary[node, edge.to] for edge in graph.nodes[node].next if (node, edge.to) in ordinary]
        families = Counter(act.family for act in (*acts.values(), *own) if act is not None)
        alone = {to: act for to, act in acts.items() if act is not None and families[act.family] == 1}
        whens = {edge.to: edge.when or "" for edge in edges}
        found |= {(node, to): act for to, act in alone.items() if _says_it_all(whens[to], act, book)}
    return found


def branch_of(edge: Edge) -> tuple[str | None, tuple[str, ...]]:
    """What a listener can know an edge by: equal for edges on which the customer says the same."""
    return edge.when, edge.examples


def _acts_at(node: Node, book: Phrasebook) -> Iterable[tuple[str, SpeechAct]]:
    if len(node.next) < 2:
        edge = node.next[0] if node.next else None
        about = (edge.when if edge else None) or node.prompt
        act = _recognized(about, (edge.examples if edge else ()) or node.examples, book)
        return [(edge.to if edge else "", act)] if act and _says_it_all(about, act, book) else []
    acts = [(edge, _recognized(edge.when or "", edge.examples, book)) for edge in node.next]
    branches = defaultdict[str, set[tuple[str | None, tuple[str, ...]]]](set)
    for edge, act in acts:
        if act is not None:
            branches[act.family].add(branch_of(edge))
    return [
        (edge.to, act)
        for edge, act in acts
        if act is not None
        and len(branches[act.family]) == 1
        and _says_it_all(edge.when or "", act, book)
        and not any(holds_any(other.when or "", act.like) for other in node.next if branch_of(other) != branch_of(edge))
    ]


def _says_it_all(about: str, act: SpeechAct, book: Phrasebook) -> bool:
    """Whether the act is all that `about` says: "gives up and asks for the money back" is more than giving up."""
    cues = [cue for each in book.acts.values() if each.family == act.family for cue in each.cues]
    return all(holds_any(clause, cues) for clause in _SECOND_VERB.split(about))


def _recognized(about: str, examples: tuple[str, ...], book: Phrasebook) -> SpeechAct | None:
    """The only act whose cues stand in `about` and whose words in enough of `examples`."""
    fitting = {name: act for name, act in book.acts.items() if _fits(act, about, examples)}
    overridden = {act.overrides for act in fitting.values()}
    left = [act for name, act in fitting.items() if name not in overridden]
    return left[0] if len(left) == 1 else None


def _fits(act: SpeechAct, about: str, examples: tuple[str, ...]) -> bool:
    if not holds_any(about, act.cues) or holds_any(about, act.avoid):
        return False
    return sum(holds_any(example, act.said) for example in examples) >= _NEEDED_SHARE * max(1, len(examples))
