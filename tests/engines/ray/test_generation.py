"""The whole stage on real Ray: bytes, money, and death of workers."""

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from subterra_api.job_contract.artifacts import artifact_path, lease_path
from subterra_api.job_contract.environment import BUDGET_VARIABLE, WORKERS_VARIABLE
from subterra_api.job_contract.messages import Budget, ExitCode, RunInput, StageResult
from subterra_jobs.dialogue.sampling import held_out
from subterra_jobs.errors import InfrastructureError, ProviderBlockedError
from subterra_jobs.generate import main as stage
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.workers.ray_pool import PoolShape, RayPool
from subterra_jobs.generate.written_conversation import Conversation
from subterra_jobs.stage.cancellation import TERMINATED
from subterra_jobs.stage.runner import StageOutcome, execute
from subterra_testkit.runs.generation_inputs import PAID, run_input
from subterra_testkit.runs.generation_runs import generate, lease_of
from subterra_testkit.runs.in_process_pool import InProcessPool
from subterra_testkit.servers.fake_llm_api import (
    CUT,
    NO_CREDIT,
    OVERLOADED,
    RATE_LIMITED,
    FakeLLMApi,
    Fault,
    fake_llm_api,
    first_fault,
    outage,
    random_faults,
)

PATIENCE = 240
"""Seconds for a job on a busy machine: Ray alone may take 30 to start, three times."""


def rows(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_dataset_has_the_same_bytes_with_one_worker_and_with_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = []
    monkeypatch.setattr(stage, "SCRIPTED_BATCH", 50)  # three batches, so that workers hand them in in any order
    for workers in (1, 2):
        monkeypatch.setenv(WORKERS_VARIABLE, str(workers))
        outcome, output = generate(run_input(tmp_path, conversations=150), tmp_path / str(workers))
        contents.append({file.name: file.read_bytes() for file in output.iterdir()})
    assert contents[0] == contents[1]
    assert set(contents[0]) == {"train.jsonl", "heldout.jsonl", "labels.jsonl", "coverage.json", "audit.json"}
    train, held, labels = (rows(output / name) for name in ("train.jsonl", "heldout.jsonl", "labels.jsonl"))
    assert outcome.message.startswith(
        f"{len(train)} training conversations, {len(held)} held out, "
        "22 of 22 edges and 28 of 28 pairs of consecutive edges at least 3 times, rarest ending "
    )
    assert len(train) + len(held) == len(labels) == 150
    for row in [*train, *held]:
        chat = row["messages"]
        assert isinstance(chat, list)
        assert chat[0] == {"role": "system", "content": "You are a helpful travel booking assistant."}
        assert all(first["role"] != second["role"] for first, second in itertools.pairwise(chat))
    assert "{{" not in (output / "train.jsonl").read_text()
    assert not any(held_out("destination", row["values"]["destination"]) for row in labels)  # type: ignore[index]


def test_a_dead_worker_is_replaced_and_nothing_is_paid_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_llm_api(FakeLLMApi(seconds=0.02)) as api:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
        run = run_input(tmp_path, teacher=PAID)
        plan = plan_conversations(run.procedure, run.generation)
        finished: list[Conversation] = []
        with RayPool(run, PoolShape(workers=1, batch=20, concurrency=4, calls=4), Budget(), lease_of(run).check) as pool:
            victim = pool.pids()[0]
            killer = threading.Thread(target=kill_when, args=(lambda: api.paid > 40, victim))
            killer.start()
            pool.write([Conversation(planned) for planned in plan], finished.extend)
            killer.join()
            assert pool.pids()[0] != victim
            figures = pool.usage()
    turns = sum(len(planned.path) + len(planned.audited) for planned in plan)
    assert sorted(each.spec.id for each in finished) == [planned.id for planned in plan]
    assert turns <= api.paid <= turns + 4  # at most the calls in flight are paid again
    assert figures is not None
    assert float(figures.usd) >= 0.0036 * (turns - 4)  # what they may have cost is booked as the dead worker last told it


def test_workers_that_die_while_nothing_gets_done_end_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = threading.Event()

    def kill_all() -> None:
        while not stopped.wait(0.1):
            for child in psutil.Process().children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    if child.name().startswith("ray::LLMWorker"):
                        child.kill()

    with fake_llm_api(FakeLLMApi(seconds=60)) as api:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
        run = run_input(tmp_path, teacher=PAID)
        with RayPool(run, PoolShape(workers=1, batch=20, concurrency=4, calls=4), Budget(), lease_of(run).check) as pool:
            killer = threading.Thread(target=kill_all)
            killer.start()
            try:
                with pytest.raises(InfrastructureError, match="3 workers died without making progress"):
                    pool.write(
                        [Conversation(planned) for planned in plan_conversations(run.procedure, run.generation)], lambda _: None
                    )
            finally:
                stopped.set()
                killer.join()


def wait_until(ready: Callable[[], bool]) -> None:
    """A minute at most."""
    deadline = time.monotonic() + 60
    while not ready() and time.monotonic() < deadline:
        time.sleep(0.01)


def kill_when(ready: Callable[[], bool], pid: int) -> None:
    wait_until(ready)
    os.kill(pid, signal.SIGKILL)


def test_a_blocked_paid_run_keeps_what_it_paid_and_its_retry_pays_for_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
    with fake_llm_api(FakeLLMApi(after=(70, NO_CREDIT))) as api:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
        run = run_input(tmp_path, teacher=PAID)
        with pytest.raises(ProviderBlockedError, match="top up"):
            generate(run, tmp_path / "first", max_usd="5")
        assert api.paid == 70
        api.after = None
        monkeypatch.setattr(stage, "RayPool", InProcessPool)  # what was paid is in the store, whoever asks next
        outcome, output = generate(run, tmp_path / "second")
        turns = turns_of(run)
        assert api.paid == turns
        assert float(outcome.usd) == pytest.approx(0.0036 * turns)
        assert outcome.tokens == 720 * turns
        assert len(rows(output / "train.jsonl")) + len(rows(output / "heldout.jsonl")) == 20


def test_twenty_seconds_of_nothing_but_429_and_faults_by_chance_are_sat_out_and_paid_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
    quiet_fault = Fault(429, "rate_limit_error", "slow down")
    script = first_fault(
        outage(20, quiet_fault, after=100), random_faults(0.05, RATE_LIMITED, OVERLOADED), random_faults(0.02, CUT)
    )
    with fake_llm_api(FakeLLMApi(seconds=0.05, script=script)) as api:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
        run = run_input(tmp_path, teacher=PAID)
        outcome, output = generate(run, tmp_path / "run")
    turns = sum(len(planned.path) + len(planned.audited) for planned in plan_conversations(run.procedure, run.generation))
    assert api.paid == turns
    assert float(outcome.usd) == pytest.approx(0.0036 * turns)
    assert len(rows(output / "train.jsonl")) + len(rows(output / "heldout.jsonl")) == 20


@contextmanager
def termination(tmp_path: Path, run: RunInput, *arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """The stage as its Job starts it, with its own progress port; what it and Ray print stands with a test that fails."""
    source, log = tmp_path / "input.json", tmp_path / "termination"
    source.write_text(run.model_dump_json(by_alias=True))
    command = [sys.executable, "-m", "subterra_jobs.generate", "--input", str(source), *arguments]
    env = os.environ | {"SUBTERRA_TERMINATION_LOG": str(log), WORKERS_VARIABLE: "1"} | environment
    with (tmp_path / "stderr").open("a+") as stderr:
        process = subprocess.Popen(command, env=env, stderr=stderr, text=True, cwd=tmp_path)
        try:
            yield process, log
        finally:
            process.kill()
            process.wait()
            stderr.seek(0)
            sys.stderr.write(stderr.read())


def test_the_job_writes_its_result_and_attach_reads_it_back_for_nothing(tmp_path: Path) -> None:
    run = run_input(tmp_path / "store")
    with termination(tmp_path, run, "--attach") as (process, log):
        assert process.wait(PATIENCE) == ExitCode.INFRASTRUCTURE
        assert "retry-at" in log.read_text()
    with termination(tmp_path, run) as (process, log):
        assert process.wait(PATIENCE) == ExitCode.SUCCEEDED
        first = StageResult.model_validate_json(log.read_text())
    assert not first.reused
    assert first.path == artifact_path("generate", run.keys.dataset)
    assert (tmp_path / "store" / first.path / "manifest.json").exists()
    with termination(tmp_path, run, "--attach") as (process, log):
        assert process.wait(PATIENCE) == ExitCode.SUCCEEDED
        again = StageResult.model_validate_json(log.read_text())
    assert again.reused
    assert again.digest == first.digest


def test_a_job_without_its_key_says_which_field_to_set(tmp_path: Path) -> None:
    with termination(tmp_path, run_input(tmp_path / "store", teacher=PAID), ANTHROPIC_API_KEY="") as (process, log):
        assert process.wait(PATIENCE) == ExitCode.INVALID_INPUT
        assert "execution.apiKeySecret" in log.read_text()


def test_a_killed_paid_job_is_resumed_by_the_next_and_pays_again_only_for_calls_in_flight(tmp_path: Path) -> None:
    with fake_llm_api(FakeLLMApi(seconds=0.3)) as api:
        run = run_input(tmp_path / "store", teacher=PAID)
        keys = {"ANTHROPIC_BASE_URL": api.url, "ANTHROPIC_API_KEY": "sk-test"}
        with termination(tmp_path, run, **keys) as (process, _):
            wait_until(lambda: api.paid >= 60)
            process.kill()
            process.wait()
        paid_at_kill = quiet(lambda: api.paid)
        shutil.rmtree(tmp_path / "store" / lease_path(run.keys.dataset))  # as if a minute had passed
        with termination(tmp_path, run, **keys) as (process, log):
            assert process.wait(PATIENCE) == ExitCode.SUCCEEDED
            result = StageResult.model_validate_json(log.read_text())
        turns = turns_of(run)
        assert paid_at_kill >= 60
        assert turns <= api.paid <= turns + api.peak
        assert float(result.usd) == pytest.approx(0.0036 * api.paid, abs=0.0036 * api.peak)


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGTERM, id="SIGTERM"),
        pytest.param(signal.SIGINT, id="SIGINT", marks=pytest.mark.exhaustive),  # one handler for both
    ],
)
def test_a_paid_job_that_is_told_to_stop_keeps_its_calls_in_flight_and_the_next_pays_for_the_rest(
    tmp_path: Path, number: signal.Signals
) -> None:
    with fake_llm_api(FakeLLMApi(seconds=0.3)) as api:
        run = run_input(tmp_path / "store", teacher=PAID)
        keys = {"ANTHROPIC_BASE_URL": api.url, "ANTHROPIC_API_KEY": "sk-test"}
        with termination(tmp_path, run, **keys) as (process, log):
            wait_until(lambda: api.paid >= 60)
            api.seconds = 4.0  # Ray's own handler would abort the process after 3
            quiet(lambda: api.paid)
            process.send_signal(number)
            assert process.wait(PATIENCE) == TERMINATED
            assert log.read_text() == "stopped by a signal; finished work and paid responses are kept"
        assert 60 <= api.paid < turns_of(run)
        api.seconds = 0.0
        with termination(tmp_path, run, **keys) as (process, _):
            assert process.wait(PATIENCE) == ExitCode.SUCCEEDED
        assert api.paid == turns_of(run)


def turns_of(run: RunInput) -> int:
    """Calls that the dataset takes."""
    return sum(len(planned.path) + len(planned.audited) for planned in plan_conversations(run.procedure, run.generation))


def quiet(count: Callable[[], int], still: float = 1.0) -> int:
    """The count once it has not changed for a while: orphaned workers end by themselves."""
    deadline, seen, since = time.monotonic() + 30, count(), time.monotonic()
    while time.monotonic() < deadline and time.monotonic() - since < still:
        if (now := count()) != seen:
            seen, since = now, time.monotonic()
        time.sleep(0.05)
    return seen


def test_the_jobs_environment_caps_its_spending_and_its_message_has_the_arithmetic(tmp_path: Path) -> None:
    with fake_llm_api() as api:
        run = run_input(tmp_path / "store", teacher=PAID)
        keys = {"ANTHROPIC_BASE_URL": api.url, "ANTHROPIC_API_KEY": "sk-test", BUDGET_VARIABLE: '{"maxUSDPer30Days": "0.1"}'}
        with termination(tmp_path, run, **keys) as (process, log):
            assert process.wait(PATIENCE) == ExitCode.BUDGET_EXCEEDED
            assert log.read_text().startswith("the cap per 30 days is $0.1: agent travel paid $0.")
        assert 0 < api.paid * 0.0036 <= 0.1


def test_a_taken_progress_port_does_not_end_the_stage(tmp_path: Path) -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        result = execute("generate", lambda _: StageOutcome("done"), run_input(tmp_path), port=port)
    assert result.message == "done"
