"""An agent that ignores what a customer may say at any turn is caught, and so is one that acts on it unasked."""

import random
from collections.abc import Sequence

import pytest

from subterra_api.digest import procedure_digest
from subterra_api.job_contract.defaults import resolve
from subterra_api.job_contract.messages import Evaluation
from subterra_api.v1alpha1.compilerun import CompileInputs, Provider
from subterra_core.procedure.graph import Graph, Path
from subterra_core.procedure.template import render
from subterra_jobs.dialogue.anywhere_paths import anywhere_hops, leave, leaves_at, leaving_points
from subterra_jobs.dialogue.similarity.closest_examples import CandidateLabel
from subterra_jobs.evaluate.analysis.anywhere_rows import anywhere_rows
from subterra_jobs.evaluate.analysis.summary import summarise
from subterra_jobs.evaluate.judge.alignment import LabelledTurn, align
from subterra_jobs.evaluate.judge.conformance import Replay, replay
from subterra_jobs.evaluate.judge.judges import examine_by_rules
from subterra_jobs.evaluate.judge.results import Result
from subterra_jobs.evaluate.judge.rule_labeller import RuleLabeller
from subterra_jobs.evaluate.report.html import render_html
from subterra_jobs.evaluate.report.report import Evaluated, build_report
from subterra_jobs.evaluate.scenarios.build import LEAVES, build_scenarios, customer_goals
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.conversation import Conversation
from subterra_jobs.evaluate.simulate.orchestrator_agent import NO_OTHER, possible_edges, routing_request
from subterra_jobs.evaluate.simulate.vllm_client import Reply
from subterra_testkit.runs.generation_inputs import TRAVEL_1, example

GRAPH = Graph(example("delivery"))
LABELLER = RuleLabeller(GRAPH)
WHOLE: Path = ("greet", "order", "ask_change", "change", "ask_day", "day", "confirm_day", "day_right", "done")
VALUES = {"order": "20001", "day": "Monday", "place": "porch"}


def asked(at: str, target: str = "handover") -> Path:
    """A path on which the customer leaves at node ``at``."""
    points = [point for point in leaving_points(GRAPH, WHOLE, VALUES) if WHOLE[point.position] == at and point.edge.to == target]
    path = leave(GRAPH, WHOLE, points[0], lambda _, edges: edges[0])
    assert path is not None
    return path


def heard(*turns: tuple[str, str | None]) -> list[LabelledTurn]:
    """Each turn's node, and where the customer's words lead, as a labeller without fault hears them."""
    return [LabelledTurn(GRAPH.nodes[node].role, (CandidateLabel((node,), to),)) for node, to in turns]


def judged(turns: Sequence[LabelledTurn]) -> Replay:
    found = align(GRAPH, VALUES, turns)
    return replay(GRAPH, found.path, VALUES, found.labels)


def walked(path: Path) -> list[tuple[str, str | None]]:
    return [*zip(path, [*path[1:], None], strict=True)]


@pytest.mark.parametrize("at", ["order", "change", "day", "day_right"])
def test_leaving_is_right_at_every_turn_where_the_edge_is_open(at: str) -> None:
    for target in ("handover", "ask_cancel"):
        path = asked(at, target)
        found = align(GRAPH, VALUES, heard(*walked(path)))
        assert found.path == path
        assert replay(GRAPH, found.path, VALUES, found.labels).conformant


@pytest.mark.parametrize("at", ["order", "change", "day", "day_right"])
def test_an_agent_that_goes_on_with_its_step_is_caught(at: str) -> None:
    before = WHOLE[: WHOLE.index(at)]
    onward = WHOLE[WHOLE.index(at) + 1]
    seen = judged(heard(*walked(before), (at, "handover"), (onward, None)))
    assert not seen.conformant
    assert seen.violation is not None
    assert (seen.violation.expected, seen.violation.got) == (("handover",), (onward,))


@pytest.mark.parametrize("words", [(CandidateLabel(("order",), "ask_change"),), (CandidateLabel(("order",)),), ()])
def test_an_agent_that_hands_over_unasked_is_caught_however_the_customer_was_understood(words: tuple[CandidateLabel, ...]) -> None:
    turns = [*heard(("greet", None)), LabelledTurn("user", words), *heard(("handover", None))]
    seen = judged(turns)
    assert not seen.conformant
    assert seen.violation is not None
    assert seen.violation.expected == ("ask_change",)


def test_an_agent_that_leaves_at_an_exception_is_caught() -> None:
    path = asked("order", "ask_cancel")[:3]
    turns = heard(*walked(path), ("cancel_answer", "ask_cancel"), ("ask_cancel", None))
    seen = judged(turns)
    assert not seen.conformant
    assert judged(heard(*walked(path), ("cancel_answer", "handover"), ("handover", None))).conformant


def played(scenario: Scenario, replies: Sequence[str]) -> Result:
    chat = tuple({"role": "assistant", "content": text} for text in replies)
    said = tuple(Reply(text, 0.0, 1, 1, "stop") for text in replies)
    return examine_by_rules(GRAPH, LABELLER, scenario, Conversation(chat, said))


def words_along(path: Path) -> list[str]:
    rng = random.Random(1)
    return [render(rng.choice(GRAPH.nodes[node].examples), VALUES) for node in path if GRAPH.nodes[node].role == "agent"]


def scenario(path: Path) -> Scenario:
    return Scenario("s", False, path, VALUES, None, (), True)


def test_the_report_says_how_often_each_edge_is_honoured_and_how_often_it_is_taken_unasked() -> None:
    good, bad = scenario(asked("day")), scenario(asked("change"))
    ignored = words_along(WHOLE)[: len(words_along(bad.path))]
    unasked = [*words_along(WHOLE)[:2], *words_along(("handover",))]
    results = [played(good, words_along(good.path)), played(bad, ignored), played(scenario(WHOLE), unasked)]
    assert [result.conformant for result in results] == [True, False, False]
    person, cancel = anywhere_rows(GRAPH, results)
    assert (person["honoured"], person["of"], person["unasked"]) == (1, 2, 1)
    assert person["share"]["low"] < 0.5 < person["share"]["high"]
    assert {row["node"]: (row["honoured"], row["of"]) for row in person["nodes"] if row["of"]} == {"day": (1, 1), "change": (0, 1)}
    assert (cancel["of"], cancel["share"]) == (0, None)


def settings(scenarios: int, simulator: Provider | None = None) -> Evaluation:
    return Evaluation(simulator=simulator or Provider(), judge=Provider(), scenarios=scenarios, seed=7)


def test_customers_of_an_evaluation_take_each_edge_at_many_turns() -> None:
    cast = build_scenarios(GRAPH, settings(120))
    hops = [hop for each in cast for hop in anywhere_hops(GRAPH, each.path)]
    assert len({hop for hop in hops if hop[1] == "handover"}) >= 5
    assert {target for _, target in hops} == {"handover", "ask_cancel"}
    assert 0.08 * len(cast) <= len(hops) <= 0.16 * len(cast)
    asks = {text for edge in GRAPH.spec.anywhere for text in edge.examples}
    assert all(any(text in line for line in each.lines for text in asks) for each in cast if anywhere_hops(GRAPH, each.path))


def test_a_customer_played_by_a_model_wishes_to_leave_instead_of_answering() -> None:
    goals = customer_goals(GRAPH, asked("day"))
    assert goals[-1] == f"{LEAVES} The customer asks for a person."
    assert goals[0] == GRAPH.nodes["order"].prompt


def test_an_orchestrator_is_asked_whether_the_customer_leaves_at_every_turn_where_that_is_possible() -> None:
    step = GRAPH.take(GRAPH.begin(), GRAPH.open_edges(GRAPH.begin())[0])
    edges = possible_edges(GRAPH, step)
    assert [edge.to for edge in edges] == ["ask_change", "handover", "ask_cancel"]
    request = routing_request(GRAPH.nodes["order"], edges, {}, [{"role": "user", "content": "A person!"}])
    assert f"1. {NO_OTHER}\n2. The customer asks for a person." in request.messages[0]["content"]


def ignoring(path: Path) -> list[str]:
    """Replies of an agent that never leaves its flowchart: after a request it does the node's own next step."""
    replies: list[str] = []
    for position, node in enumerate(path):
        if leaves_at(GRAPH, path, position):
            return [*replies, *words_along((GRAPH.nodes[node].next[0].to,))]
        replies += words_along((node,))
    return replies


def test_an_agent_that_ignores_every_request_is_conformant_elsewhere_and_its_report_says_where_it_fails() -> None:
    inputs = CompileInputs.model_validate({"procedureRef": {"name": "delivery"}, "evaluation": {"scenarios": 60, "seed": 7}})
    run = resolve(inputs, GRAPH.spec, procedure_digest(GRAPH.spec), TRAVEL_1, store="file:///nowhere")
    cast = build_scenarios(GRAPH, settings(60))
    arms = {"candidate": [played(each, ignoring(each.path)) for each in cast]}
    leaving = [bool(anywhere_hops(GRAPH, each.path)) for each in cast]
    assert [not result.conformant for result in arms["candidate"]] == leaving
    report = build_report(Evaluated(run, GRAPH, arms, summarise(arms, 7), {"run": "r"}))
    rows = {row["to"]: row for row in report["anywhere"]}
    assert [(row["honoured"], row["unasked"]) for row in rows.values()] == [(0, 0), (0, 0)]
    assert sum(row["of"] for row in rows.values()) == sum(leaving)
    page = render_html(report, GRAPH, arms)
    assert "<h3>Anywhere edges</h3>" in page
    assert f"0 of {rows['handover']['of']}" in page
    assert "(anywhere) → handover" in page
