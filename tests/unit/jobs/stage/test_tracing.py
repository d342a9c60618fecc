"""A stage's spans: one trace a run, bounded in time, and nothing at all without a collector."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from subterra_api.job_contract.environment import (
    ATTEMPT_VARIABLE,
    COLLECTOR_VARIABLE,
    JOB_VARIABLE,
    TERMINATION_LOG_VARIABLE,
    TRACED_CALLS_VARIABLE,
)
from subterra_api.job_contract.messages import ExitCode, RunIdentity, StageResult
from subterra_jobs.stage import tracing as module
from subterra_jobs.stage.cancellation import TERMINATED
from subterra_jobs.stage.span import Span
from subterra_jobs.stage.tracing import (
    FLUSH_SECONDS,
    PARENT_VARIABLE,
    Tracing,
    end_stage,
    stage_span,
    start_tracing,
    trace_id,
)
from subterra_testkit.runs.generation_inputs import run_input
from subterra_testkit.servers.local_server import free_port
from subterra_testkit.span_collector import ReceivedSpan, SpanCollector, span_collector

UID = "3f2b8c1e-8f0e-4c55-9a3e-0123456789ab"
RUN = RunIdentity(name="travel-1", namespace="demo", uid=UID, agent="travel")
POD = {ATTEMPT_VARIABLE: "2", JOB_VARIABLE: "travel-1-generate-2"}
RESULT = StageResult(stage="generate", key="k", path="datasets/k", usd="1.25", tokens=7000, message="done")


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[SpanCollector]:
    monkeypatch.setenv(PARENT_VARIABLE, "")
    monkeypatch.setattr(module, "_tracing", Tracing())
    with span_collector() as served:
        yield served


def stage(collector: SpanCollector, code: int, message: str = "done", result: StageResult | None = None) -> ReceivedSpan:
    """A stage that ends so, as the collector has it."""
    span = stage_span("generate", RUN, POD)
    tracing = start_tracing(RUN, {COLLECTOR_VARIABLE: collector.url})
    tracing.children_of(span)
    end_stage(span, code, message, result)
    tracing.flush()
    return collector.spans[-1]


def test_the_trace_is_the_runs_uid_and_the_stage_says_what_it_did(collector: SpanCollector) -> None:
    span = stage(collector, ExitCode.SUCCEEDED, result=RESULT)
    assert (span.trace, span.parent, span.name, span.error) == (UID.replace("-", ""), "", "generate", None)
    assert span.attributes == {
        "subterra.stage": "generate",
        "subterra.run": "travel-1",
        "subterra.agent": "travel",
        "subterra.attempt": 2,
        "k8s.job.name": "travel-1-generate-2",
        "subterra.usd": 1.25,
        "subterra.tokens": 7000,
        "subterra.reused": False,
        "subterra.artifact": "datasets/k",
        "process.exit.code": 0,
    }
    assert (span.resource["service.name"], span.resource["k8s.namespace.name"]) == ("subterra-jobs", "demo")


@pytest.mark.parametrize(
    ("code", "kind"), [(ExitCode.BUDGET_EXCEEDED, "BUDGET_EXCEEDED"), (ExitCode.INTERNAL, "INTERNAL"), (TERMINATED, "TERMINATED")]
)
def test_a_stage_that_failed_says_why_and_with_which_exit_code(collector: SpanCollector, code: int, kind: str) -> None:
    span = stage(collector, code, "the run's cap of $20 is reached")
    assert span.error == "the run's cap of $20 is reached"
    assert (span.attributes["error.type"], span.attributes["process.exit.code"]) == (kind, code)


def test_another_process_of_the_stage_adds_its_spans_to_the_stages_own(
    collector: SpanCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = stage(collector, ExitCode.SUCCEEDED)
    variables = {COLLECTOR_VARIABLE: collector.url, PARENT_VARIABLE: os.environ[PARENT_VARIABLE]}
    worker = start_tracing(RUN, variables)
    worker.end(Span("chat model", {}, client=True))
    worker.flush()
    [call] = collector.named("chat")
    assert (call.trace, call.parent, call.kind) == (parent.trace, parent.id, "client")
    other = start_tracing(RUN.model_copy(update={"uid": "another"}), variables)
    other.end(Span("chat of another run", {}))
    other.flush()
    assert collector.spans[-1].parent == "", "a parent in another trace is none"


def test_of_calls_a_share_is_sent_and_of_those_with_trouble_all(collector: SpanCollector) -> None:
    tracing = start_tracing(RUN, {COLLECTOR_VARIABLE: collector.url, TRACED_CALLS_VARIABLE: "0"})
    retried, failed = Span("retried", {}, client=True), Span("failed", {}, client=True, error="429")
    retried.add_event("subterra.refused", {"error.type": "429"})
    for span in (Span("fine", {}, client=True), retried, failed, Span("never sent", {}, client=True, began=None)):
        tracing.end(span)
    tracing.flush()
    assert {span.name for span in collector.spans} == {"retried", "failed"}


def test_a_dead_collector_costs_the_bound_at_most_and_one_warning(
    collector: SpanCollector, caplog: pytest.LogCaptureFixture
) -> None:
    tracing = start_tracing(RUN, {COLLECTOR_VARIABLE: f"http://127.0.0.1:{free_port()}"})
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        for number in range(10_000):  # more than may wait
            tracing.end(Span(f"chat {number}", {}))
        added = time.monotonic() - began
        tracing.flush()
    assert time.monotonic() - began - added < FLUSH_SECONDS + 1
    [warning] = [record.getMessage() for record in caplog.records]
    assert "Connection refused" in warning or "Queue full" in warning
    assert "tracing.endpoint (http://127.0.0.1:" in warning


def test_a_setting_that_the_sdk_refuses_fails_no_stage(
    collector: SpanCollector, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "100000")  # more than may wait
    assert not start_tracing(RUN, {COLLECTOR_VARIABLE: collector.url}).on
    assert "correct the variables that begin with OTEL_" in caplog.text


@pytest.mark.parametrize("end", ["", "/", "/v1/traces"])
def test_the_collectors_address_is_taken_with_and_without_the_path_of_spans(collector: SpanCollector, end: str) -> None:
    tracing = start_tracing(RUN, {COLLECTOR_VARIABLE: collector.url + end})
    tracing.end(Span("work", {}))
    tracing.flush()
    assert [span.name for span in collector.spans] == ["work"]


def test_what_is_no_uuid_has_a_trace_too() -> None:
    assert trace_id(UID) == int(UID.replace("-", ""), 16)
    assert 0 < trace_id("uid-1") < 2**128
    assert trace_id("uid-1") != trace_id("uid-2")


def test_without_a_collector_no_sdk_is_imported() -> None:
    code = (
        "import sys, subterra_jobs.stage.runner, subterra_jobs.llm.behavior.call_span as c, subterra_jobs.stage.tracing as t\n"
        "from subterra_api.job_contract.messages import RunIdentity\n"
        "span = t.stage_span('train', RunIdentity(name='a', namespace='b', uid='c'), {})\n"
        "tracing = t.start_tracing(RunIdentity(name='a', namespace='b', uid='c'), {}); tracing.children_of(span)\n"
        "t.end_stage(span, 0, '', None); tracing.flush()\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def job(folder: Path, collector: str, work: str) -> "subprocess.Popen[str]":
    """A stage's process whose work is a line of Python."""
    source = folder / "input.json"
    source.write_text(run_input(folder / "store").model_dump_json(by_alias=True))
    code = (
        "import time\nfrom subterra_jobs.stage.runner import StageOutcome, main\n"
        f"def work(context):\n    {work}\n    return StageOutcome('done')\nmain('generate', work)"
    )
    variables = {COLLECTOR_VARIABLE: collector, TERMINATION_LOG_VARIABLE: str(folder / "told")}
    command = [sys.executable, "-c", code, "--input", str(source)]
    return subprocess.Popen(command, env=os.environ | variables, stderr=subprocess.PIPE, text=True)


def test_a_dead_collector_changes_no_result_and_is_told_once(tmp_path: Path) -> None:
    with job(tmp_path, f"http://127.0.0.1:{free_port()}", "pass") as process:
        _, log = process.communicate(timeout=120)
    assert process.returncode == ExitCode.SUCCEEDED, log
    assert StageResult.model_validate_json((tmp_path / "told").read_text()).message == "done"
    assert log.count("spans are lost") == 1


def test_a_stage_that_a_signal_ends_still_sends_its_span(collector: SpanCollector, tmp_path: Path) -> None:
    with job(tmp_path, collector.url, "print('at work', file=__import__('sys').stderr, flush=True); time.sleep(100)") as process:
        assert process.stderr is not None
        assert any("at work" in line for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == TERMINATED
    [span] = collector.spans
    assert (span.attributes["error.type"], span.error) == ("TERMINATED", (tmp_path / "told").read_text())
