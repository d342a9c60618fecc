"""What `subterra watch` says to people."""

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from subterra_cli.agents.watch_compile import blocking_problem, duration, is_served, stage_views, watch
from subterra_cli.cluster import ClusterAccessError


def test_progress_follows_the_statuses() -> None:
    run = {
        "status": {
            "stages": [
                {"name": "generate", "state": "Succeeded", "percent": 100},
                {"name": "train", "state": "Running", "percent": 42},
            ]
        }
    }
    agent = {"metadata": {"name": "travel"}, "status": {"currentRun": "travel-1", "price": {"usdPerConversation": "0.0001"}}}
    stages = {stage.name: stage for stage in stage_views(agent, run)}
    assert [stages[name].state for name in ("generate", "train", "evaluate", "serve", "price")] == [
        "Succeeded",
        "Running",
        "Pending",
        "Pending",
        "Succeeded",
    ]
    assert (stages["train"].percent, stages["price"].message) == (42, "$0.0001 per conversation")


def test_a_duration_reads_like_one() -> None:
    assert (duration(9), duration(75), duration(3605)) == ("9s", "1m 15s", "60m 05s")


def agent_with(**up_to_date: str) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": "True"}, {"type": "UpToDate", **up_to_date}]
    return {"metadata": {"generation": 2}, "status": {"observedGeneration": 2, "conditions": conditions}}


def test_watching_ends_when_the_agent_serves_what_its_procedure_says() -> None:
    assert is_served(agent_with(status="True"))
    assert not is_served(agent_with(status="False"))
    assert not is_served(agent_with(status="True") | {"metadata": {"generation": 3}})


def test_a_rejected_candidate_is_trouble_and_work_in_progress_is_not() -> None:
    assert blocking_problem(agent_with(status="False", reason="GateFailed", message="conformance")) == "GateFailed: conformance"
    assert blocking_problem(agent_with(status="False", reason="Compiling", message="train 3%")) is None


def test_a_pod_that_does_not_run_may_still_start() -> None:
    assert blocking_problem(agent_with(status="False", reason="Unschedulable", message="no node")) is None


class Reader:
    """A cluster whose run goes through these stages, one at each look."""

    target = None

    def __init__(self, *stages: dict[str, Any]) -> None:
        self.stages = list(stages)

    def now(self) -> datetime:
        return datetime(2026, 11, 28, tzinfo=UTC)

    def last_heartbeat(self) -> None:
        """The user may not read it."""

    def get(self, kind: str, name: str) -> dict[str, Any]:
        if kind == "compileruns":
            return {"status": {"stages": [self.stages.pop(0)]}}
        if not self.stages:
            return agent_with(status="True")
        waiting = agent_with(status="False", reason="Compiling", message="at work")
        return {**waiting, "status": {**waiting["status"], "currentRun": "travel-1"}}


def test_a_log_says_why_a_pod_waits_once_the_operator_knows_a_reason_and_when_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a healthy run, too, the scheduler's first look finds no room, because the pod before is still there."""
    monkeypatch.setattr("subterra_cli.agents.watch_compile.time.sleep", lambda _: None)
    running = {"name": "train", "state": "Running"}
    pending = {**running, "message": "pod pending: unschedulable: Insufficient cpu"}
    blocked = {**running, "message": "unschedulable: Insufficient cpu; add a node", "reason": "Unschedulable"}
    reader: Any = Reader(pending, pending, blocked, running, {**running, "message": "step 1"})
    output = io.StringIO()
    watch(reader, "travel", Console(file=output, width=200), timeout=100, clock=lambda: 0.0)
    lines = [line.partition("] ")[2] for line in output.getvalue().splitlines() if "train:" in line]
    assert lines == [
        "train: Running 0%",
        "train: Running 0% unschedulable: Insufficient cpu; add a node",
        "train: Running 0%",
    ]


class Reevaluated:
    """A cluster whose agent serves, and is evaluated again: once in progress, then with this result."""

    target = None

    def __init__(self, *results: tuple[str, str, str]) -> None:
        self.results = list(results)

    def now(self) -> datetime:
        return datetime(2026, 11, 28, tzinfo=UTC)

    def last_heartbeat(self) -> None:
        """The user may not read it."""

    def get(self, kind: str, name: str) -> dict[str, Any]:
        if kind == "compileruns":
            return {"status": {"stages": [{"name": "evaluate", "state": "Running", "percent": 40}]}}
        agent, (state, reason, message) = agent_with(status="True"), self.results.pop(0)
        agent["metadata"]["name"] = "travel"
        agent["status"]["conditions"] += [{"type": "Reevaluated", "status": state, "reason": reason, "message": message}]
        agent["status"]["reevaluation"] = {"run": "travel-2", **({} if state == "Unknown" else {"endedAt": "now"})}
        return agent


IN_PROGRESS = ("Unknown", "Reevaluating", "run travel-2 evaluates it again")


def followed(monkeypatch: pytest.MonkeyPatch, *results: tuple[str, str, str]) -> list[str]:
    monkeypatch.setattr("subterra_cli.agents.watch_compile.time.sleep", lambda _: None)
    output, reader = io.StringIO(), Reevaluated(*results)
    watch(reader, "travel", Console(file=output, width=200), timeout=100, clock=lambda: 0.0)  # type: ignore[arg-type]
    return [line.partition("] ")[2] or line for line in output.getvalue().splitlines() if line]


def test_watching_goes_on_while_what_serves_is_evaluated_again_and_ends_with_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    confirmed = ("True", "VerdictConfirmed", "evaluated again: Pass")
    assert followed(monkeypatch, IN_PROGRESS, confirmed)[0] == "evaluate: Running 40%"
    assert followed(monkeypatch, IN_PROGRESS, IN_PROGRESS, confirmed)[-1] == "evaluated again: Pass"


def test_a_worse_verdict_ends_the_watching_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClusterAccessError, match="CompiledAgent travel: VerdictWorsened: evaluated again: Fail"):
        followed(monkeypatch, IN_PROGRESS, ("True", "VerdictWorsened", "evaluated again: Fail"))


def test_a_result_that_was_there_before_is_not_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Fail" not in "".join(followed(monkeypatch, ("True", "VerdictWorsened", "evaluated again: Fail")))
