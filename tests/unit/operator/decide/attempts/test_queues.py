"""Stages behind a Kueue queue: created suspended, shown as waiting in Kueue's words, stopped and resumed through Kueue."""

from typing import Any

import pytest

from subterra_operator.decide.decision import Decision
from subterra_operator.kube.workload_reader import queued_workload
from subterra_operator.labels import SUSPENDED_BY_OPERATOR
from subterra_operator.resources import Key, Object
from subterra_operator.snapshot import QueuedWorkload
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster import run_decisions as runs
from subterra_testkit.cluster.decided_conditions import condition, message

QUEUE = {"queueName": "gpus"}
UID = "uid-travel-12345678-generate-1"
WORKLOAD = Key("Workload", make.NAMESPACE, UID)
FULL = "couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in flavor h200, 1 more needed"
ADMITTED = QueuedWorkload(name="job-travel-1a2b3", api_version="kueue.x-k8s.io/v1beta2")


def job(run: Object, *, suspended: bool, by_operator: bool = False, **status: Any) -> Object:
    """The first stage's Job."""
    made = runs.job(run, "generate", startTime=make.CREATED, **status)
    made["spec"]["suspend"] = suspended
    if suspended:
        made["status"]["conditions"] = [{"type": "Suspended", "status": "True"}]
    if by_operator:
        made["metadata"]["annotations"] = {SUSPENDED_BY_OPERATOR: "true"}
    return made


def decide(run: Object, of: Object, said: QueuedWorkload | None = None, **parts: Any) -> Decision:
    """A decision on a run whose first stage has that Job, about which Kueue says this."""
    workloads = {UID: said} if said else {}
    return runs.decide(run, 31, input=make.frozen(run), jobs=(of,), workloads=workloads, **parts)


def running(suspend: bool = False) -> Object:
    return make.run(runs.started(), {**QUEUE, "suspend": suspend})


def test_a_job_with_a_queue_is_created_suspended_as_kueues_webhook_would_have_it() -> None:
    made = runs.job(make.run(execution=QUEUE), "generate")
    assert made["spec"]["suspend"] is True
    assert "suspend" not in runs.job(make.run(), "generate")["spec"]


def test_a_stage_may_have_a_queue_of_its_own() -> None:
    run = make.run(execution={**QUEUE, "train": {"queueName": "large"}, "evaluate": {}})
    labels = [runs.job(run, stage)["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] for stage in ("generate", "train")]
    assert labels == ["gpus", "large"]
    alone = make.run(execution={"train": {"queueName": "large"}})
    assert "kueue.x-k8s.io/queue-name" not in runs.job(alone, "generate")["metadata"]["labels"]


def test_what_kueue_says_is_asked_for_and_then_told() -> None:
    run, waiting = running(), job(running(), suspended=True)
    first = decide(run, waiting)
    assert (first.lookups, first.recheck_after) == ((WORKLOAD,), 30)
    assert message(first, "Reconciling").startswith("generate: waiting for admission to queue gpus; it starts by itself")
    told = decide(run, waiting, QueuedWorkload(name="w", words=FULL))
    assert condition(told, "Reconciling") == ("True", "Queued")
    assert f"waiting for admission to queue gpus: {FULL}; it starts by itself" in message(told, "Reconciling")


def test_a_cluster_without_kueue_is_named_with_what_to_install() -> None:
    told = decide(running(), job(running(), suspended=True), QueuedWorkload(installed=False))
    assert "this cluster has no Kueue (workloads.kueue.x-k8s.io); install Kueue; or remove execution.generate.queueName" in message(
        told, "Reconciling"
    )


def test_a_workload_that_somebody_stopped_is_named_with_the_command_that_resumes_it() -> None:
    told = decide(running(), job(running(), suspended=True), QueuedWorkload(name="w", active=False))
    assert "kubectl patch workload w --type merge" in message(told, "Reconciling")


def test_preemption_is_no_failure_and_no_further_attempt() -> None:
    """Kueue suspends the Job again; its pod ends by SIGTERM."""
    preempted = job(running(), suspended=True)
    ended = make.pod_of(preempted, terminated=make.ended(143))
    decision = decide(running(), preempted, QueuedWorkload(name="w", words="Preempted: to make room"), pods=(ended,))
    stage = runs.stage(decision, "generate")
    assert (stage["state"], stage["attempt"], stage.get("retries", 0)) == ("Running", 1, 0)
    assert (decision.writes, stage["reason"]) == ((), "Queued")


def written(decision: Decision) -> list[Object]:
    return [write.object for write in decision.writes]


def test_a_suspended_run_leaves_the_queue_because_kueue_would_resume_a_job_that_it_has_admitted() -> None:
    [workload, mark] = written(decide(running(suspend=True), job(running(), suspended=False), ADMITTED))
    assert (workload["kind"], workload["apiVersion"], workload["spec"]) == ("Workload", ADMITTED.api_version, {"active": False})
    assert workload["metadata"] == {"name": ADMITTED.name, "namespace": make.NAMESPACE}
    assert mark["metadata"]["annotations"] == {SUSPENDED_BY_OPERATOR: "true"}
    assert "spec" not in mark, "Kueue suspends it"


def test_a_resumed_run_waits_in_the_queue_again() -> None:
    stopped = job(running(), suspended=True, by_operator=True)
    [workload, mark] = written(decide(running(), stopped, ADMITTED))
    assert workload["spec"] == {"active": True}
    assert mark["metadata"]["annotations"] == {SUSPENDED_BY_OPERATOR: None}


@pytest.mark.parametrize(
    ("suspended", "by_operator", "count"),
    [
        pytest.param(True, True, 0, id="done"),
        pytest.param(False, True, 1, id="marked, but it runs: stopped once more"),
        pytest.param(True, False, 2, id="not admitted yet"),
    ],
)
def test_a_suspended_run_stays_out_of_the_queue(suspended: bool, by_operator: bool, count: int) -> None:
    found = job(running(), suspended=suspended, by_operator=by_operator)
    assert len(written(decide(running(suspend=True), found, ADMITTED))) == count


def test_before_the_workload_is_known_nothing_is_written_and_it_is_asked_for() -> None:
    decision = decide(running(suspend=True), job(running(), suspended=False, active=1))
    assert (decision.writes, decision.lookups) == ((), (WORKLOAD,))


def test_where_kueue_is_gone_a_job_is_suspended_directly() -> None:
    [write] = written(decide(running(suspend=True), job(running(), suspended=False), QueuedWorkload(installed=False)))
    assert (write["kind"], write["spec"]) == ("Job", {"suspend": True})


def workload(conditions: list[Object], **status: Any) -> Object:
    metadata = {"name": "job-travel-1a2b3", "creationTimestamp": make.CREATED}
    return {
        "apiVersion": "kueue.x-k8s.io/v1beta1",
        "kind": "Workload",
        "metadata": metadata,
        "spec": {"active": True},
        "status": {"conditions": conditions, **status},
    }


def test_kueues_words_are_read_from_quota_eviction_and_admission_checks() -> None:
    pending = {"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": FULL}
    assert queued_workload([workload([pending])]).words == FULL
    evicted = {"type": "Evicted", "status": "True", "reason": "Preempted", "message": "to make room"}
    assert queued_workload([workload([evicted, {**pending, "message": "to make room"}])]).words == "Preempted: to make room"
    reserved = {"type": "QuotaReserved", "status": "True", "message": "Quota reserved"}
    checks = [{"name": "capacity", "state": "Pending", "message": "nodes are being made"}, {"name": "ok", "state": "Ready"}]
    assert queued_workload([workload([reserved], admissionChecks=checks)]).words == "capacity: nodes are being made"
    assert queued_workload([]) == QueuedWorkload()


@pytest.mark.parametrize(
    ("reason", "requeued"),
    [
        pytest.param("Deactivated", "Reactivated", id="resumed"),
        pytest.param("DeactivatedDueToRequeuingLimitExceeded", None, id="stopped before it had quota, and resumed"),
        pytest.param("ClusterQueueStopped", "ClusterQueueRestarted", id="its queue goes on"),
    ],
)
def test_an_eviction_whose_cause_has_passed_is_not_told(reason: str, requeued: str | None) -> None:
    """Kueue leaves the condition as it is until there is quota again."""
    evicted = {"type": "Evicted", "status": "True", "reason": reason, "message": "The workload is deactivated"}
    again = [{"type": "Requeued", "status": "True", "reason": requeued, "message": "again"}] if requeued else []
    pending = {"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": FULL}
    assert queued_workload([workload([evicted, *again, pending])]).words == FULL


def test_a_preemption_is_told_until_there_is_quota_again() -> None:
    evicted = {"type": "Evicted", "status": "True", "reason": "Preempted", "message": "to make room"}
    again = {"type": "Requeued", "status": "True", "reason": "Preempted", "message": "to make room"}
    pending = {"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": FULL}
    assert queued_workload([workload([evicted, again, pending])]).words == f"Preempted: to make room; {FULL}"
