"""Evaluation scenarios cover the procedure and are never training conversations."""

import json
import random
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import yaml

from subterra_api.job_contract.messages import Evaluation
from subterra_api.v1alpha1.compilerun import Provider
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.sampling import held_out, sample_path, sample_values
from subterra_jobs.dialogue.scripted import chat_messages, scripted_utterances
from subterra_jobs.evaluate.scenarios.build import build_scenarios, rare_branch_scenarios
from subterra_jobs.evaluate.scenarios.path_cover import BRANCH_PLAYS, MAX_MORE, path_edges, uncovered_edges
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.scenarios.training_overlap import count_in_training, training_signatures
from subterra_jobs.evaluate.simulate.user_simulator import ScriptedUser
from subterra_testkit.repository import ROOT

SPEC = ProcedureSpec.model_validate(yaml.safe_load((ROOT / "examples/travel/procedure.yaml").read_text())["spec"])
GRAPH = Graph(SPEC)


def settings(count: int = 200, seed: int = 7) -> Evaluation:
    return Evaluation(simulator=Provider(), judge=Provider(), scenarios=count, seed=seed)


@cache
def cast_of(count: int = 200, seed: int = 7) -> list[Scenario]:
    """Scenarios, built once for all tests; none of them changes them."""
    return build_scenarios(GRAPH, settings(count, seed))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("count", [20, 50, 200])
def test_every_edge_is_on_some_path(count: int, seed: int) -> None:
    cast = cast_of(count, seed)
    assert len(cast) == count
    assert uncovered_edges(GRAPH, cast) == []


def test_half_of_the_customers_have_only_held_out_values_and_half_have_none() -> None:
    cast = cast_of()
    unseen = [held_out("destination", scenario.values["destination"]) for scenario in cast]
    assert unseen == [scenario.unseen for scenario in cast]
    assert sum(unseen) == 100


def test_half_of_the_customers_of_each_kind_speak_first() -> None:
    cast = cast_of()
    assert {kind: sum(s.opener is not None for s in cast if s.unseen == kind) for kind in (True, False)} == {True: 50, False: 50}
    assert all(scenario.agent_first == (scenario.opener is None) for scenario in cast)


def test_the_same_settings_give_the_same_scenarios_and_another_seed_others() -> None:
    ids = [scenario.id for scenario in cast_of()]
    assert ids == [scenario.id for scenario in build_scenarios(GRAPH, settings())]
    assert not set(ids) & {scenario.id for scenario in cast_of(seed=8)}


def test_a_scenario_that_was_a_training_conversation_is_drawn_again(tmp_path: Path) -> None:
    first = cast_of(20)
    rows = [{"messages": [{"role": "user", "content": line} for line in scenario.lines]} for scenario in first]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "labels.jsonl").write_text('{"id": "0"}\n')
    trained = training_signatures(tmp_path)
    second = build_scenarios(GRAPH, settings(20), trained)
    assert len(trained) == 20
    assert count_in_training(first, trained) == 20
    assert count_in_training(second, trained) == 0


def test_customers_who_tell_facts_are_in_no_dataset_with_the_same_seed() -> None:
    rng = random.Random(7)
    trained = set()
    for _ in range(500):
        path = sample_path(GRAPH, rng)
        chat = chat_messages("", None, scripted_utterances(GRAPH, path, sample_values(SPEC.variables, rng, unseen=False), rng))
        trained.add(tuple(message["content"] for message in chat if message["role"] == "user"))
    telling = [scenario for scenario in cast_of() if "options" in scenario.path]
    assert not trained & {scenario.lines for scenario in telling}


async def test_the_user_says_its_lines_in_order_and_then_nothing() -> None:
    user = ScriptedUser(["one", "two"])
    assert [await user.reply([]) for _ in range(4)] == ["one", "two", None, None]


@pytest.mark.parametrize("count", [200, 300])
def test_branches_that_few_customers_take_get_further_customers(count: int) -> None:
    cast = cast_of(count)
    more = rare_branch_scenarios(GRAPH, settings(count), cast)
    assert more
    assert len(more) <= MAX_MORE * count
    assert not {scenario.id for scenario in more} & {scenario.id for scenario in cast}
    plays = Counter(edge for scenario in (*cast, *more) for edge in path_edges(scenario.path))
    branches = [(node.id, edge.to) for node in SPEC.nodes if len(node.next) > 1 for edge in node.next]
    assert min(plays[branch] for branch in branches) >= BRANCH_PLAYS
    assert rare_branch_scenarios(GRAPH, settings(count), cast) == more


def test_a_small_evaluation_plays_a_fifth_more_at_most() -> None:
    cast = cast_of(20)
    assert len(rare_branch_scenarios(GRAPH, settings(20), cast)) <= 4


def test_a_customer_that_had_to_be_played_again_is_the_same_customer() -> None:
    scenario = cast_of(20)[0]
    assert replace(scenario, id=f"{scenario.id}-17").customer == scenario.customer == scenario.id
    assert replace(scenario, id="a-1").customer == "a-1"
