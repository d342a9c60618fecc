"""The travel example and the demo's customers hold what the demo says about them."""

import random

import pytest

from subterra_cli.files.lint_report import load_spec
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.lint.analyse import analyse
from subterra_demo.customers import DemoCustomer, load_customers
from subterra_jobs.dialogue.sampling import held_out, sample_values
from subterra_testkit.repository import ROOT

PROCEDURE = load_spec(ROOT / "examples/travel/procedure.yaml")
GRAPH = Graph(PROCEDURE)
CUSTOMERS = load_customers()


def test_travel_has_fourteen_nodes_three_hubs_and_three_kinds_of_ending() -> None:
    found = analyse(PROCEDURE)
    assert (found.findings, found.nodes, found.hubs, found.terminals) == ((), 14, 3, 3)
    assert {node.outcome for node in PROCEDURE.nodes if node.outcome} == {"success", "abandonment", "escalation"}


@pytest.mark.parametrize("customer", CUSTOMERS, ids=lambda customer: customer.name)
def test_a_customers_path_is_one_of_the_procedure(customer: DemoCustomer) -> None:
    assert customer.path in set(GRAPH.paths())
    assert len(customer.says) == sum(GRAPH.nodes[node].role == "user" for node in customer.path)


@pytest.mark.parametrize("customer", CUSTOMERS, ids=lambda customer: customer.name)
def test_a_customers_facts_are_in_what_they_say(customer: DemoCustomer) -> None:
    said = " ".join(customer.says)
    assert all(value in said for value in customer.values.values())


@pytest.mark.parametrize("customer", CUSTOMERS, ids=lambda customer: customer.name)
def test_a_customers_city_dates_and_budget_never_occur_in_training(customer: DemoCustomer) -> None:
    """Values of training are never held out, so a value that only held-out draws can give is in no training data."""
    assert held_out("destination", customer.values["destination"])
    drawn = [sample_values(PROCEDURE.variables, random.Random(seed), unseen=False) for seed in range(3000)]
    for name in ("destination", "dates", "budget"):
        assert customer.values[name] not in {values[name] for values in drawn}
