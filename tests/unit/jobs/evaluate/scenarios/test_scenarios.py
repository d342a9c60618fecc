"""Evaluation scenarios cover the procedure and are never training conversations."""

import json
import random
from pathlib import Path

import pytest
import yaml
from bench.wordings_shift import __main__

from subterra_api.digest import procedure_digest
from subterra_api.job_contract.defaults import resolve
from subterra_api.job_contract.messages import Evaluation, RunIdentity
from subterra_api.v1alpha1.compilerun import CompileInputs, Provider
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.sampling import held_out, sample_path, sample_values
from subterra_jobs.dialogue.scripted import messages, write
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.evaluate.scenarios import build
from subterra_jobs.evaluate.scenarios.path_cover import missed
from subterra_jobs.evaluate.scenarios.training_overlap import overlap, training_marks
from subterra_jobs.evaluate.simulate.user_simulator import ScriptedUser
from subterra_testkit.fake_chat_server import serving
from subterra_testkit.repository import ROOT

SPEC = ProcedureSpec.model_validate(yaml.safe_load((ROOT / "examples/travel/procedure.yaml").read_text())["spec"])
GRAPH = Graph(SPEC)
PHRASES = ROOT / "bench/data/travel_unseen_wordings.yaml"


def settings(count: int = 200, seed: int = 7) -> Evaluation:
    return Evaluation(simulator=Provider(), judge=Provider(), scenarios=count, seed=seed)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [20, 50, 200])
def test_every_edge_is_on_some_path(count: int, seed: int) -> None:
    cast = build.build(GRAPH, settings(count, seed))
    assert len(cast) == count
    assert missed(GRAPH, cast) == []


def test_half_of_the_customers_have_only_held_out_values_and_half_have_none() -> None:
    cast = build.build(GRAPH, settings())
    unseen = [held_out("destination", scenario.values["destination"]) for scenario in cast]
    assert unseen == [scenario.unseen for scenario in cast]
    assert sum(unseen) == 100


def test_half_of_the_customers_of_each_kind_speak_first() -> None:
    cast = build.build(GRAPH, settings())
    assert {kind: sum(s.opener is not None for s in cast if s.unseen == kind) for kind in (True, False)} == {True: 50, False: 50}
    assert all(scenario.agent_first == (scenario.opener is None) for scenario in cast)


def test_the_same_settings_give_the_same_scenarios_and_another_seed_others() -> None:
    ids = [scenario.id for scenario in build.build(GRAPH, settings())]
    assert ids == [scenario.id for scenario in build.build(GRAPH, settings())]
    assert not set(ids) & {scenario.id for scenario in build.build(GRAPH, settings(seed=8))}


def test_a_scenario_that_was_a_training_conversation_is_drawn_again(tmp_path: Path) -> None:
    first = build.build(GRAPH, settings(20))
    rows = [{"messages": [{"role": "user", "content": line} for line in scenario.lines]} for scenario in first]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "labels.jsonl").write_text('{"id": "0"}\n')
    trained = training_marks(tmp_path)
    second = build.build(GRAPH, settings(20), trained)
    assert len(trained) == 20
    assert overlap(first, trained) == 20
    assert overlap(second, trained) == 0


def test_customers_who_tell_facts_are_in_no_dataset_with_the_same_seed() -> None:
    rng = random.Random(7)
    trained = set()
    for _ in range(500):
        path = sample_path(GRAPH, rng)
        chat = messages("", None, write(GRAPH, path, sample_values(SPEC.variables, rng, unseen=False), rng))
        trained.add(tuple(message["content"] for message in chat if message["role"] == "user"))
    telling = [scenario for scenario in build.build(GRAPH, settings()) if "options" in scenario.path]
    assert not trained & {scenario.lines for scenario in telling}


async def test_the_user_says_its_lines_in_order_and_then_nothing() -> None:
    user = ScriptedUser(["one", "two"])
    assert [await user.reply([]) for _ in range(4)] == ["one", "two", None, None]


def test_other_wordings_keep_the_customer_the_path_and_the_values() -> None:
    cast = build.build(GRAPH, settings(50))
    other = __main__.recast(GRAPH, __main__.load(PHRASES), cast, 7)
    assert [(s.path, s.values, s.unseen) for s in cast] == [(s.path, s.values, s.unseen) for s in other]
    assert not {line for s in cast for line in s.lines} & {line for s in other for line in s.lines}
    assert all(s.values["destination"] in " ".join(s.lines) for s in other if {"ask_budget", "options"} & {*s.path})


def test_the_examples_other_wordings_are_at_least_four_each() -> None:
    phrases = __main__.load(PHRASES)
    assert min(len(texts) for texts in [*phrases.nodes.values(), *(edge.phrases for edge in phrases.edges)]) >= 4


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["We have enough."], "does not say the same values"),
        (["We can spend {{budget}}."], "is in the procedure"),
    ],
)
def test_other_wordings_that_do_not_fit_are_refused(texts: list[str], message: str) -> None:
    phrases = __main__.load(PHRASES)
    broken = phrases.model_copy(update={"nodes": {**phrases.nodes, "budget": tuple(texts)}})
    with pytest.raises(InvalidInputError, match=message):
        __main__.reworded(SPEC, broken)


def test_a_place_without_other_wordings_is_named() -> None:
    with pytest.raises(InvalidInputError, match="edge choice → goodbye has no phrases"):
        __main__.reworded(SPEC, __main__.Phrases())


def test_the_command_prints_conformance_for_other_wordings_as_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = CompileInputs.model_validate({"procedureRef": {"name": "travel"}, "evaluation": {"scenarios": 20}})
    run = resolve(inputs, SPEC, procedure_digest(SPEC), RunIdentity(name="t", namespace="d", uid="u"), store=f"file://{tmp_path}")
    (tmp_path / "input.json").write_text(run.model_dump_json(by_alias=True))
    understanding = __main__.reworded(SPEC, __main__.load(PHRASES))
    with serving(understanding) as (url, _):
        monkeypatch.setattr("sys.argv", ["x", "--input", str(tmp_path / "input.json"), "--phrases", str(PHRASES), "--url", url])
        assert __main__.main() == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["n"], found["seed"], found["conformance"]["mean"]) == (20, 7, 1.0)
    assert found["conformance"]["low"] < 0.9


def test_the_command_says_what_is_wrong_with_its_files(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["x", "--input", "/nowhere.json", "--phrases", str(PHRASES)])
    assert __main__.main() == 10
    assert "/nowhere.json" in capsys.readouterr().err
