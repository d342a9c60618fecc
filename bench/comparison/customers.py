"""The customers that every arm talks to: in the author's phrasings, and in phrasings that no training has."""

from collections.abc import Mapping
from pathlib import Path

from subterra_api.job_contract.messages import Evaluation
from subterra_api.v1alpha1.compilerun import Provider
from subterra_core.procedure.graph import Graph
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.evaluate.robustness_run import customer_sources
from subterra_jobs.evaluate.scenarios.build import build_scenarios
from subterra_jobs.evaluate.scenarios.robustness import CUSTOMERS, build_robustness
from subterra_jobs.evaluate.scenarios.scenario import CustomerSignature, Scenario
from subterra_jobs.evaluate.scenarios.training_overlap import training_signatures

AUTHOR, HELD_OUT = "the author's phrasings", "held-out phrasings"
MOST_PHRASINGS = CUSTOMERS["phrasings"]
Blocks = Mapping[str, list[Scenario]]
"""Scenarios by block."""


def draw_customers(graph: Graph, datasets: list[Path], seed: int, conforming: int, phrasings: int) -> Blocks:
    """Scripted customers of both blocks. Those of the first are not in ``datasets`` unless the procedure leaves no choice.

    Raises InvalidInputError.
    """
    training = frozenset[CustomerSignature]().union(*map(training_signatures, datasets))
    return {AUTHOR: build_scenarios(graph, _settings(seed, conforming), training), HELD_OUT: _held_out(graph, seed, phrasings)}


def _held_out(graph: Graph, seed: int, count: int) -> list[Scenario]:
    """The evaluation's robustness customers of this kind, of an evaluation that is large enough to have all of them."""
    block = build_robustness(graph, _settings(seed, 2 * sum(CUSTOMERS.values())), customer_sources(graph))
    if "phrasings" in block.untested:
        raise InvalidInputError(f"no customers with held-out phrasings: {block.untested['phrasings']}")
    return [scenario for scenario in block.scenarios if scenario.kind == "phrasings"][:count]


def _settings(seed: int, scenarios: int) -> Evaluation:
    return Evaluation(simulator=Provider(), judge=Provider(), scenarios=scenarios, seed=seed)
