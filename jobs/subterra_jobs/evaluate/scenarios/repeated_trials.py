"""Builds further conversations with some of the customers: the same wishes and values, in other words each time (pass^k).

The agent is asked as it is served, which is without randomness. What differs between trials is what the customer says: a scripted
one draws its lines again, one played by a model is asked again.
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from subterra_api.job_contract.messages import Evaluation
from subterra_core.procedure.graph import Graph
from subterra_jobs.evaluate.scenarios.build import with_scripted_lines
from subterra_jobs.evaluate.scenarios.scenario import CustomerSignature, Scenario

TRIED = 100
"""Customers with several trials, if there are as many scenarios."""
ONE_WORDING = "the examples leave too few different words for another conversation with any customer; add examples"
_TRIES = 50
"""Draws of lines before a customer counts as one who has no other words."""


@dataclass(frozen=True)
class TriedCustomer:
    """A customer by the index of the scenario that is the first trial, with the scenarios of the further ones."""

    first: int
    further: tuple[Scenario, ...]


@dataclass(frozen=True)
class TrialPlan:
    """Customers with `trials` conversations each, and why there are none where they were asked for."""

    trials: int = 1
    customers: tuple[TriedCustomer, ...] = ()
    untested: str | None = None

    @property
    def scenarios(self) -> list[Scenario]:
        """Further trials of all customers, in order."""
        return [scenario for customer in self.customers for scenario in customer.further]


def plan_trials(
    graph: Graph, settings: Evaluation, scenarios: Sequence[Scenario], training: frozenset[CustomerSignature] = frozenset()
) -> TrialPlan:
    """Trials of these settings, the same whenever they are planned; which customers are tried is drawn from the seed."""
    if settings.trials == 1:
        return TrialPlan()
    known, customers = {scenario.id for scenario in scenarios}, list[TriedCustomer]()
    order = random.Random(f"evaluate/{settings.seed}/trials").sample(range(len(scenarios)), len(scenarios))
    for index in order:
        if len(customers) == TRIED:
            break
        further = _further_trials(graph, settings, scenarios[index], training, known)
        if further is not None:
            customers.append(TriedCustomer(index, further))
            known.update(scenario.id for scenario in further)
    return TrialPlan(settings.trials, tuple(customers), None if customers else ONE_WORDING)


def _further_trials(
    graph: Graph, settings: Evaluation, scenario: Scenario, training: frozenset[CustomerSignature], known: Collection[str]
) -> tuple[Scenario, ...] | None:
    """The second and later trials of a customer; `None` if there are not enough different words."""
    if settings.simulator.name != "scripted":
        return tuple(replace(scenario, id=f"{scenario.id}-trial-{trial}") for trial in range(2, settings.trials + 1))
    found: dict[str, Scenario] = {}
    for trial in range(2, settings.trials + 1):
        seed = f"evaluate/{settings.seed}/trials/{scenario.id}/{trial}"
        drawn = [with_scripted_lines(graph, scenario, random.Random(f"{seed}/{attempt}")) for attempt in range(_TRIES)]
        others = [each for each in drawn if each.id not in known and each.id not in found]
        if not others:
            return None
        # As for all scenarios, words that are not in the dataset go first.
        other = next((each for each in others if each.signature not in training), others[0])
        found[other.id] = other
    return tuple(found.values())
