"""Other phrasings keep customers, paths and values, and conformance is measured with them."""

import json
from pathlib import Path

import pytest
import yaml
from bench.wordings_shift import __main__
from bench.wordings_shift.__main__ import PHRASES
from bench.wordings_shift.phrases import Phrases, load_phrases, rephrase_procedure, rephrase_scenarios

from subterra_api.digest import procedure_digest
from subterra_api.job_contract.defaults import resolve
from subterra_api.job_contract.messages import Evaluation, RunIdentity
from subterra_api.v1alpha1.compilerun import CompileInputs, Provider
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.evaluate.scenarios.build import build_scenarios
from subterra_testkit.repository import ROOT
from subterra_testkit.servers.fake_chat_server import fake_chat_server

SPEC = ProcedureSpec.model_validate(yaml.safe_load((ROOT / "examples/travel/procedure.yaml").read_text())["spec"])
GRAPH = Graph(SPEC)
EVALUATION = Evaluation(simulator=Provider(), judge=Provider(), scenarios=50, seed=7)


def test_other_phrasings_keep_the_customer_the_path_and_the_values() -> None:
    cast = build_scenarios(GRAPH, EVALUATION)
    other = rephrase_scenarios(GRAPH, load_phrases(PHRASES), cast, 7)
    assert [(s.path, s.values, s.unseen) for s in cast] == [(s.path, s.values, s.unseen) for s in other]
    assert not {line for s in cast for line in s.lines} & {line for s in other for line in s.lines}
    assert all(s.values["destination"] in " ".join(s.lines) for s in other if {"ask_budget", "options"} & {*s.path})


def test_the_examples_other_phrasings_are_at_least_four_each() -> None:
    phrases = load_phrases(PHRASES)
    assert min(len(texts) for texts in [*phrases.nodes.values(), *(edge.phrases for edge in phrases.edges)]) >= 4


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["We have enough."], "mentions other variables"),
        (["We can spend {{budget}}."], "is in the procedure"),
    ],
)
def test_other_phrasings_that_do_not_fit_are_refused(texts: list[str], message: str) -> None:
    phrases = load_phrases(PHRASES)
    broken = phrases.model_copy(update={"nodes": {**phrases.nodes, "budget": tuple(texts)}})
    with pytest.raises(InvalidInputError, match=message):
        rephrase_procedure(SPEC, broken)


def test_a_place_without_other_phrasings_is_named() -> None:
    with pytest.raises(InvalidInputError, match="edge choice → goodbye has no phrases"):
        rephrase_procedure(SPEC, Phrases())


def test_the_command_prints_conformance_for_other_phrasings_as_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = CompileInputs.model_validate({"procedureRef": {"name": "travel"}, "evaluation": {"scenarios": 20}})
    run = resolve(inputs, SPEC, procedure_digest(SPEC), RunIdentity(name="t", namespace="d", uid="u"), store=f"file://{tmp_path}")
    (tmp_path / "input.json").write_text(run.model_dump_json(by_alias=True))
    understanding = rephrase_procedure(SPEC, load_phrases(PHRASES))
    with fake_chat_server(understanding) as (url, _):
        monkeypatch.setattr("sys.argv", ["x", "--input", str(tmp_path / "input.json"), "--phrases", str(PHRASES), "--url", url])
        assert __main__.main() == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["n"], found["seed"], found["conformance"]["mean"]) == (20, 7, 1.0)
    assert found["conformance"]["low"] < 0.9


def test_the_command_says_what_is_wrong_with_its_files(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["x", "--input", "/nowhere.json", "--phrases", str(PHRASES)])
    assert __main__.main() == 10
    assert "/nowhere.json" in capsys.readouterr().err
