"""Each field of a serving Deployment and Service, changed behind the operator's back on the real API server."""

import asyncio
import copy
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from subterra_operator import controller
from subterra_operator.decide.agent import drift
from subterra_operator.kube.api_client import ConflictError, KubernetesApi
from subterra_operator.labels import AGENT_LABEL, COMPONENT_LABEL, MADE, MANAGED_BY, VERSION_LABEL
from subterra_operator.resources import Object
from subterra_testkit.cluster.kubernetes_objects import TRAVEL, TRAVEL_AGENT
from subterra_testkit.cluster.operator_namespace import ClusterNamespace, condition, operated

RESYNC_SECONDS = 1.0
Change = Callable[[Object], None]


@pytest.fixture
async def serving(quiet: ClusterNamespace, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ClusterNamespace]:
    """A namespace whose agent serves, with an operator that looks after everything every second."""
    monkeypatch.setattr(controller, "RESYNC_SECONDS", RESYNC_SECONDS)
    async with operated(quiet):
        await quiet.put(TRAVEL)
        await quiet.put(TRAVEL_AGENT)
        await quiet.up_to_date()
        await quiet.until(lambda: recorded(quiet), "the Deployment carries its record")
        yield quiet


async def recorded(world: ClusterNamespace) -> bool:
    return MADE in (await child(world, "Deployment"))["metadata"]["annotations"]


async def child(world: ClusterNamespace, kind: str) -> Object:
    """The agent's only Deployment or Service, found whatever its labels."""
    found, _ = await world.api.list(controller.KINDS[kind], world.namespace, "!nobody")
    [only] = found
    return only


async def changed(world: ClusterNamespace, kind: str, change: Change) -> Object:
    """Changes it as somebody with `kubectl edit` does; returns it as it was before."""
    while True:
        before = await child(world, kind)
        after = copy.deepcopy(before)
        change(after)
        try:
            await world.api.replace(after)
        except ConflictError:
            continue
        return before


def vllm(deployment: Object) -> Any:
    return next(item for item in deployment["spec"]["template"]["spec"]["containers"] if item["name"] == "vllm")


def pod(deployment: Object) -> Any:
    return deployment["spec"]["template"]["spec"]


def label(deployment: Object, name: str, value: str | None) -> None:
    deployment["metadata"]["labels"].pop(name)
    if value:
        deployment["metadata"]["labels"][name] = value


FIELDS: dict[str, tuple[str, Change]] = {
    "image": ("Deployment", lambda obj: vllm(obj).update(image="registry.example/other:1")),
    "image of a sidecar": ("Deployment", lambda obj: pod(obj)["initContainers"][0].update(image="registry.example/other:1")),
    "command": ("Deployment", lambda obj: vllm(obj)["command"].append("--quantization=fp8")),
    "args": ("Deployment", lambda obj: vllm(obj).update(args=["--seed=3"])),
    "a variable": ("Deployment", lambda obj: vllm(obj)["env"][0].update(value="/elsewhere")),
    "a variable removed": ("Deployment", lambda obj: vllm(obj)["env"].pop(0)),
    "container ports": ("Deployment", lambda obj: vllm(obj)["ports"][0].update(containerPort=8099)),
    "resources": ("Deployment", lambda obj: vllm(obj)["resources"]["limits"].update(memory="9Gi")),
    "a probe": ("Deployment", lambda obj: vllm(obj).pop("readinessProbe")),
    "security context": ("Deployment", lambda obj: vllm(obj)["securityContext"].update(readOnlyRootFilesystem=False)),
    "volume mounts": ("Deployment", lambda obj: vllm(obj)["volumeMounts"][0].update(readOnly=False)),
    "a sidecar removed": ("Deployment", lambda obj: pod(obj)["initContainers"].pop()),
    "volumes": ("Deployment", lambda obj: volume_of(obj, "persistentVolumeClaim")["persistentVolumeClaim"].update(claimName="x")),
    "grace period": ("Deployment", lambda obj: pod(obj).update(terminationGracePeriodSeconds=1)),
    "node selector": ("Deployment", lambda obj: pod(obj).update(nodeSelector={"disk": "ssd"})),
    "pod label": ("Deployment", lambda obj: obj["spec"]["template"]["metadata"]["labels"].pop(COMPONENT_LABEL)),
    "replicas": ("Deployment", lambda obj: obj["spec"].update(replicas=3)),
    "label version": ("Deployment", lambda obj: label(obj, VERSION_LABEL, "other")),
    "label component": ("Deployment", lambda obj: label(obj, COMPONENT_LABEL, None)),
    "label agent": ("Deployment", lambda obj: label(obj, AGENT_LABEL, "other")),
    "label managed-by": ("Deployment", lambda obj: label(obj, MANAGED_BY, "Helm")),
    "Service: version selected": ("Service", lambda obj: obj["spec"]["selector"].update({VERSION_LABEL: "none"})),
    "Service: agent selected": ("Service", lambda obj: obj["spec"]["selector"].update({AGENT_LABEL: "other"})),
    "Service: narrower selector": ("Service", lambda obj: obj["spec"]["selector"].update(zone="a")),
    "Service: no selector": ("Service", lambda obj: obj["spec"].pop("selector")),
    "Service: port": ("Service", lambda obj: obj["spec"]["ports"][0].update(port=9999)),
    "Service: target port": ("Service", lambda obj: obj["spec"]["ports"][0].update(targetPort=22)),
    "Service: one port more": ("Service", lambda obj: obj["spec"]["ports"].append({"name": "more", "port": 23})),
    "Service: label agent": ("Service", lambda obj: label(obj, AGENT_LABEL, "other")),
    "Service: label managed-by": ("Service", lambda obj: label(obj, MANAGED_BY, None)),
}
ADDED = {"node selector"}
"""What others add to a pod and the operator leaves alone."""


def volume_of(deployment: Object, kind: str) -> Any:
    return next(item for item in pod(deployment)["volumes"] if kind in item)


def guarded(obj: Object) -> Object:
    """What the operator answers for: spec and its labels."""
    spec = copy.deepcopy(obj["spec"])
    return {"spec": spec, "labels": obj["metadata"].get("labels")}


async def test_each_field_that_somebody_changes_is_restored_within_a_resync(
    serving: ClusterNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift, "PAUSE_SECONDS", 0.0)
    outcomes = Counter[str]()
    for name, (kind, change) in FIELDS.items():
        before = guarded(await changed(serving, kind, change))

        async def is_restored(kind: str = kind, before: Object = before) -> bool:
            return guarded(await child(serving, kind)) == before

        if name in ADDED:
            await asyncio.sleep(3 * RESYNC_SECONDS)
            assert not await is_restored()
            outcomes["left to others"] += 1
        else:
            await serving.until(is_restored, f"{name} is restored", 15)
            outcomes["restored"] += 1
    await serving.up_to_date()
    print(f"{len(FIELDS)} fields changed behind the operator's back: {dict(outcomes)}")


async def test_a_writer_who_insists_is_reported_and_not_fought(serving: ClusterNamespace) -> None:
    change = FIELDS["image"][1]
    await changed(serving, "Deployment", change)

    async def is_restored() -> bool:
        return bool(vllm(await child(serving, "Deployment"))["image"] != "registry.example/other:1")

    await serving.until(is_restored, "the image is restored")
    await changed(serving, "Deployment", change)

    async def reported() -> Object | None:
        agent = await serving.condition("CompiledAgent", "travel", "UpToDate", "False", "Drifted")
        return agent if "something else insists" in condition(agent, "UpToDate")["message"] else None

    agent = await serving.until(reported, "the agent says that something else insists")
    assert "spec.template.spec.containers[vllm].image" in condition(agent, "UpToDate")["message"]
    assert condition(agent, "Ready")["status"] == "True"
    await asyncio.sleep(3 * RESYNC_SECONDS)
    assert not await is_restored()


def injected(deployment: Object) -> None:
    """What an injector of sidecars, variables and annotations adds to a Deployment."""
    template, sidecar = deployment["spec"]["template"], copy.deepcopy(vllm(deployment))
    for field in ("ports", "startupProbe", "readinessProbe", "lifecycle"):
        sidecar.pop(field, None)
    pod(deployment)["containers"].append({**sidecar, "name": "mesh"})
    vllm(deployment)["env"].append({"name": "OTEL_SERVICE_NAME", "value": "travel"})
    pod(deployment)["volumes"].append({"name": "certificates", "emptyDir": {}})
    template["metadata"].setdefault("annotations", {})["kubectl.kubernetes.io/restartedAt"] = "2026-11-20T12:00:00Z"
    template["metadata"]["labels"]["mesh"] = "on"
    deployment["metadata"]["labels"]["team"] = "travel"


async def test_what_others_add_is_left_alone_and_at_rest_nothing_is_written(
    serving: ClusterNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    await changed(serving, "Deployment", injected)
    await changed(serving, "Service", lambda obj: obj["metadata"].setdefault("annotations", {}).update(team="travel"))
    written: list[str] = []
    call = KubernetesApi._call

    async def counted(self: KubernetesApi, method: str, path: str, *arguments: Any, **options: Any) -> Object:
        if method != "GET" and serving.namespace in path and not path.endswith("heartbeat") and "/pods/" not in path:
            written.append(f"{method} {path}")
        return await call(self, method, path, *arguments, **options)

    monkeypatch.setattr(KubernetesApi, "_call", counted)

    async def resting() -> bool:
        written.clear()
        await asyncio.sleep(2 * RESYNC_SECONDS)
        return not [path for path in written if "leases" not in path]

    await serving.until(resting, "the operator has dealt with the additions")
    written.clear()
    await asyncio.sleep(4 * RESYNC_SECONDS)
    print(f"writes in four resyncs with additions of others: {len(written)}")
    assert [path for path in written if "leases" not in path] == []
    found = await child(serving, "Deployment")
    assert [item["name"] for item in pod(found)["containers"]] == ["vllm", "mesh"]
    await serving.up_to_date()


async def test_a_version_that_never_ran_gets_no_traffic_while_the_agent_is_scaled_to_zero(serving: ClusterNamespace) -> None:
    before = await child(serving, "Service")
    stopped = {**TRAVEL_AGENT["spec"], "serving": {"replicas": 0, "args": ["--max-num-seqs=8"]}}
    await serving.put({**TRAVEL_AGENT, "spec": stopped})
    agent = await serving.condition("CompiledAgent", "travel", "UpToDate", "False", "ScaledToZero")
    assert "has never run, because spec.serving.replicas is 0" in condition(agent, "UpToDate")["message"]
    assert (await child(serving, "Service"))["spec"]["selector"] == before["spec"]["selector"]
    started = {**TRAVEL_AGENT["spec"], "serving": {"replicas": 1, "args": ["--max-num-seqs=8"]}}
    await serving.put({**TRAVEL_AGENT, "spec": started})
    await serving.up_to_date()
