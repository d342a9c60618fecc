"""Checks a conversation against the procedure, with a one-line result."""

from dataclasses import dataclass

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_demo.customers import DemoCustomer
from subterra_jobs.evaluate.judge import conformance
from subterra_jobs.evaluate.judge.rule_labeller import RuleLabeller


@dataclass(frozen=True)
class ReplayVerdict:
    """Whether the conversation reached the right terminal by the right turns, with a summary line."""

    conformant: bool
    summary: str


def replay(procedure: ProcedureSpec, customer: DemoCustomer, replies: list[str]) -> ReplayVerdict:
    """Compares the agent's turns with the path that the procedure prescribes for this customer."""
    graph = Graph(procedure)
    labeller = RuleLabeller(graph)
    result = conformance.replay(graph, customer.path, customer.values, [labeller.label(reply) for reply in replies])
    exact = sum(mention.exact for mention in result.mentions)
    facts = f"{exact} of {len(result.mentions)} facts repeated exactly"
    if result.conformant:
        outcome = graph.nodes[customer.path[-1]].outcome
        return ReplayVerdict(True, f"follows the procedure to {result.reached} ({outcome}), {facts}")
    if result.violation is None:
        return ReplayVerdict(False, f"ends in {result.reached or 'no terminal'} instead of {customer.path[-1]}, {facts}")
    got = " ".join(result.violation.got) or "something unrecognizable"
    expected = " ".join(result.violation.expected)
    return ReplayVerdict(False, f"after {result.violation.hub} the agent should have said {expected}, but said {got}; {facts}")
