"""A stage that is traced, as its Job starts it: its process and Ray's worker send one trace."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from subterra_api.job_contract.environment import ATTEMPT_VARIABLE, COLLECTOR_VARIABLE, TERMINATION_LOG_VARIABLE
from subterra_api.job_contract.messages import ExitCode, RunInput, StageResult
from subterra_jobs.stage.tracing import PARENT_VARIABLE
from subterra_testkit.runs.generation_inputs import PAID, run_input
from subterra_testkit.servers.fake_llm_api import RATE_LIMITED, FakeLLMApi, fake_llm_api
from subterra_testkit.span_collector import span_collector

UID = "3f2b8c1e-8f0e-4c55-9a3e-0123456789ab"


def traced_run(folder: Path) -> RunInput:
    run = run_input(folder / "store", teacher=PAID, conversations=20)
    return run.model_copy(update={"run": run.run.model_copy(update={"uid": UID})})


def job(folder: Path, run: RunInput, **variables: str) -> tuple[int, str, str]:
    """Exit code, termination message and log of the stage's process."""
    source, told = folder / "input.json", folder / "termination"
    source.write_text(run.model_dump_json(by_alias=True))
    command = [sys.executable, "-m", "subterra_jobs.generate", "--input", str(source)]
    environment = {name: value for name, value in os.environ.items() if name != PARENT_VARIABLE}
    environment |= {TERMINATION_LOG_VARIABLE: str(told), ATTEMPT_VARIABLE: "1", **variables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder, timeout=240, check=False)
    return done.returncode, told.read_text(), done.stderr


def test_the_stage_and_the_calls_of_its_worker_are_one_trace_with_every_token_and_no_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test-secret")
    with span_collector() as collector, fake_llm_api(FakeLLMApi()) as api:
        api.faults.append(RATE_LIMITED)
        variables = {"ANTHROPIC_BASE_URL": api.url, COLLECTOR_VARIABLE: collector.url}
        code, message, log = job(tmp_path, traced_run(tmp_path), **variables)
        result = StageResult.model_validate_json(message)
        [stage] = collector.named("generate")
        calls = collector.named("chat")
        assert (code, stage.error, stage.attributes["subterra.reused"]) == (ExitCode.SUCCEEDED, None, False), log
        assert len(calls) == api.paid
        assert {span.trace for span in collector.spans} == {UID.replace("-", "")}
        assert {call.parent for call in calls} == {stage.id}
        assert sum(call.attributes["gen_ai.usage.output_tokens"] for call in calls) == 120 * api.paid
        assert stage.attributes["subterra.tokens"] == result.tokens == 720 * api.paid
        assert sum(call.attributes["subterra.usd"] for call in calls) == pytest.approx(float(result.usd))
        assert [name for call in calls for name, _ in call.events] == ["subterra.refused"]
        for secret in (b"sk-test-secret", b"You play", b"That is fine with me", b"travel booking assistant"):
            assert secret not in collector.raw
        again = job(tmp_path, traced_run(tmp_path), **variables)
        assert again[0] == ExitCode.SUCCEEDED
        assert [span.attributes["subterra.reused"] for span in collector.named("generate")] == [False, True]
        assert len({span.trace for span in collector.spans}) == 1, "of all attempts"
