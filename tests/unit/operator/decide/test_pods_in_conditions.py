"""A pod that does not run, in the conditions of its run and of its agent, until it runs or its time is up."""

from collections.abc import Mapping
from typing import Any

import pytest
from tests.unit.operator.decide import pods

from subterra_operator.decide.decision import Decision
from subterra_operator.labels import FAILURE_REASON, MADE, VERSION_LABEL
from subterra_operator.resources import Key, Object
from subterra_operator.snapshot import Warned
from subterra_testkit.cluster import agent_decisions as agents
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster import run_decisions as runs
from subterra_testkit.cluster.decided_conditions import condition, message

INSUFFICIENT = "0/1 nodes are available: 1 Insufficient cpu."


def started_job(run: Object, stage: str = "generate", **status: Any) -> Object:
    """A Job that its controller has started."""
    return runs.job(run, stage, **{"startTime": make.CREATED, **status})


def pod_of(owner: Object, seen: Object) -> Object:
    """The pod of a Job or Deployment with a given status."""
    return {**make.pod_of(owner), "status": seen["status"]}


def decide(run: Object, later: float = 31, seen: Object | None = None, job: Object | None = None, **parts: Any) -> Decision:
    """A decision on a run whose first stage waits for its pod."""
    job = job or started_job(run)
    found = (pod_of(job, seen),) if seen else ()
    return runs.decide(run, later, input=make.frozen(run), jobs=(job,), pods=found, **parts)


def test_within_the_grace_only_the_stage_says_it() -> None:
    decision = decide(make.run(runs.started()), 29, pods.unscheduled(INSUFFICIENT))
    assert condition(decision, "Succeeded") == ("Unknown", "Running")
    assert message(decision, "Succeeded") == f"generate: pod pending: unschedulable: {INSUFFICIENT.rstrip('.')}"
    assert decision.recheck_after == 1


def test_after_the_grace_every_condition_says_reason_cause_and_fix() -> None:
    decision = decide(make.run(runs.started()), 31, pods.unscheduled(INSUFFICIENT))
    assert condition(decision, "Succeeded") == ("Unknown", "Unschedulable")
    assert condition(decision, "Generated") == ("Unknown", "Unschedulable")
    assert condition(decision, "Reconciling") == ("True", "Unschedulable")
    assert condition(decision, "Stalled") == ("False", "Unschedulable")
    assert message(decision, "Reconciling").startswith(f"generate: unschedulable: {INSUFFICIENT.rstrip('.')}; ")
    assert decision.status and decision.status["phase"] == "Generating"


def test_once_the_pod_runs_nothing_of_it_is_left_although_no_progress_was_reported_yet() -> None:
    run = make.run(runs.started())
    blocked = {**run, "status": decide(run, 31, pods.unscheduled(INSUFFICIENT)).status}
    running = pods.pod("Running", containerStatuses=[pods.container("main", pods.RUNNING)])
    decision = decide(blocked, 60, running)
    assert condition(decision, "Succeeded") == ("Unknown", "Running")
    assert message(decision, "Succeeded") == "generate: running"
    assert not {"message", "reason"} & runs.stage(decision, "generate").keys()


def test_a_job_without_a_pod_has_its_events_read_and_then_told() -> None:
    run = make.run(runs.started())
    key = Key("Job", make.NAMESPACE, "travel-12345678-generate-1")
    assert decide(run, 14).lookups == ()
    assert decide(run, 15).lookups == (key,)
    assert condition(decide(run), "Succeeded") == ("Unknown", "PodPending")
    words = "exceeded quota: small, requested: pods=1, used: pods=0, limited: pods=0"
    refused = {key: (Warned("FailedCreate", f'Error creating: pods "x-abcde" is forbidden: {words}'),)}
    decision = decide(run, events=refused)
    assert condition(decision, "Reconciling") == ("True", "QuotaExceeded")
    assert words in message(decision, "Reconciling")
    assert decision.lookups == (key,), "and read again, because nothing else says when it changes"


@pytest.mark.parametrize("counted", [{"active": 1}, {"failed": 1}, {"uncountedTerminatedPods": {"failed": ["pod-1"]}}])
def test_a_pod_that_was_deleted_after_hours_of_work_is_not_taken_for_one_that_never_was(counted: Mapping[str, Any]) -> None:
    run = make.run(runs.started())
    decision = decide(run, 7 * 3600, job=started_job(run, **counted))
    assert (decision.writes, decision.lookups) == ((), ())
    assert runs.stage(decision, "generate")["state"] == "Running"


def test_a_claim_that_somebody_deleted_is_made_again_while_the_pod_waits() -> None:
    words = '0/1 nodes are available: persistentvolumeclaim "subterra-store" not found.'
    decision = decide(make.run(runs.started()), 31, pods.unscheduled(words))
    assert runs.created(decision, "PersistentVolumeClaim") == ["subterra-store"]
    assert 'persistentvolumeclaim "subterra-store" not found' in message(decision, "Succeeded")


def given_up(later: float = 6 * 3600, execution: Mapping[str, Any] | None = None) -> tuple[Object, Decision]:
    run = make.run(runs.started(), execution)
    return run, decide(run, later, pods.unscheduled(INSUFFICIENT))


def test_a_pod_that_does_not_start_in_time_ends_its_stage_with_the_cause() -> None:
    run, decision = given_up()
    [write] = decision.writes
    assert (write.verb, write.object["spec"]) == ("patch", {"activeDeadlineSeconds": 1}), "the Job controller ends the Job"
    assert write.object["metadata"]["annotations"][FAILURE_REASON].startswith("not started within 21600 s: unschedulable: ")
    assert condition(decision, "Stalled") == ("True", "SchedulingDeadlineExceeded")
    assert "Insufficient cpu" in message(decision, "Stalled")
    assert "schedulingDeadlineSeconds, then set the annotation" in message(decision, "Stalled")
    assert given_up(6 * 3600 - 1)[1].writes == ()
    again = decide({**run, "status": decision.status}, 99999, pods.unscheduled(INSUFFICIENT))
    assert again.writes == (), "final until a person asks again"


def test_the_deadline_of_each_stage_can_be_set() -> None:
    assert given_up(299, {"generate": {"schedulingDeadlineSeconds": 300}})[1].writes == ()
    assert given_up(300, {"generate": {"schedulingDeadlineSeconds": 300}})[1].writes


def test_an_operator_that_died_after_it_gave_a_job_up_reads_that_from_the_job() -> None:
    run, decision = given_up()
    job = started_job(run, conditions=[{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}])
    job["metadata"]["annotations"] = decision.writes[0].object["metadata"]["annotations"]
    assert condition(decide(run, 6 * 3600 + 5, job=job), "Stalled") == ("True", "SchedulingDeadlineExceeded")


def test_time_without_a_node_takes_nothing_from_the_time_that_a_stage_has() -> None:
    """The kubelet counts a pod's deadline from when it accepts the pod; the Job's own is only the last resort."""
    run = make.run(execution={"generate": {"activeDeadlineSeconds": 3600, "schedulingDeadlineSeconds": 7200}})
    spec = runs.job(run, "generate")["spec"]
    assert spec["template"]["spec"]["activeDeadlineSeconds"] == 3600
    assert spec["activeDeadlineSeconds"] > 3600 + 7200


def test_waiting_in_a_queue_takes_no_time_from_any_deadline() -> None:
    run = make.run(runs.started(), {"queueName": "gpus"})
    queued = started_job(run, conditions=[{"type": "Suspended", "status": "True"}])
    queued["spec"]["suspend"] = True
    decision = decide(run, 99 * 3600, job=queued)
    assert decision.writes == ()
    assert condition(decision, "Reconciling") == ("True", "Queued")
    queued["spec"]["suspend"] = False
    assert decide(run, 99 * 3600, job=queued).writes == (), "admitted, but its controller has not set the new startTime yet"


def test_a_pod_that_exceeded_its_time_on_the_node_is_no_passing_failure() -> None:
    stopped = pods.pod(
        "Failed",
        reason="DeadlineExceeded",
        message="Pod was active on the node longer than the specified deadline",
        containerStatuses=[pods.container("main", {"terminated": pods.ended(14, "stopped by SIGTERM")})],
    )
    decision = decide(make.run(runs.started()), 31, stopped)
    assert condition(decision, "Stalled") == ("True", "DeadlineExceeded")
    assert "activeDeadlineSeconds" in message(decision, "Stalled")


def test_an_evicted_pod_has_the_kubelets_words() -> None:
    evicted = pods.pod("Failed", reason="Evicted", message="The node was low on resource: ephemeral-storage.")
    failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
    run = make.run(runs.started())
    decision = decide(run, 31, evicted, started_job(run, conditions=[failed]))
    assert (
        "the pod was ended: Evicted: The node was low on resource: ephemeral-storage" in runs.stage(decision, "generate")["message"]
    )


# The agent


def waiting_run(agent: Object, verdict: str | None = None) -> Object:
    """The wanted run, whose pod is unschedulable."""
    run = agents.wanted_run(agent, verdict)
    run["status"]["conditions"][0] |= {"reason": "Unschedulable", "message": "train: unschedulable: no node; add one"}
    return run


def test_an_agent_repeats_what_keeps_its_run_from_running() -> None:
    agent = make.agent()
    decision = agents.decide(agent, runs=(waiting_run(agent),))
    assert condition(decision, "Ready") == ("False", "Unschedulable")
    assert condition(decision, "UpToDate") == ("False", "Unschedulable")
    assert condition(decision, "Reconciling") == ("True", "Unschedulable")
    assert condition(decision, "Stalled") == ("False", "Unschedulable")
    assert "train: unschedulable: no node; add one" in message(decision, "Reconciling")
    assert decision.status
    assert (decision.status["phase"], decision.status["reason"]) == ("Compiling", "Unschedulable")


def test_an_agent_that_serves_says_it_and_stays_ready() -> None:
    agent = make.agent()
    older = agents.other_run(agent)
    old = agents.version(agent, older)
    parts = {"runs": (waiting_run(agent), older), "deployments": (old,), "service": agents.traffic_to(agent, old)}
    decision = agents.decide(agent, **parts)
    assert condition(decision, "Ready") == ("True", "Serving")
    assert condition(decision, "UpToDate") == ("False", "Unschedulable")
    assert condition(decision, "Reconciling") == ("False", "Serving")
    assert decision.status
    assert (decision.status["phase"], decision.status["reason"]) == ("Recompiling", "Unschedulable")


def serving_pod(deployed: Object, seen: Object) -> Object:
    found = pod_of(deployed, seen)
    found["metadata"]["labels"][VERSION_LABEL] = deployed["metadata"]["labels"][VERSION_LABEL]
    return found


VERIFY = pods.ended(10, "model models/1 has digest sha256:a, but sha256:b was expected")
UNVERIFIED = pods.pod(
    initContainerStatuses=[pods.container("verify", pods.waiting("CrashLoopBackOff", "back-off 10s"), 2, VERIFY)],
    containerStatuses=[pods.container("vllm", pods.INITIALIZING)],
)


def starting(later: float, seen: Object, traffic: bool = False, **parts: Any) -> Decision:
    """An agent whose only version starts, or has traffic and no ready pod."""
    agent = make.agent()
    run = agents.wanted_run(agent)
    deployed = agents.version(agent, run, ready=0)
    if traffic:
        parts["service"] = agents.traffic_to(agent, deployed)
    return agents.decide(agent, later, runs=(run,), deployments=(deployed,), pods=(serving_pod(deployed, seen),), **parts)


def test_a_version_whose_model_is_refused_says_so_before_and_after_its_deadline() -> None:
    decision = starting(5, UNVERIFIED)
    assert condition(decision, "Reconciling") == ("True", "InitFailed")
    assert "sha256:b was expected; correct spec.model.uri or spec.model.digest" in message(decision, "Reconciling")
    assert decision.status and decision.status["phase"] == "Starting"
    late = starting(900, UNVERIFIED)
    assert condition(late, "Stalled") == ("True", "ServingFailed")
    assert "sha256:b was expected; correct spec.model.uri or spec.model.digest" in message(late, "Stalled")


def test_a_version_that_never_says_why_is_given_up_with_what_to_look_at() -> None:
    loading = pods.pod(containerStatuses=[pods.container("vllm", pods.RUNNING)])
    assert "not ready within 900 s; read the pods' log" in message(starting(900, loading), "Stalled")


DAMAGE = "models/1/model.safetensors does not match its manifest: expected SHA-256 aaaa, found bbbb"


def test_a_served_model_that_was_damaged_is_not_ready_at_its_next_start_and_says_which_file_and_how_to_mend_it() -> None:
    verify = pods.container("verify", pods.waiting("CrashLoopBackOff", "back-off 10s"), 2, pods.ended(14, DAMAGE))
    damaged = pods.pod(initContainerStatuses=[verify], containerStatuses=[pods.container("vllm", pods.INITIALIZING)])
    decision = starting(31, damaged, traffic=True)
    assert condition(decision, "Ready") == ("False", "InitFailed")
    assert DAMAGE in message(decision, "Ready")
    assert "restore it in the namespace's store" in message(decision, "Ready")
    assert "its CompileRun, which is then made again" in message(decision, "Ready")


def test_an_upgrade_leaves_pods_that_do_not_verify_their_model_as_they_are() -> None:
    agent = make.agent()
    run = agents.wanted_run(agent)
    deployed = agents.version(agent, run)
    del deployed["spec"]["template"]["spec"]["initContainers"][0]  # as an earlier release made it
    del deployed["metadata"]["annotations"][MADE]
    decision = agents.decide(agent, 31, runs=(run,), deployments=(deployed,), service=agents.traffic_to(agent, deployed))
    assert condition(decision, "Ready") == ("True", "Serving")
    written = [write.object for write in decision.writes if write.key.kind == "Deployment"]
    assert all("spec" not in change for change in written), written


def test_a_serving_version_that_lost_its_pods_says_why() -> None:
    decision = starting(31, pods.unscheduled(INSUFFICIENT), traffic=True)
    assert condition(decision, "Ready") == ("False", "Unschedulable")
    assert condition(decision, "Reconciling") == ("True", "Unschedulable")
    assert decision.status
    assert (decision.status["phase"], decision.status["reason"]) == ("Unavailable", "Unschedulable")


def test_a_serving_pod_that_cannot_mount_its_store_has_its_events_read() -> None:
    creating = pods.pod(containerStatuses=[pods.container("vllm", pods.CREATING)])
    decision = starting(31, creating)
    [key] = decision.lookups
    assert key.kind == "Pod"
    words = 'MountVolume.SetUp failed for volume "pvc-1" : mount failed: exit status 32'
    told = starting(31, creating, events={key: (Warned("FailedMount", words),)})
    assert condition(told, "Reconciling") == ("True", "VolumeMountFailed")
    assert words in message(told, "Reconciling")


def test_a_claim_that_a_serving_pod_misses_is_made_again() -> None:
    words = '0/1 nodes are available: persistentvolumeclaim "subterra-store" not found.'
    decision = starting(31, pods.unscheduled(words))
    assert "create PersistentVolumeClaim" in agents.kinds(decision)


def test_a_deployment_whose_pods_are_refused_is_told_without_any_pod() -> None:
    agent = make.agent()
    run = agents.wanted_run(agent)
    deployed = agents.version(agent, run, ready=0)
    words = "exceeded quota: small, requested: pods=1, used: pods=0, limited: pods=0"
    refused = {
        "type": "ReplicaFailure",
        "status": "True",
        "lastTransitionTime": make.CREATED,
        "message": f'pods "travel-x" is forbidden: {words}',
    }
    deployed["status"]["conditions"] = [refused]
    decision = agents.decide(agent, 31, runs=(run,), deployments=(deployed,))
    assert condition(decision, "Reconciling") == ("True", "QuotaExceeded")
    assert words in message(decision, "Reconciling")
    assert decision.lookups == ()
