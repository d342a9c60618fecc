"""What robustness customers mean, in the author's words: for a fake agent that understands everything."""

from collections import defaultdict
from collections.abc import Iterator

from subterra_api.job_contract.messages import Evaluation
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.template import render, variables_of
from subterra_jobs.dialogue.scripted import example_templates
from subterra_jobs.evaluate.robustness_run import customer_sources
from subterra_jobs.evaluate.scenarios.robustness import build_robustness
from subterra_jobs.evaluate.scenarios.scenario import Scenario

_IN_OTHER_WORDS = ("phrasings", "corrections")


def customer_meanings(spec: ProcedureSpec, settings: Evaluation) -> dict[str, str]:
    """An example of the author for each line in other words, one that fits wherever customers say the line."""
    graph = Graph(spec)
    customers = build_robustness(graph, settings, customer_sources(graph)).scenarios
    meant = defaultdict[str, list[list[str]]](list)
    for customer in customers:
        if customer.kind in _IN_OTHER_WORDS:
            for line, examples in _turns(graph, customer):
                meant[line].append(examples)
    return {line: _common(examples) for line, examples in meant.items() if line not in examples[0]}


def _turns(graph: Graph, customer: Scenario) -> Iterator[tuple[str, list[str]]]:
    """The customer's lines on the path, each with the examples of its edge, those that say the most values first."""
    following = [*customer.path[1:], None]
    turns = [pair for pair in zip(customer.path, following, strict=True) if graph.nodes[pair[0]].role == "user"]
    for line, (node, taken) in zip(customer.lines[-len(turns) :], turns, strict=True):
        templates = sorted(example_templates(graph, node, taken), key=lambda text: -len(variables_of(text)))
        yield line, [render(text, customer.values) for text in templates]


def _common(examples: list[list[str]]) -> str:
    return next((text for text in examples[0] if all(text in others for others in examples)), examples[0][0])
