"""Every example is a procedure without a finding, has the counts that it says, and can be written, spoken and recognised."""

import random
import re

import pytest

from subterra_api.job_contract.messages import Evaluation, Generation
from subterra_api.v1alpha1.compilerun import Provider
from subterra_cli.files.lint_report import load_spec
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.lint.analyse import analyse
from subterra_core.procedure.template import split
from subterra_jobs.dialogue.scripted import scripted_utterances
from subterra_jobs.evaluate.judge.rule_labeller import RuleLabeller
from subterra_jobs.evaluate.scenarios.build import build_scenarios
from subterra_jobs.evaluate.scenarios.path_cover import uncovered_edges
from subterra_jobs.generate.plan.coverage import measure_coverage
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_testkit.repository import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*/procedure.yaml"))
PROCEDURES = {path.parent.name: load_spec(path) for path in EXAMPLES}
COUNTS = {"travel": (14, 3, 3, "86", 4, 17), "zoom": (14, 3, 3, "60", 4, 17), "insurance": (55, 6, 5, "2381", 9, 39)}
each = pytest.mark.parametrize("name", sorted(PROCEDURES))


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_the_counts_are_those_of_the_paper(name: str) -> None:
    found = analyse(PROCEDURES[name])
    assert (found.nodes, found.hubs, found.terminals, found.path_count, found.min_turns, found.max_turns) == COUNTS[name]


@each
def test_lint_finds_nothing(name: str) -> None:
    assert [str(finding) for finding in analyse(PROCEDURES[name]).findings] == []


@each
def test_every_edge_is_in_the_training_data_and_in_the_evaluation(name: str) -> None:
    spec = PROCEDURES[name]
    plan = plan_conversations(spec, Generation(teacher=Provider(), conversations=800, seeds=(42,), held_out_percent=10))
    assert min(measure_coverage(Graph(spec), plan).counts.values()) >= 3
    cast = build_scenarios(Graph(spec), Evaluation(simulator=Provider(), judge=Provider(), scenarios=200, seed=7))
    assert uncovered_edges(Graph(spec), cast) == []


@each
def test_the_values_lead_along_the_path_of_every_conversation(name: str) -> None:
    spec = PROCEDURES[name]
    graph = Graph(spec)
    for planned in plan_conversations(spec, Generation(teacher=Provider(), conversations=200, seeds=(42,), held_out_percent=10)):
        step = graph.begin(planned.values)
        for target in planned.path[1:]:
            edges = [*graph.open_edges(step), *graph.leaving_edges(step)]
            step = graph.take(step, next(edge for edge in edges if edge.to == target))


@each
def test_what_the_agent_says_is_recognised_with_its_values(name: str) -> None:
    spec, rng = PROCEDURES[name], random.Random(1)
    graph = Graph(spec)
    labeller = RuleLabeller(graph)
    for scenario in build_scenarios(graph, Evaluation(simulator=Provider(), judge=Provider(), scenarios=40, seed=7)):
        for said in scripted_utterances(graph, scenario.path, scenario.values, rng):
            if said.role == "agent":
                labels, node = labeller.label(said.text), graph.nodes[said.node]
                # Calls of one tool differ by their arguments, which are compared later.
                alike = [(each.id,) for each in spec.nodes if node.tool is not None and each.tool == node.tool]
                assert [label.nodes for label in labels] == (alike or [(said.node,)])
                assert all(scenario.values[variable] == value for variable, value in labels[0].slots)


@each
def test_no_two_agent_nodes_share_a_wording(name: str) -> None:
    """Else nobody could tell from a reply where the agent believes to be."""
    wordings = [tuple(split(text)[0::2]) for node in PROCEDURES[name].nodes if node.role == "agent" for text in node.examples]
    assert len(wordings) == len(set(wordings))


def test_zoom_knows_every_menu_that_its_agent_names_and_every_error_code_that_customers_report() -> None:
    spec = PROCEDURES["zoom"]
    known = " ".join(fact.text for fact in spec.knowledge)
    said = " ".join(text for node in spec.nodes for edge in node.next for text in edge.examples)
    told = " ".join(text for node in spec.nodes if node.role == "agent" for text in node.examples)
    codes, menus = set(re.findall(r"error (\d{4})", said)), set(re.findall(r"Settings > \w+ > \w+", told))
    assert (len(codes), len(menus)) == (4, 3)
    assert codes == set(re.findall(r"Error (\d{4})", known))
    assert all(menu in known for menu in menus)


@pytest.mark.parametrize("teacher", [Provider(), Provider(name="anthropic", model="m")], ids=["scripted", "a model"])
def test_no_insurer_offers_more_than_the_limit_and_no_limit_is_above_the_bill(teacher: Provider) -> None:
    settings = Generation(teacher=teacher, conversations=200, seeds=(42,), held_out_percent=10)
    for planned in plan_conversations(PROCEDURES["insurance"], settings):
        offer, limit, bill = (int(re.sub(r"\D", "", planned.values[name])) for name in ("offer", "limit", "bill"))
        assert offer <= limit <= bill
