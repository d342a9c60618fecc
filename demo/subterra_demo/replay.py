"""Was a conversation what the procedure prescribes? Told in one line."""

from dataclasses import dataclass

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_demo.travellers import Traveller
from subterra_jobs.evaluate.judge import conformance
from subterra_jobs.evaluate.judge.rule_labeller import Labeller


@dataclass(frozen=True)
class Judged:
    """Whether the conversation reached the right terminal by the right turns, and a line for people."""

    conformant: bool
    summary: str


def replay(procedure: ProcedureSpec, traveller: Traveller, replies: list[str]) -> Judged:
    """The agent's turns against the path that the procedure prescribes for this traveller."""
    graph = Graph(procedure)
    labeller = Labeller(graph)
    found = conformance.replay(graph, traveller.path, traveller.values, [labeller.label(reply) for reply in replies])
    exact = sum(mention.exact for mention in found.mentions)
    facts = f"{exact} of {len(found.mentions)} facts repeated exactly"
    if found.conformant:
        return Judged(True, f"follows the procedure to {found.reached} ({graph.nodes[traveller.path[-1]].outcome}), {facts}")
    if found.violation is None:
        return Judged(False, f"ends in {found.reached or 'no terminal'} instead of {traveller.path[-1]}, {facts}")
    got = " ".join(found.violation.got) or "something unrecognisable"
    expected = " ".join(found.violation.expected)
    return Judged(False, f"after {found.violation.hub} the agent should say {expected}, but said {got}; {facts}")
