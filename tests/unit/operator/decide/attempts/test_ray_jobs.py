"""A generation over several pods, decided: its RayJob counts as the attempt, and its driver speaks for it."""

from datetime import timedelta
from typing import Any

import pytest

from subterra_api.v1alpha1.compilerun import CompileRunStatus, ExecutionSettings
from subterra_operator.decide.decision import Decision
from subterra_operator.decide.events.run_events import run_events
from subterra_operator.decide.run.leftover_pods import GRACE_SECONDS, Leftovers, leftovers
from subterra_operator.labels import FAILURE_REASON, RAY_LABEL, SUSPENDED_BY_OPERATOR
from subterra_operator.resources import Key, Object
from subterra_operator.snapshot import Warned
from subterra_operator.specs.run_input import artifact_keys_of
from subterra_operator.specs.stage_job import Attempt, stage_job
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster import run_decisions as runs
from subterra_testkit.cluster.decided_conditions import condition, message

MANY = {"generate": {"workers": 10}}
NAME = "travel-12345678-generate-1"
CLUSTER = f"{NAME}-x7k2p"
RUNNING = {"jobDeploymentStatus": "Running", "startTime": make.CREATED, "rayClusterName": CLUSTER}


def ray_job(run: Object, **status: Any) -> Object:
    execution = ExecutionSettings.model_validate(run["spec"]["execution"])
    made = stage_job(run, execution, Attempt("generate", 1), runs.SETTINGS, ray_jobs=True)
    assert made["kind"] == "RayJob"
    return make.stored(made, **(RUNNING | status))


def pod(of: Object, role: str, number: int = 0, **state: Any) -> Object:
    """One of its pods; ``state`` is that of its main container."""
    made = make.pod_of(of, **(state or {"running": {}}))
    made["metadata"] |= {"name": f"{NAME}-{role}-{number}", "uid": f"pod-{role}-{number}", "ownerReferences": []}
    made["metadata"]["labels"][RAY_LABEL] = role
    return made


def cluster(of: Object) -> list[Object]:
    """Head and workers, all of which run."""
    return [pod(of, "head"), *(pod(of, "worker", number) for number in range(3))]


def waiting(of: Object, role: str, words: str = "0/2 nodes are available") -> Object:
    scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
    return {**pod(of, role, 9), "status": {"phase": "Pending", "conditions": [scheduled | {"lastTransitionTime": make.CREATED}]}}


def decide(run: Object, of: Object | None, *pods: Object, later: float = 60, **parts: Any) -> Decision:
    return runs.decide(run, later, input=make.frozen(run), jobs=(of,) if of else (), pods=pods, **parts)


def generation(**execution: Any) -> Object:
    return make.run(runs.started(job_name=NAME), {**MANY, **execution})


def test_the_generation_is_created_as_a_rayjob_where_the_cluster_has_kuberay() -> None:
    decision = runs.decide(make.run(execution=MANY))
    assert (runs.created(decision, "RayJob"), runs.created(decision)) == ([NAME], [])
    assert runs.stage(decision, "generate")["jobName"] == NAME


def test_without_kuberay_ray_starts_in_one_pod_and_status_and_event_say_how_to_get_more() -> None:
    run = make.run(execution=MANY)
    decision = runs.decide(run, ray_jobs=False)
    assert (runs.created(decision, "RayJob"), runs.created(decision)) == ([], [NAME])
    words = "4 of 10 workers write, in one pod, because this cluster has no RayJobs (rayjobs.ray.io)"
    assert words in runs.stage(decision, "generate")["message"]
    assert words in message(decision, "Reconciling")
    events = [event.note for event in run_events(CompileRunStatus(), CompileRunStatus.model_validate(decision.status))]
    assert any(words in note and "install KubeRay" in note for note in events)


def test_it_has_succeeded_when_the_driver_says_so() -> None:
    run = generation()
    of, result = ray_job(run), make.result("generate", artifact_keys_of(make.frozen(run)).of("generate"))
    assert runs.stage(decide(run, of, *cluster(of), pod(of, "driver")), "generate")["state"] == "Running"
    done = decide(run, of, *cluster(of), pod(of, "driver", terminated=make.ended(0, result)))
    assert runs.stage(done, "generate")["state"] == "Succeeded"


def test_a_complete_rayjob_whose_driver_is_gone_has_its_result_read_back_for_nothing() -> None:
    run = generation()
    of = ray_job(run, jobDeploymentStatus="Complete", endTime=make.CREATED)
    assert runs.created(decide(run, of)) == [f"{NAME}-attach"]


GRACE = "JobDeploymentStatusTransitionGracePeriodExceeded"


@pytest.mark.parametrize(("state", "reason"), [("Complete", None), ("Failed", GRACE)])
def test_a_driver_that_still_writes_files_goes_on_when_kuberay_has_ended_its_rayjob(state: str, reason: str | None) -> None:
    run = generation()
    of = ray_job(run, jobDeploymentStatus=state, reason=reason, endTime=make.CREATED)
    decision = decide(run, of, pod(of, "driver"), later=600)
    assert (runs.stage(decision, "generate")["state"], decision.writes, decision.deletes) == ("Running", (), ())
    result = make.result("generate", artifact_keys_of(make.frozen(run)).of("generate"))
    done = decide(run, of, pod(of, "driver", terminated=make.ended(0, result)), later=900)
    assert runs.stage(done, "generate")["state"] == "Succeeded"


def test_a_rayjob_that_exceeds_its_deadline_fails_whatever_its_driver_does() -> None:
    run = generation()
    of = ray_job(run, jobDeploymentStatus="Failed", reason="DeadlineExceeded", endTime=make.CREATED)
    assert condition(decide(run, of, pod(of, "driver")), "Stalled") == ("True", "DeadlineExceeded")


def test_a_driver_that_is_being_deleted_does_not_keep_an_ended_rayjob_going() -> None:
    run = generation()
    of = ray_job(run, jobDeploymentStatus="Failed", reason="SubmissionFailed", endTime=make.CREATED)
    driver = pod(of, "driver")
    driver["metadata"]["deletionTimestamp"] = make.CREATED
    assert runs.stage(decide(run, of, driver), "generate")["reason"] == "Disrupted"


def test_a_finished_rayjob_that_is_deleted_is_not_made_again() -> None:
    run = generation()
    run["status"]["stages"][0] |= runs.DONE
    assert runs.created(decide(run, None), "RayJob") == []


def test_a_worker_that_dies_is_kuberays_to_replace() -> None:
    run = generation()
    of = ray_job(run)
    dead = pod(of, "worker", 1, terminated=make.ended(137))
    dead["status"]["phase"] = "Failed"
    decision = decide(run, of, pod(of, "driver"), pod(of, "head"), dead, waiting(of, "worker"))
    assert (runs.stage(decision, "generate")["state"], runs.stage(decision, "generate").get("reason")) == ("Running", None)
    assert decision.writes == ()


def test_the_drivers_exit_code_says_why_an_attempt_failed_and_the_next_is_another_rayjob() -> None:
    run = generation()
    of = ray_job(run, jobDeploymentStatus="Failed", reason="SubmissionFailed", message="Job submission has failed")
    decision = decide(run, of, pod(of, "driver", terminated=make.ended(14, "3 workers died without making progress")))
    assert (runs.stage(decision, "generate")["state"], runs.stage(decision, "generate")["reason"]) == ("Pending", "Infrastructure")
    again = {**run, "status": decision.status}
    assert runs.created(decide(again, of, later=90), "RayJob") == ["travel-12345678-generate-2"]
    capped = decide(run, of, pod(of, "driver", terminated=make.ended(11, "the cap per run is $5")))
    assert condition(capped, "Stalled") == ("True", "BudgetExceeded")


def test_a_drained_driver_or_head_is_a_disruption() -> None:
    run = generation()
    of = ray_job(run)
    evicted = [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]
    driver = pod(of, "driver", terminated=make.ended(143))
    driver["status"]["conditions"] = evicted
    assert runs.stage(decide(run, of, *cluster(of), driver), "generate")["reason"] == "Disrupted"
    head, lost = (
        pod(of, "head", terminated=make.ended(143)),
        pod(of, "driver", terminated=make.ended(14, "the head no longer answers")),
    )
    head["status"] |= {"conditions": evicted, "phase": "Failed"}
    assert runs.stage(decide(run, of, head, lost), "generate")["reason"] == "Disrupted"
    failed = ray_job(run, jobDeploymentStatus="Failed", reason="SubmissionFailed")
    assert runs.stage(decide(run, failed), "generate")["reason"] == "Disrupted", "its pods are gone"


def test_a_deleted_rayjob_is_a_disruption() -> None:
    assert runs.stage(decide(generation(), None), "generate")["reason"] == "Disrupted"


def test_kuberays_own_deadline_is_the_stages() -> None:
    run = generation()
    of = ray_job(run, jobDeploymentStatus="Failed", reason="DeadlineExceeded", message="has passed the activeDeadlineSeconds")
    assert condition(decide(run, of), "Stalled") == ("True", "DeadlineExceeded")


def test_a_rayjob_that_kuberay_refuses_is_told_with_its_words_and_the_fix() -> None:
    run = generation()
    words = "The RayJob spec is invalid: authOptions.mode is 'token' but minimum Ray version is 2.52.0, got 2.40.0"
    decision = decide(run, ray_job(run, jobDeploymentStatus="ValidationFailed", reason="ValidationFailed", message=words))
    assert condition(decision, "Stalled") == ("True", "InvalidSpec")
    assert f"KubeRay refuses the RayJob: {words}; correct what it names" in message(decision, "Stalled")
    assert "set execution.generate.workers to what one pod holds" in message(decision, "Stalled")


def test_a_pod_without_a_node_holds_up_all_and_is_told() -> None:
    run = generation()
    of = ray_job(run, jobDeploymentStatus="Initializing")
    assert condition(decide(run, of, pod(of, "head"), waiting(of, "worker")), "Reconciling") == ("True", "Unschedulable")


def test_a_pod_that_a_quota_refuses_is_told_by_the_event_of_the_cluster() -> None:
    run = generation()
    of = ray_job(run, jobDeploymentStatus="Initializing")
    key = Key("RayCluster", make.NAMESPACE, CLUSTER)
    assert key in decide(run, of, pod(of, "head")).lookups
    words = "exceeded quota: small, requested: pods=1, used: pods=1, limited: pods=1"
    text = f'Failed to create worker Pod for the cluster demo/{CLUSTER}, pods "x" is forbidden: {words}'
    decision = decide(run, of, pod(of, "head"), events={key: (Warned("FailedToCreateWorkerPod", text),)})
    assert condition(decision, "Reconciling") == ("True", "QuotaExceeded")
    assert f"no pod could be made: {words}" in message(decision, "Reconciling")


def test_a_rayjob_whose_operator_does_not_run_is_told() -> None:
    run = generation()
    decision = decide(run, ray_job(run, jobDeploymentStatus=None, startTime=None, rayClusterName=None))
    assert condition(decision, "Reconciling") == ("True", "PodPending")
    assert f"see kubectl describe rayjob {NAME} and whether KubeRay's operator runs" in message(decision, "Reconciling")


def test_pods_that_do_not_start_in_time_fail_the_stage_and_then_the_rayjob_is_deleted() -> None:
    run = generation()
    of = ray_job(run, jobDeploymentStatus="Initializing")
    decision = decide(run, of, waiting(of, "worker"), later=6 * 3600 + 1)
    [write] = decision.writes
    assert (write.verb, write.object["kind"], write.object.get("spec")) == ("patch", "RayJob", None)
    assert condition(decision, "Stalled") == ("True", "SchedulingDeadlineExceeded")
    of["metadata"]["annotations"] |= {FAILURE_REASON: "not started"}
    after = decide({**run, "status": decision.status}, of, waiting(of, "worker"), later=6 * 3600 + 2)
    assert [obj["metadata"]["name"] for obj in after.deletes] == [NAME]


def test_a_suspended_run_suspends_its_rayjob_and_resumes_it_as_the_same_attempt() -> None:
    of = ray_job(generation())
    [write] = decide(generation(suspend=True), of, *cluster(of), pod(of, "driver")).writes
    assert (write.object["kind"], write.object["spec"]) == ("RayJob", {"suspend": True})
    held = ray_job(generation(), jobDeploymentStatus="Suspended")
    held["spec"]["suspend"] = True
    held["metadata"]["annotations"] |= {SUSPENDED_BY_OPERATOR: "true"}
    killed = pod(held, "driver", terminated=make.ended(143))
    [write] = decide(generation(), held, killed).writes
    assert write.object["spec"] == {"suspend": False}


def test_a_rayjob_in_a_queue_waits_without_a_deadline() -> None:
    run = generation(queueName="cpus")
    held = ray_job(run, jobDeploymentStatus="Suspended")
    decision = decide(run, held, later=99 * 3600)
    assert decision.writes == ()
    assert condition(decision, "Reconciling") == ("True", "Queued")
    assert decision.lookups == (Key("Workload", make.NAMESPACE, held["metadata"]["uid"]),)


def test_the_number_of_workers_is_in_no_digest() -> None:
    one, many = (make.frozen(make.run(execution=execution)) for execution in ({}, MANY))
    assert artifact_keys_of(one) == artifact_keys_of(many)


def test_a_rayjob_is_deleted_once_its_driver_has_done_its_work_and_something_else_goes_on_in_its_pod() -> None:
    run = generation()
    of = ray_job(run)
    later = make.NOW + timedelta(seconds=GRACE_SECONDS)
    assert leftovers([of], [*cluster(of), pod(of, "driver")], later) == Leftovers()
    done = pod(of, "driver", terminated=make.ended())
    done["status"] |= {"phase": "Running"}
    assert leftovers([of], [*cluster(of), done], later) == Leftovers(deletes=(of,))
