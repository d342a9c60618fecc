"""Every way in which a pod cannot be made or cannot run: reason, the cluster's words, the fix."""

from datetime import timedelta

import pytest
from tests.unit.operator.decide import pods

from subterra_api.v1alpha1.compilerun import ExecutionSettings
from subterra_operator.decide.trouble.pod_trouble import pod_trouble
from subterra_operator.decide.trouble.refused_pod import deployment_without_pod, job_without_pod
from subterra_operator.decide.trouble.trouble import Place, Trouble
from subterra_operator.resources import Object
from subterra_operator.snapshot import Events
from subterra_operator.specs.stage_job import Attempt, stage_job
from subterra_operator.specs.vllm_container import Model
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster.agent_decisions import SETTINGS, version, wanted_run

LATER = make.NOW + timedelta(seconds=31)


def found(pod: Object, events: Events | None = None, place: Place = pods.STAGE) -> Trouble:
    """The trouble of a pod, 31 s after it was created."""
    trouble = pod_trouble(pod, events or {}, place, LATER)
    assert trouble
    assert trouble.lasts(LATER)
    return trouble


def none(pod: Object) -> bool:
    return pod_trouble(pod, {}, pods.STAGE, LATER) is None


PREEMPTION = "no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
SCHEDULER = [
    ("0/3 nodes are available: 3 Insufficient cpu.", "lower execution.train.resources.requests"),
    ("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.", "free a node or add one with room"),
    ("0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.", "correct execution.train.nodeSelector"),
    ("0/3 nodes are available: 3 node(s) had untolerated taint(s).", "execution.train.tolerations"),
    ("0/3 nodes are available: 3 node(s) had volume node affinity conflict.", "claim subterra-store has its volume"),
    ("0/1 nodes are available: 1 node(s) were unschedulable.", "uncordon a node"),
]


@pytest.mark.parametrize(("words", "fix"), SCHEDULER)
def test_an_unschedulable_pod_has_the_schedulers_words_and_a_fix_for_them(words: str, fix: str) -> None:
    trouble = found(pods.unscheduled(f"{words} {PREEMPTION}"))
    assert trouble.reason == "Unschedulable"
    assert trouble.cause == f"unschedulable: {words.rstrip('.')}", "what preemption did not achieve is left out"
    assert fix in trouble.fix


def test_two_obstacles_have_two_fixes_and_new_settings_of_a_stage_need_a_new_job() -> None:
    words = "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match Pod's node affinity/selector."
    trouble = found(pods.unscheduled(words))
    assert "resources.requests" in trouble.fix and "nodeSelector" in trouble.fix
    assert "then delete Job travel-12345678-train-1" in trouble.fix
    assert "delete" not in found(pods.unscheduled(words), place=pods.SERVING).fix, "edited spec.serving is another version"


UNBOUND = f"pod has unbound immediate PersistentVolumeClaims. not found. {PREEMPTION}"


def test_an_unbound_claim_tells_its_own_story() -> None:
    asked = found(pods.unscheduled(UNBOUND))
    assert asked.lookups(LATER) == (pods.CLAIM,)
    story = pods.warned(pods.CLAIM, "ProvisioningFailed", 'storageclass.storage.k8s.io "fast" not found')
    trouble = found(pods.unscheduled(UNBOUND), story)
    assert trouble.reason == "Unschedulable"
    assert trouble.cause.endswith('claim subterra-store is not bound: storageclass.storage.k8s.io "fast" not found')
    assert "create that StorageClass, or correct the chart's store.storageClass" in trouble.fix


def test_a_claim_that_is_gone_is_made_again() -> None:
    words = '0/1 nodes are available: persistentvolumeclaim "subterra-store" not found. preemption: 0/1 nodes are available.'
    trouble = found(pods.unscheduled(words))
    assert trouble.claim_missing
    assert trouble.cause == 'unschedulable: 0/1 nodes are available: persistentvolumeclaim "subterra-store" not found'


def test_a_scheduling_gate_is_a_queue_and_no_trouble() -> None:
    gated = pods.unscheduled("Scheduling is blocked due to non-empty scheduling gates", "SchedulingGated")
    assert found(gated).reason == "Queued"


REGISTRY = (
    'failed to pull and unpack image "registry.example/main:1": failed to resolve reference "registry.example/main:1": '
    "registry.example/main:1: not found"
)
IMAGES = [
    ("ErrImagePull", REGISTRY, "main:1: not found"),
    ("ImagePullBackOff", f'Back-off pulling image "registry.example/main:1": ErrImagePull: {REGISTRY}', "main:1: not found"),
    ("ImagePullBackOff", 'Back-off pulling image "registry.example/main:1"', "cannot be pulled"),
    ("InvalidImageName", 'Failed to apply default image tag "A:1": couldn\'t parse image name', "InvalidImageName"),
    ("ErrImageNeverPull", 'Container image "main:1" is not present with pull policy of Never', "pull policy of Never"),
]


@pytest.mark.parametrize(("reason", "message", "words"), IMAGES)
def test_an_image_that_cannot_be_pulled_has_the_registrys_words(reason: str, message: str, words: str) -> None:
    trouble = found(pods.pod(containerStatuses=[pods.container("main", pods.waiting(reason, message))]))
    assert trouble.reason == "ImagePullFailed"
    assert trouble.cause.startswith("container main: image registry.example/main:1 cannot be pulled")
    assert words in trouble.cause
    assert "images" in trouble.fix and "then delete Job" in trouble.fix


def test_the_kubelet_alternates_between_two_reasons_and_the_status_does_not() -> None:
    causes = {
        found(pods.pod(containerStatuses=[pods.container("main", pods.waiting(reason, message))])).cause
        for reason, message, _ in IMAGES[:2]
    }
    assert len(causes) == 1


SECRETS = ['secret "anthropic" not found', "couldn't find key api-key in Secret demo/anthropic"]


@pytest.mark.parametrize("message", SECRETS)
def test_a_missing_secret_is_named_and_the_pod_starts_once_it_exists(message: str) -> None:
    trouble = found(pods.pod(containerStatuses=[pods.container("main", pods.waiting("CreateContainerConfigError", message))]))
    assert (trouble.reason, trouble.cause) == ("MissingSecret", f"container main: CreateContainerConfigError: {message}")
    assert "create that Secret" in trouble.fix


def test_the_missing_key_of_an_agent_is_told_like_any_other_missing_secret() -> None:
    waiting = pods.waiting("CreateContainerConfigError", 'secret "travel-key" not found')
    trouble = found(pods.pod(initContainerStatuses=[pods.container("api-key", waiting)]), place=pods.SERVING)
    assert (trouble.reason, trouble.cause) == (
        "MissingSecret",
        'container api-key: CreateContainerConfigError: secret "travel-key" not found',
    )


def test_other_errors_of_a_containers_settings_are_reported_as_such() -> None:
    message = 'configmap "settings" not found'
    trouble = found(pods.pod(containerStatuses=[pods.container("main", pods.waiting("CreateContainerConfigError", message))]))
    assert (trouble.reason, message in trouble.cause) == ("ContainerConfigError", True)
    message = 'failed to create containerd task: exec: "python": executable file not found in $PATH'
    trouble = found(pods.pod(containerStatuses=[pods.container("main", pods.waiting("RunContainerError", message))]))
    assert (trouble.reason, "executable file not found" in trouble.cause) == ("ContainerConfigError", True)


def test_a_volume_that_cannot_be_mounted_is_explained_by_the_pods_events() -> None:
    creating = pods.pod(containerStatuses=[pods.container("main", pods.CREATING)])
    asked = found(creating)
    assert (asked.reason, asked.lookups(LATER)) == ("PodPending", (pods.POD,))
    words = 'MountVolume.SetUp failed for volume "pvc-1" : mount failed: exit status 32'
    trouble = found(creating, pods.warned(pods.POD, "FailedMount", words))
    assert (trouble.reason, trouble.cause) == ("VolumeMountFailed", f"FailedMount: {words}")
    attached = 'Multi-Attach error for volume "pvc-1" Volume is already exclusively attached to one node'
    trouble = found(creating, pods.warned(pods.POD, "FailedAttachVolume", attached))
    assert "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute" in trouble.fix
    stale = pods.warned(pods.POD, "FailedScheduling", "0/1 nodes are available: 1 Insufficient cpu.")
    assert found(creating, stale).reason == "PodPending", "that was before it had a node"


def test_a_sidecar_that_loads_a_model_is_no_trouble() -> None:
    loading = pods.container("vllm", pods.RUNNING, started=False)
    assert none(pods.pod(initContainerStatuses=[loading], containerStatuses=[pods.container("main", pods.INITIALIZING)]))


def evaluating(vllm: Object) -> Object:
    return pods.pod(initContainerStatuses=[vllm], containerStatuses=[pods.container("main", pods.INITIALIZING)])


def test_a_sidecar_that_restarts_again_and_again_is_counted_with_its_last_words() -> None:
    log = "INFO loading\nTraceback (most recent call last):\n  File x\nValueError: max_model_len (99) is too large\n"
    crashed = pods.container("vllm", pods.waiting("CrashLoopBackOff", "back-off 40s"), 3, pods.ended(1, log))
    trouble = found(evaluating(crashed))
    assert trouble.reason == "ContainerRestarting"
    assert trouble.cause == (
        "container vllm was restarted 3 times; it last ended with exit code 1: ValueError: max_model_len (99) is too large"
    )
    assert f"kubectl logs {pods.NAME} --container=vllm --previous" in trouble.fix


def test_a_sidecar_that_its_startup_probe_kills_has_the_probes_words() -> None:
    loading = pods.container("vllm", pods.RUNNING, 1, pods.ended(137), started=False)
    asked = found(evaluating(loading))
    assert asked.lookups(LATER) == (pods.POD,)
    probe = 'Startup probe failed: Get "http://10.0.0.9:8000/health": dial tcp 10.0.0.9:8000: connect: connection refused'
    trouble = found(evaluating(loading), pods.warned(pods.POD, "Unhealthy", probe))
    assert trouble.cause == f"container vllm was restarted once; it last ended with exit code 137; {probe}"
    assert "execution.train.resources" in trouble.fix


def test_a_sidecar_that_recovered_is_no_trouble_until_it_keeps_restarting() -> None:
    def ready(restarts: int, finished: str = make.CREATED) -> Object:
        last = pods.ended(1, "boom", finished=finished)
        return evaluating(pods.container("vllm", pods.RUNNING, restarts, last, started=True, ready=True))

    assert none(ready(1))
    assert found(ready(3)).reason == "ContainerRestarting"
    assert none(ready(3, "2026-11-20T11:00:00Z")), "the kubelet forgets restarts after ten minutes too"


def built_init_containers() -> list[Object]:
    """All init containers of a serving pod that has everything, and those of an evaluation."""
    agent = make.agent(monitoring={}, serving={"conversationState": {}, "apiKeySecret": {"name": "travel-key"}})
    run = wanted_run(agent)
    evaluation = stage_job(run, ExecutionSettings(), Attempt("evaluate", 1), SETTINGS, [Model("models/1", "travel")])
    parts = (obj["spec"]["template"]["spec"]["initContainers"] for obj in (version(agent, run), evaluation))
    return [container for each in parts for container in each]


def test_every_sidecar_of_ours_is_known_as_one_and_nothing_else_is() -> None:
    made = built_init_containers()
    assert {each["name"] for each in made if "restartPolicy" in each} == {"exporter", "monitor", "state", "vllm"}
    for each in made:
        crashed = pods.container(each["name"], pods.waiting("CrashLoopBackOff"), 3, pods.ended(1, "boom"))
        reason = found(evaluating(crashed), place=pods.SERVING).reason
        assert reason == ("ContainerRestarting" if "restartPolicy" in each else "InitFailed"), each["name"]


@pytest.mark.parametrize(("name", "field"), [("vllm", "spec.serving"), ("monitor", "spec.monitoring")])
def test_a_container_that_ran_out_of_memory_has_the_field_of_its_own_limit(name: str, field: str) -> None:
    killed = pods.container(name, pods.waiting("CrashLoopBackOff"), 1, pods.ended(137, reason="OOMKilled"))
    assert found(evaluating(killed), place=pods.SERVING).fix == f"raise {field}.resources.limits.memory"


WORDS = "model models/1 has digest sha256:a, but sha256:b was expected; correct spec.model.digest or the URI"


@pytest.mark.parametrize(
    "verify",
    [
        pods.container("verify", {"terminated": pods.ended(10, WORDS)}),
        pods.container("verify", pods.waiting("CrashLoopBackOff", "back-off 10s"), 1, pods.ended(10, WORDS)),
    ],
    ids=["just ended", "backing off"],
)
def test_an_init_container_that_fails_says_why_at_once(verify: Object) -> None:
    pod = pods.pod(initContainerStatuses=[verify], containerStatuses=[pods.container("vllm", pods.INITIALIZING)])
    trouble = pod_trouble(pod, {}, pods.SERVING, make.NOW)
    assert trouble and trouble.lasts(make.NOW)
    assert (trouble.reason, trouble.cause) == ("InitFailed", f"init container verify failed with exit code 10: {WORDS}")
    assert "correct spec.model.uri or spec.model.digest" in trouble.fix


def test_a_model_that_cannot_be_pulled_has_the_words_of_the_pull_which_name_the_fix() -> None:
    words = "registry r asks for a password (401); correct the password in the Secret of spec.model.registrySecret"
    pulls = [pods.container("pull", {"terminated": pods.ended(code, words)}) for code in (10, 14)]
    refused, passing = (found(pods.pod(initContainerStatuses=[pull]), place=pods.SERVING) for pull in pulls)
    assert refused.cause == f"init container pull failed with exit code 10: {words}"
    assert "after a change of spec.model other pods start" in refused.fix
    assert passing.fix == "the kubelet tries again by itself"


def test_a_key_that_no_client_could_send_is_named_with_its_secret() -> None:
    words = "the API key in Secret travel-key (key apiKey) is empty"
    check = pods.container("api-key", {"terminated": pods.ended(10, words)})
    trouble = pod_trouble(pods.pod(initContainerStatuses=[check]), {}, pods.SERVING, make.NOW)
    assert trouble and (trouble.reason, trouble.fix) == (
        "InitFailed",
        "correct that key of the Secret, and the pod starts by itself",
    )
    assert trouble.cause == f"init container api-key failed with exit code 10: {words}"


def test_an_init_container_that_succeeded_in_the_end_is_no_trouble() -> None:
    done = pods.container("verify", {"terminated": pods.ended(0, reason="Completed")}, 1, pods.ended(14, "no store"), ready=True)
    loading = pods.container("vllm", pods.RUNNING)
    assert none(pods.pod(initContainerStatuses=[done], containerStatuses=[loading]))


def test_memory_that_runs_out_has_a_reason_of_its_own() -> None:
    killed = pods.container("vllm", pods.waiting("CrashLoopBackOff"), 2, pods.ended(137, reason="OOMKilled"))
    trouble = found(evaluating(killed))
    assert (trouble.reason, trouble.cause) == ("OutOfMemory", "container vllm ran out of memory (restarted 2 times)")
    assert "raise execution.train.resources.limits.memory" in trouble.fix


@pytest.mark.parametrize("phase", ["Running", "Succeeded", "Failed"])
def test_a_pod_that_runs_or_has_ended_is_no_trouble(phase: str) -> None:
    assert none(pods.pod(phase, containerStatuses=[pods.container("main", pods.RUNNING, ready=True)]))


FORBIDDEN = 'Error creating: pods "travel-12345678-train-1-{}" is forbidden: '
REFUSALS = [
    ("exceeded quota: small, requested: pods=1, used: pods=0, limited: pods=0", "QuotaExceeded", "raise that ResourceQuota"),
    ("failed quota: small: must specify limits.cpu for: main", "QuotaExceeded", "set what it names in execution.train.resources"),
    ("maximum memory usage per Container is 1Gi, but limit is 10Gi", "AdmissionDenied", "within the LimitRange"),
    (
        'error looking up service account demo/default: serviceaccount "default" not found',
        "AdmissionDenied",
        "create that ServiceAccount",
    ),
    (
        "ValidatingAdmissionPolicy 'labels' with binding 'labels' denied request: team is missing",
        "AdmissionDenied",
        "have that admission policy admit pods",
    ),
]


@pytest.mark.parametrize(("words", "reason", "fix"), REFUSALS)
def test_a_job_whose_pod_is_refused_is_explained_by_its_events(words: str, reason: str, fix: str) -> None:
    metadata = {"name": pods.JOB.name, "namespace": make.NAMESPACE, "creationTimestamp": make.CREATED}
    job: Object = {"kind": "Job", "metadata": metadata}
    asked = job_without_pod(job, {}, pods.STAGE)
    assert (asked.reason, asked.lookups(LATER)) == ("PodPending", (pods.JOB,))
    causes = set()
    for suffix in ("abcde", "fghij"):
        refused = job_without_pod(job, pods.warned(pods.JOB, "FailedCreate", FORBIDDEN.format(suffix) + words), pods.STAGE)
        causes.add(refused.cause)
        assert refused.reason == reason
        assert fix in refused.fix
    assert causes == {f"no pod could be made: {words}"}, "each try has another pod name, which would make the message flap"


def test_a_deployment_whose_pods_are_refused_says_so_itself() -> None:
    words = "exceeded quota: small, requested: pods=1, used: pods=0, limited: pods=0"
    message = f'pods "travel-cafe1234-79c-" is forbidden: {words}'
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
    trouble = deployment_without_pod({"status": {"conditions": [failure]}}, pods.SERVING)
    assert trouble
    assert (trouble.reason, trouble.cause) == ("QuotaExceeded", f"no pod could be made: {words}")
    assert "lower spec.serving.resources" in trouble.fix
    assert deployment_without_pod({"status": {}}, pods.SERVING) is None


def test_events_are_asked_for_after_a_while_and_conditions_wait_a_little_longer() -> None:
    creating = pods.pod(containerStatuses=[pods.container("main", pods.CREATING)])
    trouble = pod_trouble(creating, {}, pods.STAGE, make.NOW)
    assert trouble
    moments = [make.NOW + timedelta(seconds=seconds) for seconds in (0, 15, 30)]
    assert [bool(trouble.lookups(moment)) for moment in moments] == [False, True, True]
    assert [trouble.lasts(moment) for moment in moments] == [False, False, True]
    assert [trouble.recheck_after(moment) for moment in moments] == [15, 15, 30]
