"""Runs in a queue, with Kueue's own controller on a real API server, and JobSet's for several nodes; only the kubelet pretends."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.apiserver.pods.test_pods import POD_SPEC
from tests.programs import ModuleCrd
from tests.tools import jobset, kueue

from subterra_api.v1alpha1 import API_VERSION
from subterra_cluster.config import default_cache
from subterra_cluster.kubernetes.control_plane import ControlPlane
from subterra_operator.labels import labels_of
from subterra_operator.resources import KINDS, Kind, Object
from subterra_testkit.cluster.kubernetes_objects import TRAVEL
from subterra_testkit.cluster.operator_namespace import ClusterNamespace, condition

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(900)]  # the controllers take a quarter of an hour of a core to build
QUEUE, RUN, FIRST_JOB = "team", "queued", "queued-generate-1"
HOURS = 7 * 3600.0
"""Longer than an attempt may take to start, or to run."""


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane of this file alone, because Kueue changes Jobs of all namespaces; with JobSet if that is built."""
    tools = [tool for tool in (jobset, kueue) if tool.controller_path(default_cache()).exists()]
    if kueue not in tools:
        pytest.skip("the controller is not built: make test-exhaustive builds it")
    with ControlPlane(tmp_path_factory.mktemp("plane"), controllers=True) as plane, ExitStack() as controllers:
        _install(plane, [*kueue.CRDS, *([jobset.CRD] if jobset in tools else [])])
        for tool in tools:
            program, folder = tool.controller_path(default_cache()), tmp_path_factory.mktemp("controller")
            webhooks = controllers.enter_context(tool.running_controller(program, plane.kubeconfig, folder))
            _kubectl(plane, "apply", "--filename=-", objects=webhooks)
        yield plane


def _install(plane: ControlPlane, crds: list[ModuleCrd]) -> None:
    """Installs CRDs server-side, because Workloads do not fit the annotation that kubectl keeps otherwise."""
    _kubectl(plane, "apply", "--server-side", *(f"--filename={crd.path(default_cache())}" for crd in crds))
    _kubectl(plane, "wait", "--for=condition=Established", "customresourcedefinition", "--all", "--timeout=60s")


def _kubectl(plane: ControlPlane, *arguments: str, objects: list[Object] | None = None) -> None:
    sent = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects or []})
    command: list[str | Path] = [plane.kubectl, "--kubeconfig", plane.kubeconfig, *arguments]
    done = subprocess.run(command, input=sent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
async def queues(world: ClusterNamespace, monkeypatch: pytest.MonkeyPatch) -> ClusterNamespace:
    """The namespace with an operator and a procedure, and Kueue's kinds known."""
    for kind, plural in kueue.KINDS.items():
        monkeypatch.setitem(KINDS, kind, Kind(kind, kueue.GROUP, kueue.VERSION, plural, ours=True))
    await world.put(TRAVEL)
    return world


async def offer(world: ClusterNamespace, cpus: int, queue: str = QUEUE) -> None:
    """A queue of the namespace that shares so many processors, and in which the more urgent goes first."""
    head = {"apiVersion": f"{kueue.GROUP}/{kueue.VERSION}", "metadata": {"name": world.namespace}}
    await world.put({**head, "kind": "ResourceFlavor", "metadata": {"name": "any"}}, namespaced=False)
    amounts = [{"name": "cpu", "nominalQuota": cpus}, {"name": "memory", "nominalQuota": "1Ti"}]
    group = {"coveredResources": ["cpu", "memory"], "flavors": [{"name": "any", "resources": amounts}]}
    shared = {"namespaceSelector": {}, "resourceGroups": [group], "preemption": {"withinClusterQueue": "LowerPriority"}}
    await world.put({**head, "kind": "ClusterQueue", "spec": shared}, namespaced=False)
    local = {**head, "kind": "LocalQueue", "metadata": {"name": queue}}
    await world.put({**local, "spec": {"clusterQueue": world.namespace}})


def run(**execution: object) -> Object:
    """A run in the queue, or a change of it."""
    spec = {"inputs": {"procedureRef": {"name": "travel"}}, "execution": {"queueName": QUEUE, **execution}}
    return {"apiVersion": API_VERSION, "kind": "CompileRun", "metadata": {"name": RUN}, "spec": spec}


async def urgent(world: ClusterNamespace) -> str:
    """The name of somebody's Job, which goes before all others in the queue, takes a processor and has been admitted."""
    head = {"apiVersion": f"{kueue.GROUP}/{kueue.VERSION}", "kind": "WorkloadPriorityClass"}
    await world.put({**head, "metadata": {"name": "urgent"}, "value": 1000}, namespaced=False)
    container = {**POD_SPEC["containers"][0], "resources": {"requests": {"cpu": "1"}}}
    pod = {**POD_SPEC, "restartPolicy": "Never", "containers": [container]}
    labels = {"kueue.x-k8s.io/queue-name": QUEUE, "kueue.x-k8s.io/priority-class": "urgent"}
    metadata = {"name": "urgent", "labels": labels}
    await world.put(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"suspend": True, "template": {"spec": pod}}}
    )

    async def admitted() -> bool:
        found = await world.get("Job", "urgent")
        return bool(found and not found["spec"]["suspend"])

    await world.until(admitted, "the urgent Job is admitted")
    return "urgent"


async def waiting(world: ClusterNamespace, stage: str = "generate") -> str:
    """What the run says while its stage waits in the queue, in the words of Kueue."""

    async def told() -> str | None:
        found = await world.condition("CompileRun", RUN, "Reconciling", "True", "Queued")
        message, said = condition(found, "Reconciling")["message"], await kueues_words(world, stage)
        return message if said and f"{stage}: waiting for admission to queue {QUEUE}: " in message and said in message else None

    message: str = await world.until(told, "the run says what Kueue says")
    return message


async def workload(world: ClusterNamespace, stage: str) -> Object | None:
    """The Workload that stands for a stage's Job, or JobSet, in the queue."""
    owned = [each for each in await world.all("Workload") if each["metadata"]["ownerReferences"][0]["name"].endswith(f"-{stage}-1")]
    return owned[0] if owned else None


async def kueues_words(world: ClusterNamespace, stage: str) -> str | None:
    """Why Kueue does not admit a stage."""
    found = await workload(world, stage)
    said = [each["message"] for each in (found or {}).get("status", {}).get("conditions", ()) if each["type"] == "QuotaReserved"]
    return said[0] if said else None


async def job_is(world: ClusterNamespace, suspended: bool) -> Object:
    """Waits until the first Job is suspended and has no pods left, or runs with a pod; returns it."""

    async def met() -> Object | None:
        found, pods = await world.get("Job", FIRST_JOB), await world.all("Pod")
        reached = not pods if suspended else [pod for pod in pods if pod["status"].get("phase") == "Running"]
        return found if found and found["spec"].get("suspend", False) is suspended and reached else None

    found: Object = await world.until(met, f"{FIRST_JOB} {'is suspended' if suspended else 'runs'}")
    return found


async def succeeds(world: ClusterNamespace) -> None:
    """Waits until the run has succeeded, each stage by its first attempt."""
    world.kubelet.held = set()
    found = await world.condition("CompileRun", RUN, "Succeeded", "True", patience=180)
    attempts = [(stage["attempt"], stage.get("retries", 0)) for stage in found["status"]["stages"]]
    assert attempts[:3] == [(1, 0)] * 3


async def test_a_run_whose_queue_does_not_exist_waits_until_it_does(queues: ClusterNamespace) -> None:
    await queues.put(run())
    assert f"LocalQueue {QUEUE} doesn't exist" in await waiting(queues)
    assert await queues.all("Pod") == []
    await offer(queues, cpus=8)
    await succeeds(queues)


async def test_a_run_without_quota_says_what_is_missing_and_goes_on_once_it_is_there(queues: ClusterNamespace) -> None:
    await offer(queues, cpus=0)
    await queues.put(run())
    assert "insufficient quota for cpu in flavor any" in await waiting(queues)
    assert await queues.all("Pod") == []
    await offer(queues, cpus=8)
    await succeeds(queues)


async def test_a_suspended_run_leaves_its_quota_to_others_and_comes_back(queues: ClusterNamespace) -> None:
    queues.kubelet.held = {"generate"}
    await offer(queues, cpus=1)
    await queues.put(run())
    await job_is(queues, suspended=False)
    await queues.change(run(suspend=True))
    await queues.condition("CompileRun", RUN, "Succeeded", "Unknown", "Suspended")
    await job_is(queues, suspended=True)
    other = await urgent(queues)

    await queues.change(run(suspend=False))
    message = await waiting(queues)
    assert "insufficient unused quota for cpu in flavor any" in message
    assert "deactivated" not in message
    await queues.delete("Job", other)
    await job_is(queues, suspended=False)
    await succeeds(queues)


async def test_a_run_that_is_suspended_while_it_waits_is_passed_over(queues: ClusterNamespace) -> None:
    await offer(queues, cpus=0)
    await queues.put(run())
    await waiting(queues)
    await queues.change(run(suspend=True))

    async def inactive() -> bool:
        found = await workload(queues, "generate")
        return bool(found and found["spec"]["active"] is False)

    await queues.until(inactive, "its Workload is inactive")
    await offer(queues, cpus=8)
    await urgent(queues)  # who came later has got in
    await job_is(queues, suspended=True)
    await queues.change(run(suspend=False))
    await succeeds(queues)


async def test_a_run_that_is_preempted_waits_again_without_failure_and_without_losing_time(queues: ClusterNamespace) -> None:
    queues.kubelet.held = {"generate"}
    await offer(queues, cpus=1)
    await queues.put(run())
    await job_is(queues, suspended=False)
    other = await urgent(queues)
    preempted = await job_is(queues, suspended=True)
    assert "Preempted: " in await waiting(queues)
    assert not {"startTime", "failed"} & set(preempted["status"])

    with queues.clock.ahead(HOURS):
        await queues.change(run(maxUSD="5"))  # another generation, by which one sees that it was decided
        found = await queues.condition("CompileRun", RUN, "Reconciling", "True", "Queued")
        assert [(stage["state"], stage["attempt"], stage.get("retries", 0)) for stage in found["status"]["stages"][:1]] == [
            ("Running", 1, 0)
        ]
    await queues.delete("Job", other)
    resumed = await job_is(queues, suspended=False)
    assert resumed["metadata"]["uid"] == preempted["metadata"]["uid"]
    await succeeds(queues)


async def test_the_pods_of_a_training_on_several_nodes_are_admitted_together(queues: ClusterNamespace) -> None:
    if not jobset.controller_path(default_cache()).exists():
        pytest.skip("JobSet's controller is not built: make test-exhaustive builds it")
    queues.kubelet.held = {"train"}
    await offer(queues, cpus=1)  # enough for one pod
    await queues.put(run(train={"nodes": 2}))
    assert "insufficient quota for cpu in flavor any" in await waiting(queues, "train")
    assert not [pod for pod in await queues.all("Pod") if labels_of(pod)["subterra.dev/stage"] == "train"]
    await offer(queues, cpus=2)

    async def both() -> bool:
        pods = [pod for pod in await queues.all("Pod") if labels_of(pod)["subterra.dev/stage"] == "train"]
        return [pod["status"].get("phase") for pod in pods] == ["Running"] * 2

    await queues.until(both, "both pods run")
    await succeeds(queues)
