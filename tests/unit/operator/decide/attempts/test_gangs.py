"""A training on several nodes, decided: its JobSet counts as the attempt, and its pods live and die together."""

from typing import Any

import pytest

from subterra_api.job_contract.messages import LOST_CONTACT
from subterra_operator.decide.decision import Decision
from subterra_operator.labels import FAILURE_REASON, NODES_LABEL, SUSPENDED_BY_OPERATOR
from subterra_operator.resources import Key, Object
from subterra_operator.settings import Settings, StoreSettings
from subterra_operator.snapshot import RunSnapshot, Warned
from subterra_operator.specs.run_input import artifact_keys_of
from subterra_operator.specs.stage_env.job_set import only_job_of
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster import run_decisions as runs
from subterra_testkit.cluster.decided_conditions import condition, message

TWO = {"train": {"nodes": 2}}
NAME = "travel-12345678-train-1"
STARTED = {"startTime": make.CREATED, "active": 2}


def gang(run: Object, *conditions: Object, **status: Any) -> tuple[Object, Object]:
    """The JobSet of a run's training with these conditions, and its Job with this status."""
    job_set = runs.job(run, "train", conditions=list(conditions))
    assert job_set["kind"] == "JobSet"
    template = job_set["spec"]["replicatedJobs"][0]["template"]
    owner = {"kind": "JobSet", "name": NAME, "uid": job_set["metadata"]["uid"], "controller": True}
    metadata = {"name": only_job_of(NAME), "namespace": make.NAMESPACE, "labels": template["metadata"]["labels"]}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata | {"ownerReferences": [owner]}, "spec": template["spec"]}
    return job_set, make.stored(job, **(STARTED | status))


def pod(job: Object, index: int, **state: Any) -> Object:
    """One of the pods; ``state`` is that of its main container."""
    made = make.pod_of(job, **(state or {"running": {}}))
    made["metadata"]["name"] += f"-{index}"
    made["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] = str(index)
    return made


def decide(run: Object, of: tuple[Object, Object | None], *pods: Object, later: float = 60, **parts: Any) -> Decision:
    members = (of[1],) if of[1] else ()
    return runs.decide(run, later, input=make.frozen(run), jobs=(of[0],), members=members, pods=pods, **parts)


def training(**execution: Any) -> Object:
    return make.run(runs.started("train", job_name=NAME), {**TWO, **execution})


def test_the_training_is_created_as_a_jobset() -> None:
    status = {"stages": [{"name": "generate", **runs.DONE}, {"name": "train", "state": "Pending"}]}
    run = make.run(status, TWO)
    decision = runs.decide(run, input=make.frozen(run))
    assert (runs.created(decision, "JobSet"), runs.created(decision)) == ([NAME], [])
    assert runs.stage(decision, "train")["jobName"] == NAME


def test_it_has_succeeded_when_node_0_says_so_which_publishes_last() -> None:
    run = training()
    result = make.result("train", artifact_keys_of(make.frozen(run)).of("train"))
    of = gang(run, {"type": "Completed", "status": "True", "lastTransitionTime": make.CREATED}, active=0, succeeded=2)
    waiting = decide(run, of, pod(of[1], 0), pod(of[1], 1, terminated=make.ended()))
    assert runs.stage(waiting, "train")["state"] == "Running"
    done = decide(run, of, pod(of[1], 0, terminated=make.ended(0, result)), pod(of[1], 1, terminated=make.ended()))
    assert runs.stage(done, "train")["state"] == "Succeeded"


def test_a_completed_jobset_whose_pods_are_gone_has_its_result_read_back_by_one_pod() -> None:
    run = training()
    of = gang(run, {"type": "Completed", "status": "True", "lastTransitionTime": make.CREATED})
    assert runs.created(decide(run, of)) == [f"{NAME}-attach"]


def test_the_pod_that_failed_by_itself_says_why_and_all_start_again_as_the_next_attempt() -> None:
    run = training()
    of = gang(run, {"type": "Failed", "status": "True", "reason": "FailedJobs", "message": "jobset failed"}, active=0, failed=2)
    first = make.ended(14, "a rank was killed (exit code 137)") | {"finishedAt": "2026-11-20T12:00:11Z"}
    second = make.ended(14, f"{LOST_CONTACT}: mostly one was killed") | {"finishedAt": "2026-11-20T12:00:10Z"}
    decision = decide(run, of, pod(of[1], 0, terminated=second), pod(of[1], 1, terminated=first))
    stage = runs.stage(decision, "train")
    assert (stage["state"], stage["reason"]) == ("Pending", "Infrastructure")
    assert stage["message"].startswith("a rank was killed")
    again = {**run, "status": decision.status}
    assert runs.created(decide(again, of, later=90), "JobSet") == ["travel-12345678-train-2"]


def test_a_drained_node_is_a_disruption_although_the_others_failed_before_it() -> None:
    run = training()
    of = gang(run, failed=2)
    lost = pod(of[1], 0, terminated=make.ended(14, LOST_CONTACT))
    drained = pod(of[1], 1, terminated=make.ended(143) | {"finishedAt": "2026-11-20T12:00:30Z"})
    drained["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]
    stage = runs.stage(decide(run, of, lost, drained), "train")
    assert (stage["state"], stage["reason"], stage.get("retries", 0)) == ("Pending", "Disrupted", 0)


def test_a_bad_input_is_final_as_the_exit_code_in_the_jobs_condition_says_when_the_pods_are_gone() -> None:
    run = training()
    failed = {
        "type": "Failed",
        "status": "True",
        "reason": "PodFailurePolicy",
        "message": "Container main failed with exit code 10",
    }
    of = gang(run, {"type": "Failed", "status": "True", "reason": "FailedJobs", "message": "x"}, conditions=[failed], active=0)
    assert condition(decide(run, of), "Stalled") == ("True", "InvalidInput")


def test_a_deleted_jobset_is_a_disruption() -> None:
    run = training()
    decision = runs.decide(run, 60, input=make.frozen(run))
    assert (runs.stage(decision, "train")["state"], runs.stage(decision, "train")["reason"]) == ("Pending", "Disrupted")


def test_one_pod_that_does_not_start_holds_up_all() -> None:
    run = training()
    of = gang(run)
    stuck = {**pod(of[1], 1), "status": {"phase": "Pending", "conditions": [_unscheduled("0/2 nodes are available")]}}
    decision = decide(run, of, pod(of[1], 0), stuck)
    assert condition(decision, "Reconciling") == ("True", "Unschedulable")


def test_a_pod_that_a_quota_refuses_is_told_by_the_event_of_the_jobsets_job() -> None:
    run = training()
    of = gang(run, active=1)
    key = Key("Job", make.NAMESPACE, only_job_of(NAME))
    assert key in decide(run, of, pod(of[1], 0)).lookups
    words = "exceeded quota: small, requested: pods=1, used: pods=1, limited: pods=1"
    events = {key: (Warned("FailedCreate", f'Error creating: pods "x" is forbidden: {words}'),)}
    assert condition(decide(run, of, pod(of[1], 0), events=events), "Reconciling") == ("True", "QuotaExceeded")
    late = decide(run, of, pod(of[1], 0), events=events, later=6 * 3600)
    assert condition(late, "Stalled") == ("True", "SchedulingDeadlineExceeded"), "although node 0 runs"


def test_a_jobset_whose_controller_does_not_run_is_told() -> None:
    run = training()
    decision = decide(run, (gang(run)[0], None))
    assert condition(decision, "Reconciling") == ("True", "PodPending")
    assert f"see kubectl describe jobset {NAME} and whether JobSet's controller runs" in message(decision, "Reconciling")


def test_pods_that_do_not_start_in_time_fail_the_stage_and_then_the_jobset_is_deleted() -> None:
    run = training()
    of = gang(run)
    waiting = {**pod(of[1], 1), "status": {"phase": "Pending", "conditions": [_unscheduled("no room")]}}
    decision = decide(run, of, waiting, later=6 * 3600 + 1)
    [write] = decision.writes
    assert (write.verb, write.object["kind"], write.object.get("spec")) == ("patch", "JobSet", None)
    assert condition(decision, "Stalled") == ("True", "SchedulingDeadlineExceeded")
    assert decision.deletes == (), "only once the reason is recorded"
    of[0]["metadata"]["annotations"] = {FAILURE_REASON: "not started"}
    after = decide({**run, "status": decision.status}, of, waiting, later=6 * 3600 + 2)
    assert [obj["metadata"]["name"] for obj in after.deletes] == [NAME]
    assert condition(after, "Stalled") == ("True", "SchedulingDeadlineExceeded")
    gone = runs.decide({**run, "status": after.status}, 6 * 3600 + 3, input=make.frozen(run))
    assert condition(gone, "Stalled") == ("True", "SchedulingDeadlineExceeded")


def test_a_suspended_run_suspends_its_jobset_and_resumes_it_as_the_same_attempt() -> None:
    of = gang(training())
    [write] = decide(training(suspend=True), of, pod(of[1], 0), pod(of[1], 1)).writes
    assert (write.object["kind"], write.object["spec"]) == ("JobSet", {"suspend": True})
    held = gang(training(), {"type": "Suspended", "status": "True"}, active=0)
    held[0]["spec"]["suspend"] = True
    held[0]["metadata"]["annotations"] = {SUSPENDED_BY_OPERATOR: "true"}
    killed = pod(held[1], 0, terminated=make.ended(143))
    [write] = decide(training(), held, killed).writes
    assert write.object["spec"] == {"suspend": False}


def test_a_jobset_in_a_queue_waits_without_a_deadline() -> None:
    run = training(queueName="gpus")
    held = gang(run, {"type": "Suspended", "status": "True"}, active=0)
    held[0]["spec"]["suspend"] = True
    decision = decide(run, held, later=99 * 3600)
    assert decision.writes == ()
    assert condition(decision, "Reconciling") == ("True", "Queued")
    assert decision.lookups == (Key("Workload", make.NAMESPACE, held[0]["metadata"]["uid"]),)


@pytest.mark.parametrize(
    ("parts", "settings", "words"),
    [
        ({"job_sets": False}, {}, "this cluster has no JobSets (jobsets.jobset.x-k8s.io)"),
        ({}, {"access_mode": "ReadWriteOnce"}, "only one node can mount the store's claim subterra-store (ReadWriteOnce)"),
    ],
)
def test_what_several_nodes_need_is_named_before_anything_is_spent(
    monkeypatch: pytest.MonkeyPatch, parts: Any, settings: Any, words: str
) -> None:
    monkeypatch.setattr(runs, "SETTINGS", Settings(store=StoreSettings(**settings)))
    decision = runs.decide(make.run(execution=TWO), **parts)
    assert condition(decision, "Stalled") == ("True", "InvalidSpec")
    assert f"execution.train.nodes is 2, but {words}" in message(decision, "Stalled")
    assert "set nodes to 1" in message(decision, "Stalled")
    assert decision.writes == ()
    assert runs.decide(make.run(), **parts).writes, "of no concern to a training on one node"


def test_the_number_of_nodes_is_in_no_digest() -> None:
    one, two = (make.frozen(make.run(execution=execution)) for execution in ({}, TWO))
    assert artifact_keys_of(one) == artifact_keys_of(two)
    assert RunSnapshot(make.run()).job_sets and NODES_LABEL not in str(make.run(execution=TWO))


def _unscheduled(words: str) -> Object:
    return {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": words,
        "lastTransitionTime": make.CREATED,
    }
