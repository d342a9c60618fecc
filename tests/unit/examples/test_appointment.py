"""examples/appointment calls one tool from two nodes: only the arguments tell which of the two times was booked."""

import asyncio
import json
from typing import Any

import pytest

from subterra_api.job_contract.messages import Evaluation
from subterra_api.v1alpha1.compilerun import Provider
from subterra_cli.files.lint_report import load_spec
from subterra_core.procedure.graph import Graph
from subterra_jobs.evaluate.judge.judges import examine_by_rules
from subterra_jobs.evaluate.judge.results import Result
from subterra_jobs.evaluate.judge.rule_labeller import RuleLabeller
from subterra_jobs.evaluate.scenarios.build import build_scenarios
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.simulation import simulate
from subterra_jobs.evaluate.simulate.user_simulator import ScriptedUser
from subterra_jobs.stage.cancellation import Cancellation
from subterra_testkit.repository import ROOT
from subterra_testkit.runs.tool_agent import Damage, tool_agent

GRAPH = Graph(load_spec(ROOT / "examples/appointment/procedure.yaml"))
SCENARIOS = build_scenarios(GRAPH, Evaluation(simulator=Provider(), judge=Provider(), scenarios=40, seed=8))
BOOKED = [each for each in SCENARIOS if each.path[-1] == "booked"]
Messages = list[dict[str, Any]]


def examined(scenario: Scenario, damage: Damage = lambda messages: messages) -> Result:
    agent = tool_agent(GRAPH, scenario, damage)
    conversation = asyncio.run(simulate(agent, ScriptedUser(scenario.lines), scenario, 9, Cancellation()))
    return examine_by_rules(GRAPH, RuleLabeller(GRAPH), scenario, conversation)


@pytest.mark.parametrize("node", ["book_early", "book_late"])
def test_an_agent_that_books_the_time_that_was_taken_is_conformant_and_one_that_books_the_other_is_not(node: str) -> None:
    scenario = next(each for each in BOOKED if node in each.path)
    other = scenario.values["late" if node == "book_early" else "early"]

    def booking_the_other(messages: Messages) -> Messages:
        for message in messages:
            for call in message.get("tool_calls") or ():
                if call["function"]["name"] == "book_slot":
                    call["function"]["arguments"] = json.dumps(json.loads(call["function"]["arguments"]) | {"time": other})
        return messages

    right, wrong = examined(scenario), examined(scenario, booking_the_other)
    assert (right.conformant, right.replay.calls.right) == (True, 2)
    assert (wrong.conformant, wrong.replay.calls.right) == (False, 1)


def test_every_ending_is_played() -> None:
    assert {each.path[-1] for each in SCENARIOS} == {"booked", "callback", "goodbye", "unconfirmed"}
