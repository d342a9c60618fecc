"""The whole stage: a model as customer, an older version and baselines beside the candidate, two judges; interrupted and not."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from subterra_api.job_contract.artifacts import PROCEDURE_FILE, artifact_path, lease_path
from subterra_api.job_contract.environment import GATE_VARIABLE, REFERENCES_VARIABLE, RESULT_LIMIT, VLLM_VARIABLE
from subterra_api.job_contract.messages import Budget, Gate, RunInput, StageResult
from subterra_api.v1alpha1.compilerun import GatePolicy, Reference
from subterra_jobs.errors import BudgetExceededError, InvalidInputError
from subterra_jobs.evaluate.judge import judges
from subterra_jobs.evaluate.main import work
from subterra_jobs.stage.cancellation import TERMINATED
from subterra_jobs.stage.environment import CONCURRENCY, StageEnvironment
from subterra_jobs.stage.runner import execute
from subterra_testkit.runs.customer_meanings import customer_meanings
from subterra_testkit.runs.evaluation_runs import SONNET, FaultlessProvider, fake_provider, last_message, run_input
from subterra_testkit.runs.generation_inputs import travel
from subterra_testkit.runs.judgements import is_judging, is_labelling
from subterra_testkit.servers.fake_chat_server import fake_chat_server
from subterra_testkit.servers.fake_llm_api import FakeLLMApi

pytestmark = pytest.mark.timeout(600)
GPT = {"name": "openai", "model": "gpt-4.1"}
AS_ITS_JOB = """
import datetime, runpy
from subterra_jobs.stage import environment
environment.current_date = lambda: datetime.date(2026, 11, 20)
runpy.run_module("subterra_jobs.evaluate", run_name="__main__", alter_sys=True)
"""
"""The stage in a process of its own, before the second judge retires."""
SERVING = Reference.model_validate(
    {"role": "Serving", "run": "travel-0", "modelDigest": "sha256:" + "a" * 64, "modelPath": "models/old"}
)
BASELINES = [{"kind": "InContext", "provider": SONNET}, {"kind": "Orchestrator", "provider": SONNET}]
JUDGES = {"judge": SONNET, "secondJudge": GPT}
SCENARIOS = 10


@dataclass
class Stage:
    """A run's evaluation, what can be done with it, and what it left."""

    folder: Path
    run: RunInput

    def finish(self, max_usd: str | None = None) -> StageResult:
        """In this process. Raises what the stage raises."""
        environment = replace(StageEnvironment.parse(os.environ), budget=Budget(max_usd=max_usd))
        return execute("evaluate", work, self.run, environment=environment, port=0)

    def start(self) -> "subprocess.Popen[str]":
        """As its Job starts it."""
        (self.folder / "input.json").write_text(self.run.model_dump_json(by_alias=True))
        command = [sys.executable, "-c", AS_ITS_JOB, "--input", str(self.folder / "input.json")]
        with (self.folder / "log").open("a") as log:
            environment = {**os.environ, "SUBTERRA_TERMINATION_LOG": str(self.folder / "message")}
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log, text=True)

    @property
    def artifact(self) -> Path:
        return self.folder / "store" / artifact_path("evaluate", self.run.keys.report)

    def ledger(self) -> list[dict[str, Any]]:
        files = sorted((self.folder / "store" / "ledger").rglob("*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@contextmanager
def stage(folder: Path, api: FakeLLMApi, *, damage: str = "none", edited: bool = False) -> Iterator[Stage]:
    """The candidate follows the procedure, the serving version has this damage, or was compiled before an edit of all its facts."""
    run = run_input(folder / "store", references=(SERVING,), baselines=BASELINES, scenarios=SCENARIOS, **JUDGES)
    (folder / "store/models/old").mkdir(parents=True)
    old = travel().model_copy(update={"knowledge": ()}) if edited else travel()
    (folder / "store/models/old" / PROCEDURE_FILE).write_text(old.model_dump_json(by_alias=True))
    with ExitStack() as stack:
        url, _ = stack.enter_context(fake_chat_server(travel()))
        reference, _ = stack.enter_context(fake_chat_server(travel(), damage))
        stack.enter_context(fake_provider(api))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv(VLLM_VARIABLE, url)
        patch.setenv(REFERENCES_VARIABLE, json.dumps([reference]))
        patch.setenv("OPENAI_BASE_URL", f"{api.url}/v1")
        yield Stage(folder, run)


def company(**more: Any) -> FakeLLMApi:
    return FakeLLMApi(answer=FaultlessProvider(travel()), **more)


def calls(api: FakeLLMApi) -> Counter[str]:
    """All calls, by what was asked."""
    return Counter(json.dumps(body, sort_keys=True) for body in api.bodies)


def turns(api: FakeLLMApi) -> Counter[str]:
    """Those for turns. Equal conversations are judged once, unless that is under way at the same time, so others vary."""
    return Counter(json.dumps(body, sort_keys=True) for body in api.bodies if not is_judging(body) and not is_labelling(body))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> FakeLLMApi:
    """The provider of an evaluation that nothing happened to."""
    api = company()
    with stage(tmp_path_factory.mktemp("undisturbed"), api) as one:
        one.finish()
    return api


def test_all_conditions_are_played_judged_and_paid_for_in_one_evaluation(tmp_path: Path) -> None:
    api = company()
    with stage(tmp_path, api, damage="hasty") as one:
        result = one.finish()
        paid = api.paid
        again = one.finish()
    assert len(result.model_dump_json(by_alias=True, exclude_none=True).encode()) < RESULT_LIMIT
    assert api.paid == paid
    assert (again.reused, again.usd, again.scores) == (True, "0", result.scores)
    entries = one.ledger()
    assert len(entries) == paid
    assert float(result.usd) == pytest.approx(sum(float(entry["usd"]) for entry in entries), abs=1e-4)
    assert {"customer", "agent", "router"} < {entry.get("plays") for entry in entries}
    assert result.scores is not None
    assert (result.scores.scenarios, result.scores.conformance.mean) == (SCENARIOS, 1)
    assert result.scores.statistics is not None
    [comparison] = result.scores.statistics.comparisons
    assert (comparison.against, comparison.failures.of) == ("serving", SCENARIOS)
    data = json.loads((one.artifact / "report.json").read_text())
    assert data["retiring"] == ["evaluation.secondJudge.model: gpt-4.1 retires on 2027-01-14; use gpt-6-luna"]
    assert list(data["arms"]) == ["candidate", "serving", "in-context claude-sonnet-4-6", "orchestrator claude-sonnet-4-6"]
    usd = [arm["takes"]["usd"] for arm in data["arms"].values()]
    assert usd[:2] == [None, None]
    assert usd[3] > usd[2] > 0
    assert data["arms"]["serving"]["conformance"]["mean"] < 1
    words = [last_message(body) for body in api.bodies]
    assert not any(name in each for each in words for name in ("serving", "in-context", "orchestrator", "candidate"))


def test_scenarios_that_an_edit_touches_are_not_compared(tmp_path: Path) -> None:
    with stage(tmp_path, company(), edited=True) as one:
        scores = one.finish().scores
    assert scores is not None
    assert scores.statistics is not None
    assert scores.statistics.comparisons[0].failures.of == 0


def signal_at(count: int, number: signal.Signals, found: list["subprocess.Popen[str]"]) -> Callable[..., None]:
    """A script for the provider: at so many paid calls the stage gets a signal."""

    def script(api: FakeLLMApi) -> None:
        if api.paid == count:
            os.kill(found[0].pid, number)

    return script


@pytest.mark.parametrize(
    ("share", "at_once"), [(0.2, 4 * CONCURRENCY), (0.7, judges.CONCURRENCY)], ids=["while it plays", "while it judges"]
)
def test_killed_it_goes_on_and_nothing_but_calls_under_way_is_paid_twice(
    tmp_path: Path, share: float, at_once: int, undisturbed: FakeLLMApi
) -> None:
    api, running = company(seconds=0.02), list["subprocess.Popen[str]"]()
    with stage(tmp_path, api) as one:
        api.script = signal_at(int(share * undisturbed.paid), signal.SIGKILL, running)
        running.append(one.start())
        assert running[0].wait(300) == -signal.SIGKILL
        api.script = None
        shutil.rmtree(tmp_path / "store" / lease_path(one.run.keys.report))  # it would run out in a minute
        scores = one.finish().scores
    # A call is under way until its answer is on disk.
    assert (calls(api) - calls(undisturbed)).total() <= at_once
    assert set(calls(api)) == set(calls(undisturbed))
    assert scores is not None
    assert scores.conformance.mean == 1


@pytest.mark.parametrize("share", [0.2, 0.7], ids=["while it plays", "while it judges"])
def test_told_to_stop_it_ends_calls_under_way_and_pays_nothing_twice(tmp_path: Path, share: float, undisturbed: FakeLLMApi) -> None:
    api, running = company(seconds=0.05), list["subprocess.Popen[str]"]()
    with stage(tmp_path, api) as one:
        api.script = signal_at(int(share * undisturbed.paid), signal.SIGTERM, running)
        running.append(one.start())
        assert running[0].wait(300) == TERMINATED, (tmp_path / "log").read_text()[-2000:]
        assert api.paid < undisturbed.paid
        assert "finished work and paid responses are kept" in (tmp_path / "message").read_text()
        api.script = None
        one.finish()
    assert turns(api) == turns(undisturbed)
    assert set(calls(api)) == set(calls(undisturbed))


def test_a_cap_blocks_it_and_a_larger_one_lets_it_go_on_from_there(tmp_path: Path, undisturbed: FakeLLMApi) -> None:
    api = company(output_tokens=400)  # so talkative that it costs more than was forecast
    with stage(tmp_path, api) as one:
        with pytest.raises(BudgetExceededError, match=r"the cap per run is \$3: .* the next call could cost"):
            one.finish(max_usd="3.00")
        assert 2.5 < sum(float(entry["usd"]) for entry in one.ledger()) <= 3
        one.finish()
    assert turns(api) == turns(undisturbed)
    assert set(calls(api)) == set(calls(undisturbed))


def test_another_evaluation_of_the_same_model_plays_nothing_again_and_judges_everything_anew(tmp_path: Path) -> None:
    """Conversations are what they are; hosted judges drift."""
    api = company()
    with stage(tmp_path, api) as one:
        one.finish()
        played, paid = turns(api), api.paid
        keys = one.run.keys.model_copy(update={"report": "sha256:" + "b" * 64})
        Stage(tmp_path, one.run.model_copy(update={"keys": keys})).finish()
    assert turns(api) == played
    assert api.paid > paid


def test_a_model_that_has_no_price_is_refused_before_anything_is_played(tmp_path: Path) -> None:
    api = company()
    with stage(tmp_path, api) as one:
        odd = {"second_judge": one.run.evaluation.judge.model_copy(update={"model": "nobody-1"})}
        run = one.run.model_copy(update={"evaluation": one.run.evaluation.model_copy(update=odd)})
        with pytest.raises(InvalidInputError, match=r"evaluation\.secondJudge\.model"):
            Stage(tmp_path, run).finish()
    assert api.calls == 0


SCRIPTED = {"name": "scripted"}


def scripted(folder: Path, damage: str, patch: pytest.MonkeyPatch, **policy: float) -> tuple[StageResult, dict[str, Any]]:
    """A scripted evaluation of 250 scenarios by a candidate with this damage: the result, and the report."""
    run = run_input(folder / "store", scenarios=250, simulator=SCRIPTED, judge=SCRIPTED)
    with fake_chat_server(travel(), damage, customer_meanings(travel(), run.evaluation)) as (url, _):
        patch.setenv(VLLM_VARIABLE, url)
        patch.setenv(GATE_VARIABLE, Gate(policy=GatePolicy(**policy), attempt=2).model_dump_json(by_alias=True))
        stage = Stage(folder, run)
        return stage.finish(), json.loads((stage.artifact / "report.json").read_text())


def test_a_candidate_that_is_far_out_of_reach_is_given_up_at_the_first_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, report = scripted(tmp_path, "hasty", monkeypatch)
    assert result.scores is not None
    assert (result.scores.scenarios, result.scores.planned) == (100, 250)
    assert "ended early, after 100 of 250 scenarios" in result.message
    assert (report["verdict"]["result"], report["gate"]["attempt"]) == ("Fail", 2)
    assert len(report["scenarios"]) == 100
    [page] = tmp_path.glob("store/reports/*/report.html")
    assert "attempt 2 at this procedure" in page.read_text()
    assert "ended early, after 100 of 250 scenarios" in page.read_text()


def test_whether_it_is_out_of_reach_is_asked_of_the_agents_own_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = {"min_score": 1.0, "max_failure_rate": 1.0, "min_conformance": 0.0}
    result, report = scripted(tmp_path, "hasty", monkeypatch, **nothing)
    assert result.scores is not None
    assert result.scores.scenarios == result.scores.planned == 250
    assert report["gate"]["policy"]["minConformance"] == 0


def test_a_good_candidate_plays_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result, report = scripted(tmp_path, "none", monkeypatch)
    assert result.scores is not None
    assert result.scores.scenarios == 250
    assert "early" not in result.message
    assert report["verdict"]["result"] == "Pass"
