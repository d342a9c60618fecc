"""For tests against a real API server: objects of a namespace, waiting with a timeout, a kubelet without containers."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from subterra_api.digest import procedure_digest
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_api.v1alpha1.scores import Scores
from subterra_operator.controller import Clock, utc_now
from subterra_operator.kube.api_client import AlreadyExistsError, ApiError, ConflictError, KubernetesApi, NotFoundError
from subterra_operator.main import run_operator
from subterra_operator.resources import KINDS, Key, Kind, Object
from subterra_operator.settings import Settings
from subterra_testkit.cluster.kubernetes_objects import input_of_pod, keys_of_pod, result, scores
from subterra_testkit.cluster.movable_clock import MovableClock

TIMEOUT_SECONDS = 90.0
REQUESTS_IN_BETWEEN = 40
"""Requests, one after the other, from an applied agent to the status that says what is wrong with its first Job."""
READS = 5
ADMISSION = ("admissionregistration.k8s.io", "v1")
EXTRA = {
    "Namespace": Kind("Namespace", "", "v1", "namespaces", ours=True),
    "ResourceQuota": Kind("ResourceQuota", "", "v1", "resourcequotas", ours=True),
    "LimitRange": Kind("LimitRange", "", "v1", "limitranges", ours=True),
    "ValidatingWebhookConfiguration": Kind(
        "ValidatingWebhookConfiguration", *ADMISSION, "validatingwebhookconfigurations", ours=True
    ),
    "ValidatingAdmissionPolicy": Kind("ValidatingAdmissionPolicy", *ADMISSION, "validatingadmissionpolicies", ours=True),
    "ValidatingAdmissionPolicyBinding": Kind(
        "ValidatingAdmissionPolicyBinding", *ADMISSION, "validatingadmissionpolicybindings", ours=True
    ),
    "MutatingAdmissionPolicy": Kind("MutatingAdmissionPolicy", *ADMISSION, "mutatingadmissionpolicies", ours=True),
    "MutatingAdmissionPolicyBinding": Kind(
        "MutatingAdmissionPolicyBinding", *ADMISSION, "mutatingadmissionpolicybindings", ours=True
    ),
    "CustomResourceDefinition": Kind(
        "CustomResourceDefinition", "apiextensions.k8s.io", "v1", "customresourcedefinitions", ours=True
    ),
}


class FakeKubelet:
    """Simulates all containers of a namespace. ``exits``: exit codes and messages of a stage's attempts, then success."""

    def __init__(self, api: KubernetesApi, namespace: str) -> None:
        self.api, self.namespace = api, namespace
        self.exits: dict[str, list[tuple[int, str]]] = {}
        self.held: set[str] = set()
        """Stages whose pods keep running."""
        self.stuck: dict[str, Object] = {}
        """Statuses of pods that do not start, by stage; `serving` for those of agents."""
        self.scores: Scores = scores()
        self.serving_ready = True
        self.paid: dict[str, str] = {}
        """Dollars that a stage's result names, by stage."""
        self.address: str | None = None
        """Of all pods that run."""
        self.dead_nodes: set[str] = set()
        """Nodes whose kubelet does nothing any more."""

    async def run(self) -> None:
        """Runs until cancelled, through outages of the API server too."""
        while True:
            with suppress(ApiError):
                pods, _ = await self.api.list(KINDS["Pod"], self.namespace)
                await self._advance_all([pod for pod in pods if pod["spec"].get("nodeName") not in self.dead_nodes])
            await asyncio.sleep(0.2)

    async def _advance_all(self, pods: Sequence[Object]) -> None:
        for pod in pods:
            with suppress(ConflictError, NotFoundError):
                await self._advance(pod)

    async def _advance(self, pod: Object) -> None:
        phase, labels = pod["status"].get("phase"), pod["metadata"]["labels"]
        stage = labels.get("subterra.dev/stage")
        if pod["metadata"].get("deletionTimestamp"):
            body = {"gracePeriodSeconds": 0}
            path = KINDS["Pod"].path(self.namespace, pod["metadata"]["name"])
            await self.api._call("DELETE", path, body)
        elif labels.get("app.kubernetes.io/component") == "ray":
            if phase == "Pending":
                await self._status(pod, "Running", "main", {"running": {}}, ready=True)
        elif phase == "Pending" and (status := self.stuck.get(stage or "serving")) is not None:
            await self._stick(pod, status)
        elif stage is None and phase == "Pending" and self.serving_ready:
            await self._status(pod, "Running", "vllm", {"running": {}}, ready=True)
        elif stage in self.held and phase == "Pending":
            await self._status(pod, "Running", "main", {"running": {}})
        elif stage and stage not in self.held and phase in ("Pending", "Running"):
            await self._end(pod, stage)

    async def _stick(self, pod: Object, status: Object) -> None:
        if any(pod["status"].get(field) != value for field, value in status.items()):
            await self.api.patch({"apiVersion": "v1", "kind": "Pod", "metadata": _name(pod), "status": status}, "status")

    async def _end(self, pod: Object, stage: str) -> None:
        waiting = self.exits.get(stage, [])
        code, message = waiting.pop(0) if waiting else (0, await self._result(pod, stage))
        ended = {"terminated": {"exitCode": code, "message": message, "startedAt": None, "finishedAt": None}}
        await self._status(pod, "Failed" if code else "Succeeded", "main", ended)

    async def _result(self, pod: Object, stage: str) -> str:
        config = await self.api.get(Key("ConfigMap", self.namespace, input_of_pod(pod["spec"])))
        key = keys_of_pod(pod["spec"], config).of(stage)  # type: ignore[arg-type]
        said: Object = json.loads(result(stage, key, self.scores if stage == "evaluate" else None))
        return json.dumps(said | {"usd": self.paid.get(stage, "0")})

    async def _status(self, pod: Object, phase: str, container: str, state: Object, ready: bool = False) -> None:
        container_status = {
            "name": container,
            "image": "none",
            "imageID": "none",
            "restartCount": 0,
            "ready": ready,
            "state": state,
        }
        conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
        status = {"phase": phase, "containerStatuses": [container_status], "initContainerStatuses": None, "conditions": conditions}
        if self.address and phase == "Running":
            status |= {"podIP": self.address, "podIPs": [{"ip": self.address}]}
        await self.api.patch({"apiVersion": "v1", "kind": "Pod", "metadata": _name(pod), "status": status}, "status")


def _name(obj: Object) -> Object:
    return {key: obj["metadata"][key] for key in ("name", "namespace", "resourceVersion")}


class ClusterNamespace:
    """A namespace on the API server, with its objects and a fake kubelet."""

    def __init__(self, api: KubernetesApi, namespace: str) -> None:
        self.api, self.namespace = api, namespace
        self.kubelet = FakeKubelet(api, namespace)
        self.clock = MovableClock()
        """The operator's, if it was started with it."""
        self._starved_before = starved_seconds()
        KINDS.update(EXTRA)

    async def prepare(self, crds: Sequence[Object]) -> None:
        """Installs the CRDs and creates the namespace."""
        for crd in crds:
            await self.api.apply(crd)
        strict = {"pod-security.kubernetes.io/enforce": "restricted"}
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": strict}}
        await self.put(namespace, namespaced=False)
        for kind in ("Procedure", "CompileRun", "CompiledAgent"):
            await self.until(partial(self.listed, kind), f"{kind} is served")

    async def listed(self, kind: str) -> bool:
        """Whether a kind can be listed yet."""
        try:
            await self.api.list(KINDS[kind], self.namespace)
        except ApiError:
            return False
        return True

    async def put(self, obj: Object, *, namespaced: bool = True) -> Object:
        """Creates an object, or patches the existing one."""
        self._starved_before = starved_seconds()
        metadata = obj["metadata"] | ({"namespace": self.namespace} if namespaced else {})
        try:
            return await self.api.create({**obj, "metadata": metadata})
        except AlreadyExistsError:
            return await self.api.patch({**obj, "metadata": metadata})

    async def change(self, obj: Object) -> Object:
        """Applies a merge patch."""
        return await self.api.patch({**obj, "metadata": obj["metadata"] | {"namespace": self.namespace}})

    async def touch(self, kind: str, name: str) -> None:
        """An event of an object, without any news for the operator."""
        api_version = KINDS[kind].api_version
        annotations = {"example.com/touched": str(time.monotonic())}
        await self.change({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "annotations": annotations}})

    async def get(self, kind: str, name: str) -> Object | None:
        """An object, or `None`."""
        try:
            return await self.api.get(Key(kind, self.namespace, name))
        except NotFoundError:
            return None

    async def delete(self, kind: str, name: str) -> None:
        """Deletes an object, whoever changes it meanwhile; returns when it is gone, or another one has its name."""
        found = await self.get(kind, name)
        uid = found["metadata"]["uid"] if found else None
        while found and found["metadata"]["uid"] == uid:
            with suppress(ConflictError, NotFoundError):
                await self.api.delete(found)
            found = await self.get(kind, name)

    async def all(self, kind: str) -> list[Object]:
        """All objects of a kind that the operator watches, by name."""
        objects, _ = await self.api.list(KINDS[kind], self.namespace)
        return sorted(objects, key=lambda obj: str(obj["metadata"]["name"]))

    async def names(self, kind: str) -> list[str]:
        """Names of these objects."""
        return [obj["metadata"]["name"] for obj in await self.all(kind)]

    async def column(self, kind: str, name: str, header: str) -> Any:
        """A cell of what `kubectl get` shows."""
        accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
        table = await self.api._call("GET", KINDS[kind].path(self.namespace, name), accept=accept)
        headers = [column["name"] for column in table["columnDefinitions"]]
        return table["rows"][0]["cells"][headers.index(header)]

    async def allowance(self, promised: float) -> float:
        """The promised seconds, and what a busy machine adds to them.

        That is how long this process, and the operator in it, has waited for a processor since the last `put`, and how long the
        API server takes for the requests in between: it is asked right now.
        """
        began, starved = time.monotonic(), starved_seconds() - self._starved_before
        for _ in range(READS):
            await self.api.list(KINDS["CompiledAgent"], self.namespace)
        return promised + starved + REQUESTS_IN_BETWEEN * (time.monotonic() - began) / READS

    async def until(self, met: Callable[[], Any], what: str, patience: float = TIMEOUT_SECONDS) -> Any:
        """Waits until ``met`` returns a true value, and returns it."""
        deadline = time.monotonic() + patience
        while not (answer := await met()):
            if time.monotonic() > deadline:
                raise AssertionError(f"timed out after {patience:.0f} s waiting until {what}")
            await asyncio.sleep(0.1)
        return answer

    async def up_to_date(self, name: str = "travel", procedure: Object | None = None, patience: float = TIMEOUT_SECONDS) -> Object:
        """Waits until an agent serves the model of a procedure."""
        digest = procedure_digest(ProcedureSpec.model_validate(procedure["spec"])) if procedure else None

        async def met() -> Object | None:
            found = await self.condition("CompiledAgent", name, "UpToDate", "True", patience=patience)
            return found if digest in (None, found["status"].get("procedureDigest")) else None

        found: Object = await self.until(met, f"{name} serves what its procedure says", patience)
        return found

    async def condition(
        self, kind: str, name: str, of: str, status: str, reason: str | None = None, patience: float = TIMEOUT_SECONDS
    ) -> Object:
        """Waits until a condition of the current generation has this status; returns the object.

        Raises:
            AssertionError: It did not get it in time; the text has the conditions that it has instead.
        """

        async def met() -> Object | None:
            obj = await self.get(kind, name)
            if obj is None or obj.get("status", {}).get("observedGeneration") != obj["metadata"]["generation"]:
                return None
            for item in obj["status"]["conditions"]:
                if item["type"] == of and item["status"] == status and reason in (None, item["reason"]):
                    return obj
            return None

        try:
            found: Object = await self.until(met, f"{kind} {name} has {of}={status} {reason or ''}", patience)
        except AssertionError as late:
            obj = await self.get(kind, name)
            raise AssertionError(f"{late}; it has {obj.get('status') if obj else 'been deleted'}") from None
        return found


@asynccontextmanager
async def running_operator(settings: Settings, clock: Clock = utc_now) -> AsyncIterator[None]:
    """Runs the operator in this process while the block executes."""
    stop = asyncio.Event()
    operator = asyncio.create_task(run_operator(settings.model_copy(update={"port": 0}), stop, clock))
    try:
        yield
    finally:
        stop.set()
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(operator, 20)


@asynccontextmanager
async def operated(world: ClusterNamespace, *others: Coroutine[Any, Any, None]) -> AsyncIterator[ClusterNamespace]:
    """The namespace with an operator of its own and the pretended kubelet, and with ``others`` that run as long as the block."""
    settings = Settings(watch_namespaces=(world.namespace,), namespace=world.namespace)
    tasks = [asyncio.create_task(other) for other in (world.kubelet.run(), *others)]
    try:
        async with running_operator(settings, world.clock):
            yield world
    finally:
        for task in tasks:
            task.cancel()


def starved_seconds() -> float:
    """How long this process's main thread has waited for a processor so far; 0 where the kernel does not say."""
    with suppress(OSError):
        return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    return 0.0


def condition(obj: Object, kind: str) -> Object:
    """An object's condition of a type."""
    found: Object = next(item for item in obj["status"]["conditions"] if item["type"] == kind)
    return found
