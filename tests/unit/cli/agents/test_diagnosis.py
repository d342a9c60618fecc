"""`subterra why` names one cause and its fix, the one that explains the others."""

from datetime import UTC, datetime, timedelta
from typing import Any

from subterra_cli.agents.diagnosis import AgentObjects, diagnose
from subterra_operator.decide.agent.traffic_objects import NO_POOLS

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
EARLIER = "2026-11-20T11:00:00Z"


def condition(kind: str, status: str, reason: str, message: str = "") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def resource(*conditions: dict[str, str], **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "travel", "namespace": "demo", "generation": 1},
        "spec": {},
        "status": {"observedGeneration": 1, "conditions": [*conditions], **status},
    }


def not_serving(reason: str, message: str = "") -> dict[str, Any]:
    return resource(condition("Ready", "False", reason, message), condition("UpToDate", "False", reason, message))


def told(agent: dict[str, Any], **others: Any) -> list[str]:
    return diagnose(AgentObjects(agent, **others), NOW).lines()


def test_an_agent_that_serves_its_procedure_is_healthy() -> None:
    agent = resource(condition("Ready", "True", "Serving"), condition("UpToDate", "True", "UpToDate"), serving={"version": "1a2b"})
    found = diagnose(AgentObjects(agent), NOW)
    assert (found.healthy, found.lines()) == (True, ["travel: nothing is wrong; it serves version 1a2b"])


def test_what_another_evaluation_found_counts_once_the_agent_serves_its_procedure() -> None:
    serves = (condition("Ready", "True", "Serving"), condition("UpToDate", "True", "UpToDate"))

    def found(state: str, reason: str, message: str) -> tuple[bool, list[str]]:
        agent = resource(*serves, condition("Reevaluated", state, reason, message), serving={"version": "1a2b"})
        diagnosis = diagnose(AgentObjects(agent), NOW)
        return diagnosis.healthy, diagnosis.lines()

    assert found("True", "VerdictConfirmed", "Pass") == (True, ["travel: nothing is wrong; it serves version 1a2b"])
    assert found("Unknown", "Reevaluating", "run travel-2 evaluates it")[1][0].endswith("1a2b; run travel-2 evaluates it")
    assert found("True", "VerdictWorsened", "evaluated again: Fail; go back") == (
        False,
        ["travel: it serves version 1a2b; VerdictWorsened", "cause: evaluated again: Fail", "fix: go back"],
    )
    assert found("False", "ReevaluationRefused", "tomorrow is not a time; set it to the current time")[1][1:] == [
        "cause: tomorrow is not a time",
        "fix: set it to the current time",
    ]


def test_an_inference_pool_that_no_request_comes_through_is_wrong_though_the_agent_serves() -> None:
    serves = (condition("Ready", "True", "Serving"), condition("UpToDate", "True", "UpToDate"))
    blocked = condition("InferencePoolReady", "False", "InferencePoolBlocked", NO_POOLS)
    summary, cause, fix = told(resource(*serves, blocked, serving={"version": "1a2b"}))
    assert summary == "travel: it serves version 1a2b; InferencePoolBlocked"
    assert cause.startswith("cause: spec.serving.inferencePool needs InferencePools, and this cluster has none")
    assert fix.startswith("fix: install the Gateway API Inference Extension")
    ready = condition("InferencePoolReady", "True", "InferencePoolReady", "it has the pods of version 1a2b")
    assert told(resource(*serves, ready, serving={"version": "1a2b"})) == ["travel: nothing is wrong; it serves version 1a2b"]


def test_a_stage_that_works_is_nothing_wrong() -> None:
    run = {"status": {"stages": [{"name": "train", "state": "Running", "percent": 42}]}}
    found = diagnose(AgentObjects(not_serving("Compiling"), run), NOW)
    assert found.healthy
    assert found.lines() == ["travel: does not serve, Compiling; nothing is wrong: train: Running 42%"]


def test_an_operator_that_is_away_comes_before_what_its_old_status_says() -> None:
    assert told(not_serving("GateFailed", "old"), heartbeat=NOW - timedelta(minutes=5))[:2] == [
        "travel: the operator is away",
        "cause: the operator was last heard 5 min ago",
    ]


def test_an_agent_that_no_operator_has_seen_says_so() -> None:
    agent = {"metadata": {"name": "travel"}, "spec": {}, "status": {"observedGeneration": -1}}
    assert told(agent)[0] == "travel: no operator has seen it"


def test_an_invalid_procedure_is_quoted_with_its_errors() -> None:
    procedure = resource(condition("Accepted", "False", "InvalidProcedure", "node a: has no prompt; describe it"))
    assert told(not_serving("InvalidProcedure", "see the procedure"), procedure=procedure) == [
        "travel: does not serve, InvalidProcedure",
        "cause: node a: has no prompt; describe it",
        "fix: correct the procedure; `subterra lint FILE` names the lines",
    ]


def test_the_runs_own_words_come_before_those_of_the_agent() -> None:
    run = resource(condition("Stalled", "True", "BudgetExceeded", "the cap of $5 is used up; raise spec.budget.maxUSDPerRun"))
    assert told(not_serving("CompileFailed", "run travel-1 failed"), run=run) == [
        "travel: does not serve, CompileFailed",
        "cause: the cap of $5 is used up",
        "fix: raise spec.budget.maxUSDPerRun",
    ]


def test_a_rejected_candidate_says_which_criterion_and_what_to_read() -> None:
    agent = resource(condition("Ready", "True", "Serving"), condition("UpToDate", "False", "GateFailed", "conformance 0.6 < 0.8"))
    assert told(agent) == [
        "travel: serves an earlier version, GateFailed",
        "cause: conformance 0.6 < 0.8",
        "fix: read the report with `subterra report travel`, improve procedure or settings, and apply them",
    ]


def pending_pod() -> dict[str, Any]:
    scheduled = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient memory.",
        "lastTransitionTime": EARLIER,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "travel-1-train-1-x",
            "namespace": "demo",
            "creationTimestamp": EARLIER,
            "labels": {"subterra.dev/stage": "train"},
            "ownerReferences": [{"kind": "Job", "name": "travel-1-train-1"}],
        },
        "spec": {"containers": []},
        "status": {"phase": "Pending", "conditions": [scheduled]},
    }


def test_a_pod_that_fits_no_node_is_the_cause_and_the_field_to_edit_is_named() -> None:
    summary, cause, fix = told(not_serving("Compiling"), pods=[pending_pod()])
    assert summary == "travel: does not serve, Compiling (Unschedulable)"
    assert "Insufficient memory" in cause
    assert "spec.compile.template.execution.train" in fix


def test_a_pod_that_has_just_begun_to_wait_is_nothing_wrong() -> None:
    pod = pending_pod()
    pod["metadata"]["creationTimestamp"] = pod["status"]["conditions"][0]["lastTransitionTime"] = "2026-11-20T11:59:50Z"
    assert diagnose(AgentObjects(not_serving("Compiling"), pods=[pod]), NOW).healthy


def test_a_volume_that_is_not_mounted_is_explained_by_its_event() -> None:
    pod = pending_pod()
    pod["status"] = {"phase": "Pending", "startTime": EARLIER, "conditions": [{"type": "PodScheduled", "status": "True"}]}
    event = {
        "reason": "FailedMount",
        "message": "no such volume",
        "lastTimestamp": EARLIER,
        "involvedObject": {"kind": "Pod", "namespace": "demo", "name": "travel-1-train-1-x"},
    }
    assert told(not_serving("Compiling"), pods=[pod], warnings=[event])[1] == "cause: FailedMount: no such volume"
