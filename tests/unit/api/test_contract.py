"""What operator and jobs rely on from each other."""

import json
import subprocess
from pathlib import Path
from typing import get_args

import pytest
import yaml

from subterra_api.job_contract.artifacts import artifact_path
from subterra_api.job_contract.defaults import evaluate_again, keys_of_reevaluation, resolve
from subterra_api.job_contract.environment import RESULT_LIMIT
from subterra_api.job_contract.messages import EvaluatedAgain, ExitCode, RunIdentity, RunInput, StageResult
from subterra_api.v1alpha1.compilerun import CompileInputs
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_api.v1alpha1.scores import (
    AffectedScenarios,
    Branch,
    Comparison,
    Difference,
    DiscordantPairs,
    Interval,
    JudgeReliability,
    Proportion,
    RobustnessKind,
    RobustnessScore,
    SampleStats,
    Scores,
    Statistics,
    TrialScores,
)
from subterra_jobs.errors import BudgetExceededError, InfrastructureError, StageError
from subterra_jobs.evaluate.analysis.summary import WORST_BRANCHES
from subterra_jobs.evaluate.judge.results import CRITERIA
from subterra_jobs.stage.runner import StageContext, StageOutcome, execute, termination_message
from subterra_jobs.store.artifact_store import MANIFEST, ArtifactStore
from subterra_testkit.repository import ROOT


@pytest.fixture
def run_input(tmp_path: Path) -> RunInput:
    procedure = ProcedureSpec.model_validate(yaml.safe_load((ROOT / "examples/travel/procedure.yaml").read_text())["spec"])
    inputs = CompileInputs.model_validate({"procedureRef": {"name": "travel"}})
    run = RunIdentity(name="travel-1", namespace="demo", uid="1")
    return resolve(inputs, procedure, "sha256:a", run, store=f"file://{tmp_path}/store")


def write_file(context: StageContext) -> StageOutcome:
    (context.output / "train.jsonl").write_text("{}\n")
    return StageOutcome("one conversation", usd="1.25", tokens=10)


def never(_: StageContext) -> StageOutcome:
    raise AssertionError("the stage must not work again")


def test_another_evaluation_of_the_same_model_has_a_report_of_its_own_and_nothing_else_new(run_input: RunInput) -> None:
    other = RunIdentity(name="travel-2", namespace="demo", uid="2", agent="travel")
    change = EvaluatedAgain(run=other, evaluation=run_input.evaluation.model_copy(update={"seed": 8}))
    again = evaluate_again(run_input, change)
    assert (again.run, again.evaluation.seed, again.procedure) == (other, 8, run_input.procedure)
    assert (again.keys.dataset, again.keys.model) == (run_input.keys.dataset, run_input.keys.model)
    assert again.keys == keys_of_reevaluation(run_input.keys, change.evaluation) != run_input.keys
    same = EvaluatedAgain(run=other, evaluation=run_input.evaluation)
    assert evaluate_again(run_input, same).keys == run_input.keys, "the address says what was evaluated, not who did it"


def test_the_input_survives_the_wire(run_input: RunInput) -> None:
    assert RunInput.model_validate_json(run_input.model_dump_json(by_alias=True)) == run_input


def small() -> ProcedureSpec:
    return ProcedureSpec.model_validate(
        {
            "systemPrompt": "You help.",
            "start": "hello",
            "nodes": [
                {"id": "hello", "role": "agent", "prompt": "Greet.", "next": [{"to": "bye"}]},
                {"id": "bye", "role": "agent", "prompt": "Part.", "outcome": "success"},
            ],
        }
    )


def test_the_key_of_a_report_with_a_paid_simulator_is_golden(run_input: RunInput) -> None:
    """A key that changes makes every agent play, and pay, its evaluation again."""
    paid = {"name": "anthropic", "model": "m"}
    settings = {"generation": {"teacher": paid}, "evaluation": {"simulator": paid, "judge": paid}}
    inputs = CompileInputs.model_validate({"procedureRef": {"name": "travel"}, **settings})
    found = resolve(inputs, small(), "sha256:a", run_input.run, store="file:///store").keys.report
    assert found == "sha256:2b6ffc7f643709685bb9ccb52664c03affcacdec910e84a425e16137569a4198"


@pytest.mark.parametrize(
    ("teacher", "key"),
    [
        ({}, "sha256:efdb520d6dbcb5a4b592b3a6053812d71306c01aea439b9354cf6b7046388e6d"),
        (
            {"name": "anthropic", "model": "claude-sonnet-4-5"},
            "sha256:4db76c5a346b5bd0b42267396e9290c0f2416e752c4a7e5bd3449cd989bcef50",
        ),
    ],
    ids=["scripted", "paid"],
)
def test_the_key_of_a_dataset_is_golden(run_input: RunInput, teacher: dict[str, str], key: str) -> None:
    """A key that changes makes every agent with such a teacher write its dataset again, and pay for it."""
    inputs = CompileInputs.model_validate({"procedureRef": {"name": "travel"}, "generation": {"teacher": teacher}})
    assert resolve(inputs, small(), "sha256:a", run_input.run, store="file:///store").keys.dataset == key


def test_a_finished_stage_is_read_back_and_pays_nothing(run_input: RunInput) -> None:
    first = execute("generate", write_file, run_input, port=0)
    again = execute("generate", never, run_input, port=0)
    assert (first.reused, again.reused) == (False, True)
    assert (first.usd, again.usd) == ("1.25", "0")
    assert first.digest == again.digest


def test_attach_never_starts_work(run_input: RunInput) -> None:
    with pytest.raises(InfrastructureError, match="no result to read back"):
        execute("generate", never, run_input, attach=True, port=0)


def test_an_artifact_without_manifest_does_not_exist(run_input: RunInput) -> None:
    path = artifact_path("generate", run_input.keys.dataset)
    execute("generate", write_file, run_input, port=0)
    store = ArtifactStore(run_input.store)
    (store.local(path) / MANIFEST).unlink()
    assert store.manifest(path) is None
    assert execute("generate", write_file, run_input, port=0).reused is False


def test_a_changed_byte_is_found(run_input: RunInput) -> None:
    execute("generate", write_file, run_input, port=0)
    store, path = ArtifactStore(run_input.store), artifact_path("generate", run_input.keys.dataset)
    (store.local(path) / "train.jsonl").write_text("[]\n")
    with pytest.raises(InfrastructureError, match=r"train\.jsonl does not match"):
        store.verify(path)


def test_a_result_with_all_scores_and_two_comparisons_fits_a_termination_message() -> None:
    interval, names = Interval(mean=4.1234, low=3.1234, high=4.9234), CRITERIA
    apart = Difference(count=5000, mean=-0.1234, sd=1.1234, judges=(-0.1234, -0.1234), skew=-1.12)
    pairs, share = DiscordantPairs(worse=5000, better=5000, of=5000), Proportion(hits=5000, of=5000)
    comparison = Comparison(
        against="serving",
        criteria=dict.fromkeys(names, apart),
        failures=pairs,
        conformance=pairs,
        scenarios=5000,
        common=5000,
    )
    sample = SampleStats(count=5000, mean=4.1234, sd=1.1234)
    needs = ("taskSuccess", "informationAccuracy")
    yardstick = Difference(count=5000, mean=-0.1234, sd=1.1234)
    found = Statistics(
        criteria=dict.fromkeys(names, sample),
        failures=share,
        conformance=share,
        comparisons=(comparison, comparison),
        missing=0.1234,
        format=2,
        repeated=5000,
        affected=AffectedScenarios(
            criteria=dict.fromkeys(needs, sample), failures=share, conformance=share, in_context=dict.fromkeys(needs, yardstick)
        ),
        judging=JudgeReliability(kappa=0.1234, disagreement=1.1234, repeat_sd=(0.1234, 0.1234), fingerprints=("a" * 12, "b" * 12)),
    )
    kinds = get_args(RobustnessKind)
    branch = Branch(hub="h" * 40, to="t" * 40, conversations=5000, failures=5000)
    scores = Scores(
        scenarios=5000,
        criteria=dict.fromkeys(names, interval),
        failure_rate=interval,
        conformance=interval,
        turns_per_conversation=6.1234,
        slots_exact=0.9876,
        branches_judged=75,
        worst_branches=(branch,) * WORST_BRANCHES,
        fabrication=Proportion(hits=5000, of=50000),
        robustness=tuple(RobustnessScore(kind=kind, hits=60, of=60) for kind in kinds),
        covers="replies that rules recognize",
        trials=TrialScores(trials=8, passed_all=100, of=100, passed=800),
        statistics=found,
    )
    result = StageResult(
        stage="evaluate",
        key="sha256:" + "a" * 64,
        digest="sha256:" + "b" * 64,
        path="reports/" + "c" * 32,
        message="m" * 500,
        scores=scores,
    )
    text = termination_message(result)
    assert len(text.encode()) <= RESULT_LIMIT
    read = StageResult.model_validate_json(text)
    assert read.scores == scores
    assert read.message.startswith("m" * 20)
    assert read.message.endswith("…")


def test_a_result_that_fits_keeps_its_whole_message() -> None:
    result = StageResult(stage="train", key="k", digest="d", path="p", message="as it is")
    assert StageResult.model_validate_json(termination_message(result)) == result


def test_every_failure_has_its_exit_code() -> None:
    codes = {error.code for error in StageError.__subclasses__()}
    assert set(ExitCode) - codes <= {ExitCode.SUCCEEDED, ExitCode.INTERNAL}
    assert BudgetExceededError("x").code == 11


def test_a_bad_input_file_ends_with_its_code_and_message(tmp_path: Path) -> None:
    (tmp_path / "input.json").write_text(json.dumps({"contract": 1}))
    program = "from subterra_jobs.stage.runner import main; main('generate', lambda context: None)"
    python = ROOT / ".venv/bin/python"
    command = [python, "-c", program, "--input", tmp_path / "input.json"]
    done = subprocess.run(command, env={"SUBTERRA_TERMINATION_LOG": f"{tmp_path}/log"}, capture_output=True, check=False)
    assert done.returncode == ExitCode.INVALID_INPUT
    assert "is not a valid run input" in (tmp_path / "log").read_text()
