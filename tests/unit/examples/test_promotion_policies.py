"""The examples' own policies promote a first model as good as those that were measured, and none that is clearly worse."""

import random
from functools import cache

import pytest
import yaml

from subterra_api.job_contract.messages import Evaluation
from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec
from subterra_api.v1alpha1.compilerun import GatePolicy, Provider
from subterra_api.v1alpha1.scores import Proportion, RobustnessScore, Scores, Verdict
from subterra_cli.files.lint_report import load_spec
from subterra_core.gate.verdict import judge
from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.scripted import chat_messages, scripted_utterances
from subterra_jobs.evaluate.analysis.summary import summarise
from subterra_jobs.evaluate.judge.conformance import replay
from subterra_jobs.evaluate.judge.results import Result
from subterra_jobs.evaluate.judge.rule_judge import judge_by_rules
from subterra_jobs.evaluate.judge.rule_labeller import RuleLabeller
from subterra_jobs.evaluate.scenarios.build import build_scenarios, rare_branch_scenarios
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.conversation import Conversation
from subterra_jobs.evaluate.simulate.vllm_client import Reply
from subterra_testkit.repository import ROOT

EXAMPLES = ("travel", "zoom", "insurance")
ASSERTED, FABRICATED = 2722, 16


@cache
def agent(name: str) -> CompiledAgentSpec:
    document = yaml.safe_load((ROOT / f"examples/{name}/agent.yaml").read_text())
    return CompiledAgentSpec.model_validate(document["spec"])


def policy(name: str) -> GatePolicy:
    return agent(name).promotion.gate


@cache
def scores(name: str, one_in: int) -> Scores:
    """Scores of a candidate who breaks off in one conversation of `one_in`, evenly over all customers, else is faultless."""
    compiled = agent(name).compile
    assert compiled is not None
    graph = Graph(load_spec(ROOT / f"examples/{name}/procedure.yaml"))
    count = compiled.template.evaluation.scenarios
    assert count is not None
    settings = Evaluation(simulator=Provider(), judge=Provider(), scenarios=count, seed=7)
    cast = build_scenarios(graph, settings)
    labeller = RuleLabeller(graph)

    def result(index: int, scenario: Scenario) -> Result:
        said = scripted_utterances(graph, scenario.path, scenario.values, random.Random(1))
        chat = tuple(chat_messages("", scenario.opener, said)[1:])
        replies = tuple(Reply(turn["content"], 0.4, 40, 10, "stop") for turn in chat if turn["role"] == "assistant")
        conversation = Conversation(chat, replies, "the model repeats itself" if index % one_in == one_in // 2 else None)
        replayed = replay(graph, scenario.path, scenario.values, [labeller.label(reply.text) for reply in replies])
        return Result(scenario, conversation, replayed, (judge_by_rules(scenario.path, scenario.lines, conversation, replayed),))

    arms = {"candidate": [result(*each) for each in enumerate(cast)]}
    rare = [result(*each) for each in enumerate(rare_branch_scenarios(graph, settings, cast))]
    return summarise(arms, settings.seed, rare)


def verdict(name: str, *, one_in: int = 20, fabricated: int = FABRICATED, phrasings: int = 47) -> Verdict:
    """The verdict of the example's policy at a first compile, when nothing serves yet."""
    beyond = {
        "fabrication": Proportion(hits=fabricated, of=ASSERTED),
        "robustness": (RobustnessScore(kind="phrasings", hits=phrasings, of=60),),
    }
    return judge(scores(name, one_in).model_copy(update=beyond), policy(name))


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_first_model_that_follows_95_percent_of_the_customers_is_promoted(name: str) -> None:
    assert scores(name, 20).conformance.mean == pytest.approx(0.95, abs=0.001)
    found = verdict(name)
    assert found.result == "Pass", found.reasons


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_first_model_that_follows_two_of_three_customers_is_refused(name: str) -> None:
    assert verdict(name, one_in=3).result == "Fail"


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_first_model_that_makes_values_up_or_knows_no_other_words_is_refused(name: str) -> None:
    assert verdict(name, fabricated=120).result == "Fail"
    assert verdict(name, phrasings=20).result == "Fail"
