"""A pod that cannot be made or cannot run, on a real API server: run and agent say why and what to do, and go on afterwards.

The Job, Deployment and volume controllers are real. Scheduler and kubelet are pretended: their statuses are written as they would
write them (tests/faults/node/test_kubelet.py has real ones).
"""

import asyncio
import copy
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from subterra_operator.decide.decision import parse_time
from subterra_operator.resources import KINDS, Object
from subterra_testkit.cluster.kubernetes_objects import TRAVEL, TRAVEL_AGENT
from subterra_testkit.cluster.operator_namespace import ClusterNamespace, condition
from subterra_testkit.cluster.refused_agents import demand_label, demand_nothing, quota

LONG_AGO = "2026-11-20T12:00:00Z"
"""The pretended kubelet's times: the grace is over."""
Act = Callable[[ClusterNamespace], Awaitable[None]]
DEADLINE = 60
"""The shortest deadline that a stage or a version may have, in seconds."""
WITHIN = 60.0
"""Seconds within which a person can read what is wrong."""


def container(name: str, **status: Any) -> Object:
    known = {"name": name, "image": f"registry.example/{name}:1", "imageID": "", "ready": False, "restartCount": 0}
    return {**known, **status}


def waiting(reason: str, message: str = "") -> Object:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


def ended(code: int, message: str) -> Object:
    return {"terminated": {"exitCode": code, "reason": "Error", "message": message, "startedAt": LONG_AGO, "finishedAt": LONG_AGO}}


def unscheduled(message: str) -> Object:
    scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "lastTransitionTime": LONG_AGO}
    return {"phase": "Pending", "conditions": [{**scheduled, "message": message}]}


def accepted(*containers: Object, init: tuple[Object, ...] = ()) -> Object:
    """The status of a pod that a node has accepted."""
    scheduled = [{"type": "PodScheduled", "status": "True", "lastTransitionTime": LONG_AGO}]
    found = {"phase": "Pending", "startTime": LONG_AGO, "conditions": scheduled, "containerStatuses": list(containers)}
    return found | ({"initContainerStatuses": list(init)} if init else {})


IMAGE = accepted(container("main", **waiting("ImagePullBackOff", 'Back-off pulling image "x": ErrImagePull: manifest unknown')))
SECRET = accepted(container("main", **waiting("CreateContainerConfigError", 'secret "anthropic" not found')))
NO_CPU = unscheduled("0/1 nodes are available: 1 Insufficient cpu.")
CRASHING = {"restartCount": 2, "lastState": ended(137, "INFO loading\nERROR out of patience")}
RESTARTING = accepted(
    container("main", **waiting("PodInitializing")),
    init=(container("vllm", **waiting("CrashLoopBackOff", "back-off 20s restarting failed container"), **CRASHING),),
)
STAGES = [
    ("generate", IMAGE, "ImagePullFailed", ("manifest unknown", "images.pullSecrets")),
    ("generate", SECRET, "MissingSecret", ('secret "anthropic" not found', "create that Secret")),
    ("train", NO_CPU, "Unschedulable", ("1 Insufficient cpu", "execution.train.resources.requests")),
    ("evaluate", NO_CPU, "Unschedulable", ("1 Insufficient cpu", "execution.evaluate.resources.requests")),
    ("evaluate", RESTARTING, "ContainerRestarting", ("restarted 2 times", "exit code 137: ERROR out of patience", "kubectl logs")),
]


async def told(world: ClusterNamespace, reason: str, *words: str) -> Object:
    """Waits until run and agent are in progress for that reason and in these words, within a minute; returns the agent."""
    began = datetime.now(UTC)

    def says(obj: Object | None) -> bool:
        for item in (obj or {}).get("status", {}).get("conditions", []):
            if (item["type"], item["status"], item["reason"]) == ("Reconciling", "True", reason):
                return all(word in item["message"] for word in words)
        return False

    async def met() -> tuple[Object, Object] | None:
        [run, *_], agent = await world.all("CompileRun") or [None], await world.get("CompiledAgent", "travel")
        return (run, agent) if run and agent and says(run) and says(agent) else None

    run, agent = await world.until(met, f"run and agent say {reason} and {words}", 3 * WITHIN)
    for obj in (run, agent):
        seconds = (last_status(obj) - began).total_seconds()
        print(f"{obj['kind']} said {reason} after {seconds:.0f} s")
        assert seconds <= await world.allowance(WITHIN)
        assert await world.column(obj["kind"], obj["metadata"]["name"], "Reason") == reason
    assert condition(run, "Succeeded")["reason"] == reason
    assert agent["status"]["reason"] == reason
    assert condition(run, "Stalled")["status"] == condition(agent, "Stalled")["status"] == "False"
    assert agent["status"]["phase"] == "Compiling"
    found: Object = agent
    return found


def last_status(obj: Object) -> datetime:
    """When the operator last wrote the status, by the API server's clock."""
    return max(parse_time(entry["time"]) for entry in obj["metadata"]["managedFields"] if entry.get("subresource") == "status")


async def test_each_stage_says_what_keeps_its_pod_from_running_and_goes_on_by_itself(world: ClusterNamespace) -> None:
    world.kubelet.stuck["generate"] = IMAGE
    await world.put(TRAVEL)
    await world.put(TRAVEL_AGENT)
    for number, (stage, status, reason, words) in enumerate(STAGES):
        world.kubelet.stuck[stage] = status
        await told(world, reason, f"{stage}: ", *words)
        following = STAGES[number + 1][0] if number + 1 < len(STAGES) else None
        if following != stage:
            if following:
                world.kubelet.stuck[following] = STAGES[number + 1][1]
            del world.kubelet.stuck[stage]
    await world.up_to_date()
    [run] = await world.all("CompileRun")
    assert [stage["attempt"] for stage in run["status"]["stages"]] == [1, 1, 1, 0], "nothing was tried twice"
    assert not any("reason" in stage for stage in run["status"]["stages"])


def limit_range(cpu: str) -> Object:
    spec = {"limits": [{"type": "Container", "max": {"cpu": cpu}}]}
    return {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small"}, "spec": spec}


CONFINED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
POD_SPEC: Object = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [{"name": "main", "image": "none", "securityContext": CONFINED}],
}
"""As Pod Security "restricted" wants it, so that nothing but the test's policy refuses it."""
POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe", "labels": {"app": "probe"}}, "spec": POD_SPEC}


async def exhaust(world: ClusterNamespace) -> None:
    await quota(world, pods="0")


async def raise_quota(world: ClusterNamespace) -> None:
    await quota(world, pods="20")


async def limit(world: ClusterNamespace) -> None:
    await world.put(limit_range("100m"))


async def lift_limit(world: ClusterNamespace) -> None:
    await world.put(limit_range("64"))


async def demand(world: ClusterNamespace) -> None:
    await demand_label(world, POD)


async def demand_no_more(world: ClusterNamespace) -> None:
    await demand_nothing(world, f"pods-need-a-team-{world.namespace}")


NO_POD: list[tuple[Act, Act, str, tuple[str, ...]]] = [
    (exhaust, raise_quota, "QuotaExceeded", ("exceeded quota: small", "raise that ResourceQuota")),
    (
        limit,
        lift_limit,
        "AdmissionDenied",
        ("maximum cpu usage per Container is 100m, but limit is 4", "within the LimitRange"),
    ),
    (
        demand,
        demand_no_more,
        "AdmissionDenied",
        ("pods need the label team", "have that admission policy admit pods with the label app.kubernetes.io/managed-by=subterra"),
    ),
]
"""What forbids a pod and what allows it again, the reason that run and agent give, and their words."""


async def test_a_job_whose_pod_cannot_be_made_is_explained_within_a_minute_and_goes_on_when_it_can(
    three_worlds: list[ClusterNamespace],
) -> None:
    """At once, because the Job controller takes half a minute to try again."""
    await asyncio.gather(*(without_pod(world, *obstacle) for world, obstacle in zip(three_worlds, NO_POD, strict=True)))


async def without_pod(world: ClusterNamespace, obstruct: Act, clear: Act, reason: str, words: tuple[str, ...]) -> None:
    await obstruct(world)
    await world.put(TRAVEL)
    await world.put(TRAVEL_AGENT)
    await world.until(lambda: world.all("Job"), "a Job exists")
    await told(world, reason, *words)
    await clear(world)
    await world.until(lambda: world.all("Pod"), "the Job controller tries again", 180)
    await world.up_to_date()


async def test_a_claim_whose_storage_class_is_missing_tells_its_own_story(world: ClusterNamespace) -> None:
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "no-such-class"}
    metadata = {"name": "subterra-store", "labels": {"app.kubernetes.io/managed-by": "subterra"}}
    await world.put({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})
    world.kubelet.stuck["generate"] = unscheduled("pod has unbound immediate PersistentVolumeClaims. not found")
    await world.put(TRAVEL)
    await world.put(TRAVEL_AGENT)
    story = 'claim subterra-store is not bound: storageclass.storage.k8s.io "no-such-class" not found'
    await told(world, "Unschedulable", story, "create that StorageClass")
    del world.kubelet.stuck["generate"]
    await world.up_to_date()


async def test_a_claim_that_is_deleted_between_two_stages_is_made_again_with_the_next_job(world: ClusterNamespace) -> None:
    world.kubelet.held = {"generate"}
    await world.put(TRAVEL)
    await world.put(TRAVEL_AGENT)
    claim = await world.until(lambda: world.get("PersistentVolumeClaim", "subterra-store"), "the claim exists")
    await world.until(lambda: world.all("Job"), "a Job exists")
    await world.change({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {**_named(claim), "finalizers": None}})
    path = f"/api/v1/namespaces/{world.namespace}/persistentvolumeclaims/subterra-store"
    await world.api._call("DELETE", path, {"gracePeriodSeconds": 0})
    world.kubelet.held = set()

    async def made_again() -> bool:
        found = await world.get("PersistentVolumeClaim", "subterra-store")
        return bool(found and found["metadata"]["uid"] != claim["metadata"]["uid"])

    await world.until(made_again, "the claim is made again")
    await world.up_to_date()


def _named(obj: Object) -> Object:
    return {"name": obj["metadata"]["name"]}


async def test_a_job_that_somebody_suspended_says_who_must_resume_it(world: ClusterNamespace) -> None:
    world.kubelet.held = {"generate"}
    await world.put(TRAVEL)
    await world.put(TRAVEL_AGENT)
    [job] = await world.until(lambda: world.all("Job"), "a Job exists")

    async def suspend(suspended: bool) -> None:
        name = job["metadata"]["name"]
        await world.change({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"suspend": suspended}})

    await suspend(True)
    await told(world, "JobSuspended", "was suspended by someone else", f"kubectl patch job {job['metadata']['name']}")
    world.kubelet.held = set()
    await suspend(False)
    await world.up_to_date()


async def queueing(world: ClusterNamespace) -> None:
    """Has the API server suspend new Jobs with a queue in this namespace, as Kueue's webhook does."""
    head = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": world.namespace}}
    rules = [{"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}]
    chosen = {"resourceRules": rules, "objectSelector": {"matchLabels": {"kueue.x-k8s.io/queue-name": "gpus"}}}
    change = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{spec: Object.spec{suspend: true}}"}}
    spec = {"matchConstraints": chosen, "mutations": [change], "reinvocationPolicy": "Never", "failurePolicy": "Fail"}
    await world.put({**head, "kind": "MutatingAdmissionPolicy", "spec": spec}, namespaced=False)
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}}}
    bound = {"policyName": world.namespace, "matchResources": here}
    await world.put({**head, "kind": "MutatingAdmissionPolicyBinding", "spec": bound}, namespaced=False)
    labels = {"kueue.x-k8s.io/queue-name": "gpus"}
    template = {"spec": {**POD_SPEC, "restartPolicy": "Never"}}
    probe = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "probe", "labels": labels},
        "spec": {"template": template},
    }

    async def suspends() -> bool:
        made = await world.api._call("POST", KINDS["Job"].path(world.namespace), probe, query={"dryRun": "All"})
        return bool(made["spec"].get("suspend"))

    await world.until(suspends, "new Jobs are suspended", 60)


@pytest.mark.exhaustive  # it waits for longer than the shortest deadline
async def test_a_job_that_waits_in_a_queue_for_longer_than_its_deadline_starts_when_it_is_admitted(world: ClusterNamespace) -> None:
    await queueing(world)
    agent = copy.deepcopy(TRAVEL_AGENT)
    execution = {"queueName": "gpus", "generate": {"schedulingDeadlineSeconds": DEADLINE, "activeDeadlineSeconds": DEADLINE}}
    agent["spec"]["compile"].setdefault("template", {})["execution"] = execution
    await world.put(TRAVEL)
    await world.put(agent)
    await told(world, "Queued", "waiting for admission to queue gpus", "kubectl describe localqueue gpus")
    await asyncio.sleep(DEADLINE + 5)
    await told(world, "Queued")
    for kind in ("MutatingAdmissionPolicyBinding", "MutatingAdmissionPolicy"):
        await world.api._call("DELETE", KINDS[kind].path(None, world.namespace))

    async def admitted() -> bool:
        for name in await world.names("Job"):
            await world.change({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"suspend": False}})
        agent = await world.get("CompiledAgent", "travel")
        return bool(agent and condition(agent, "UpToDate")["status"] == "True")

    await world.until(admitted, "the run is served", 120)
    [run] = await world.all("CompileRun")
    assert [stage["attempt"] for stage in run["status"]["stages"]] == [1, 1, 1, 0]


async def test_a_pod_that_does_not_start_in_time_is_given_up_by_the_real_job_controller(world: ClusterNamespace) -> None:
    world.kubelet.stuck["generate"] = NO_CPU
    agent = copy.deepcopy(TRAVEL_AGENT)
    agent["spec"]["compile"].setdefault("template", {})["execution"] = {"generate": {"schedulingDeadlineSeconds": DEADLINE}}
    await world.put(TRAVEL)
    await world.put(agent)
    await told(world, "Unschedulable", "1 Insufficient cpu")

    async def ended() -> bool:
        [run] = await world.all("CompileRun")
        return condition(run, "Stalled")["reason"] == "SchedulingDeadlineExceeded"

    with world.clock.ahead(DEADLINE):
        [name] = await world.names("CompileRun")
        await world.touch("CompileRun", name)
        await world.until(ended, "the stage is given up", 90)
    [run] = await world.all("CompileRun")
    assert "not started within 60 s: unschedulable: " in condition(run, "Stalled")["message"]
    stalled = await world.condition("CompiledAgent", "travel", "Stalled", "True", "CompileFailed")
    assert "1 Insufficient cpu" in condition(stalled, "Stalled")["message"]

    async def gone() -> bool:
        return not [pod for pod in await world.all("Pod") if "deletionTimestamp" not in pod["metadata"]]

    await world.until(gone, "the Job controller has ended the pod")
    del world.kubelet.stuck["generate"]
    await world.put({**agent, "metadata": {**agent["metadata"], "annotations": {"subterra.dev/retry-at": "now"}}})

    async def generated() -> bool:
        [run] = await world.all("CompileRun")
        stage = run["status"]["stages"][0]
        return (stage["state"], stage["attempt"]) == ("Succeeded", 2)

    await world.until(generated, "the second attempt succeeds", 90)


def of_a_model() -> Object:
    spec = {
        "model": {"uri": "pvc://models/abc", "digest": "sha256:" + "c" * 64},
        "promotion": {"progressDeadlineSeconds": DEADLINE},
    }
    return {**TRAVEL_AGENT, "spec": spec}


VERIFY = "model models/abc has digest sha256:d, but sha256:c was expected; correct spec.model.digest or the URI"
UNVERIFIED = accepted(
    container("vllm", **waiting("PodInitializing")),
    init=(container("verify", **waiting("CrashLoopBackOff", "back-off 10s"), restartCount=1, lastState=ended(10, VERIFY)),),
)
NO_NODE = unscheduled("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.")
SERVING = [
    pytest.param(
        UNVERIFIED,
        "InitFailed",
        ("digest sha256:d, but sha256:c was expected", "correct spec.model.uri or spec.model.digest"),
        id="digest",
    ),
    pytest.param(
        NO_NODE,
        "Unschedulable",
        ("didn't match Pod's node affinity/selector", "correct spec.serving.nodeSelector"),
        id="node selector",
    ),
]


@pytest.mark.parametrize(("status", "reason", "words"), SERVING)
async def test_a_version_that_cannot_start_says_why_before_and_after_its_deadline(
    world: ClusterNamespace, status: Object, reason: str, words: tuple[str, ...]
) -> None:
    world.kubelet.stuck["serving"] = status
    await world.put(of_a_model())
    agent = await world.condition("CompiledAgent", "travel", "Reconciling", "True", reason)
    assert all(word in condition(agent, "Reconciling")["message"] for word in words)
    assert (agent["status"]["phase"], agent["status"]["reason"]) == ("Starting", reason)

    async def stalled() -> Object | None:
        found = await world.get("CompiledAgent", "travel")
        return found if found and condition(found, "Stalled")["status"] == "True" else None

    with world.clock.ahead(DEADLINE):
        await world.touch("CompiledAgent", "travel")
        agent = await world.until(stalled, "the version is given up", 90)
    assert condition(agent, "Stalled")["reason"] == "ServingFailed"
    assert all(word in condition(agent, "Stalled")["message"] for word in words), json.dumps(agent["status"])
    del world.kubelet.stuck["serving"]
    await world.put({**of_a_model(), "metadata": {"name": "travel", "annotations": {"subterra.dev/retry-at": "now"}}})
    await world.up_to_date()
