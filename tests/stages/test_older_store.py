"""A store that the version before the move left (tests/golden/store_before_move): no run starts, and no turn is paid again."""

import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from subterra_api.digest import procedure_digest, run_digest
from subterra_api.job_contract.artifacts import ArtifactKeys, Stage, artifact_path, lease_path
from subterra_api.job_contract.defaults import resolve
from subterra_api.job_contract.environment import REFERENCES_VARIABLE, VLLM_VARIABLE
from subterra_api.job_contract.messages import RunIdentity, RunInput, StageResult
from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec, CompileSource
from subterra_api.v1alpha1.compilerun import Reference
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.evaluate import main as evaluate
from subterra_jobs.generate import main as generate
from subterra_jobs.spending.ledger import Ledger
from subterra_jobs.stage.runner import StageContext, StageOutcome, execute
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_jobs.store.lease import acquire
from subterra_operator.specs.compile_run import inputs_of, run_name_for
from subterra_testkit.repository import ROOT
from subterra_testkit.runs.evaluation_runs import fake_provider
from subterra_testkit.runs.generation_inputs import travel
from subterra_testkit.runs.in_process_pool import InProcessPool
from subterra_testkit.servers.fake_chat_server import fake_chat_server
from subterra_testkit.servers.fake_llm_api import FakeLLMApi, Fault

Json = dict[str, Any]
ARCHIVE = ROOT / "tests/golden/store_before_move/store.tar.gz"
ABSENT = Fault(400, "invalid_request_error", "an answer that was paid before is not found in the store")
EXAMPLES = ("travel", "zoom", "insurance", "paid")
STAGES: tuple[Stage, ...] = ("generate", "train", "evaluate")


@dataclass(frozen=True)
class Older:
    """What that version left: procedures and agents, what it called and found in them, and the store of a run of ``paid``."""

    folder: Path

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def told(self, name: str) -> Any:
        """What that version wrote down."""
        return json.loads((self.folder / name).read_text())

    def source(self, name: str) -> CompileSource:
        """What the agent compiles."""
        agent = yaml.safe_load((self.folder / f"examples/{name}/agent.yaml").read_text())
        compiled = CompiledAgentSpec.model_validate(agent["spec"]).compile
        assert compiled is not None
        return compiled

    def run(self, name: str, references: tuple[Reference, ...] = ()) -> RunInput:
        """The run that this version makes for the agent."""
        procedure = yaml.safe_load((self.folder / f"examples/{name}/procedure.yaml").read_text())
        spec, source = ProcedureSpec.model_validate(procedure["spec"]), self.source(name)
        digest = procedure_digest(spec)
        run = RunIdentity(name=run_name_for(name, source, digest), namespace="default", uid=f"uid-{name}", agent=name)
        return resolve(inputs_of(source, digest), spec, digest, run, store=self.store.as_uri(), references=references)

    @property
    def paid(self) -> RunInput:
        """The run of the store."""
        return self.run("paid", RunInput.model_validate(self.told("input.json")).references)

    def result(self, name: str) -> StageResult:
        """What a stage of that run told, by its name and what was gone from the store before."""
        told = self.told("results.json")[name]
        return StageResult.model_validate({key: value for key, value in told.items() if key != "files"})

    def files(self) -> set[str]:
        return {str(file.relative_to(self.store)) for file in self.store.rglob("*") if file.is_file()}

    def lose(self, path: str) -> None:
        shutil.rmtree(self.store / path)


@pytest.fixture
def older(tmp_path: Path) -> Older:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return Older(tmp_path)


@pytest.fixture(scope="module")
def asked() -> Iterator[Callable[[], int]]:
    """How many calls came to providers that refuse every one, and to the models that are served."""
    with ExitStack() as stack:
        api = stack.enter_context(fake_provider(FakeLLMApi(after=(0, ABSENT))))
        url, candidate = stack.enter_context(fake_chat_server(travel()))
        reference_url, reference = stack.enter_context(fake_chat_server(travel()))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(generate, "RayPool", InProcessPool)
        patch.setenv("OPENAI_BASE_URL", f"{api.url}/v1")
        patch.setenv(VLLM_VARIABLE, url)
        patch.setenv(REFERENCES_VARIABLE, json.dumps([reference_url]))
        yield lambda: api.calls + len(candidate) + len(reference)


@pytest.fixture
def unasked(asked: Callable[[], int]) -> Iterator[None]:
    """Nobody is asked anything by the test."""
    before = asked()
    yield
    assert asked() == before


def never(_: StageContext) -> StageOutcome:
    raise AssertionError("the stage must not work again")


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_agent_wants_the_run_that_it_has(older: Older, name: str) -> None:
    before, run = older.told("runs.json")[name], older.paid if name == "paid" else older.run(name)
    assert run.run.name == before["name"]
    assert run.procedure_digest == before["procedureDigest"]
    assert run_digest(run.procedure_digest, inputs_of(older.source(name), run.procedure_digest)) == before["runDigest"]
    if run.generation.teacher.name == "scripted":  # whose datasets were other ones before its customers had words of their own
        return
    keys = ArtifactKeys.model_validate(before["keys"])
    assert (run.keys.dataset, run.keys.model) == (keys.dataset, keys.model)
    # Scripted customers have other values since then; a report about them costs nothing.
    assert (run.keys.report == keys.report) == (run.evaluation.simulator.name != "scripted")


def test_the_frozen_input_of_a_run_says_what_it_would_say_now(older: Older) -> None:
    assert RunInput.model_validate(older.told("input.json")) == older.paid.model_copy(update={"store": "file:///store"})


@pytest.mark.parametrize("attach", [False, True])
@pytest.mark.parametrize("stage", STAGES)
def test_a_finished_stage_is_read_back(older: Older, stage: Stage, attach: bool) -> None:
    before, run = older.result(stage), older.paid
    files = older.files()
    again = execute(stage, never, run, attach=attach, port=0)
    assert again == before.model_copy(update={"reused": True, "usd": "0", "tokens": 0})
    assert ArtifactStore(run.store).verify(before.path) == before.digest
    assert older.files() == files


@pytest.mark.usefixtures("unasked")
def test_a_lost_dataset_is_made_of_turns_that_were_paid(older: Older) -> None:
    run, name = older.paid, "generate again"
    files = older.files()
    older.lose(artifact_path("generate", run.keys.dataset))
    again = execute("generate", generate.work, run, port=0)
    assert (again.usd, again.tokens) == (older.result(name).usd, older.result(name).tokens)
    manifest = ArtifactStore(run.store).manifest(again.path)
    assert manifest is not None
    assert manifest["files"] == older.told("results.json")[name]["files"]
    assert older.files() == files | {f"{lease_path(run.keys.dataset)}/000002.json"}


def test_a_lost_report_is_played_again_because_customers_are_asked_in_other_words(older: Older, asked: Callable[[], int]) -> None:
    """Conversations with two forms of the customer would not be comparable."""
    run, before = older.paid, asked()
    older.lose(artifact_path("evaluate", run.keys.report))
    with pytest.raises(InvalidInputError, match="an answer that was paid before is not found in the store"):
        execute("evaluate", evaluate.work, run, port=0)
    assert asked() > before


@pytest.mark.parametrize("stage", STAGES)
def test_work_that_ended_is_not_waited_for(older: Older, stage: Stage) -> None:
    def waits(told: str) -> None:
        raise AssertionError(told)

    run = older.paid
    lease = acquire(ArtifactStore(run.store), lease_path(run.keys.of(stage)), "later", done=lambda: False, report=waits)
    assert lease is not None
    assert lease.number == 2


def test_every_payment_counts(older: Older) -> None:
    run, before = older.paid, older.told("results.json")["ledger"]
    payments = Ledger(ArtifactStore(run.store), run.run).new_payments()
    assert len(payments) == before["payments"]
    for uid, stage, usd, tokens in before["by"]:
        found = [each for each in payments if (each.run, each.stage) == (uid, stage)]
        assert (sum(each.usd for each in found), sum(each.tokens for each in found)) == (Decimal(usd), tokens)
