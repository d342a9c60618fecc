"""One life of an agent in a namespace of its own: compiled and served, edited and served again, edited and rejected.

The oracle is the undisturbed life: after each act the namespace's objects, with everything masked that may differ, are the same.
"""

import asyncio
import copy
import difflib
import itertools
import json
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.process import OperatorProcess
from tests.faults.proxy import HEARTBEAT, Fault, Proxy, Request

from subterra_api.crd import all_crds
from subterra_api.digest import procedure_digest
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cluster.kubernetes.control_plane import ControlPlane
from subterra_operator.kube.api_client import KubernetesApi
from subterra_operator.labels import APPLIED_DIGEST, labels_of
from subterra_operator.resources import KINDS, Object
from subterra_testkit.cluster.kubernetes_objects import TRAVEL, TRAVEL_AGENT, edited, scores
from subterra_testkit.cluster.operator_namespace import ClusterNamespace, FakeKubelet

RECOVERY_SECONDS = 120.0
"""The promise: so long after the last fault is past, all is as if nothing had been."""
COMPARED = (
    "Procedure",
    "CompileRun",
    "CompiledAgent",
    "Job",
    "Pod",
    "Deployment",
    "Service",
    "ConfigMap",
    "PersistentVolumeClaim",
    "NetworkPolicy",
)
NUMBERS = itertools.count(1)
_FORGOTTEN = (
    "resourceVersion",
    "generation",
    "observedGeneration",
    "managedFields",
    "clusterIP",
    "clusterIPs",
    APPLIED_DIGEST,
    "collisionCount",  # counts one, with another hash, when a Deployment is back before its old ReplicaSet is gone
)
_MASKS = (
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "UID"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)"), "TIME"),
    (re.compile(r"(?<=travel-[0-9a-f]{8}-)[bcdfghjklmnpqrstvwxz2456789]{5,10}\b"), "HASH"),
    (re.compile(r'(?<="pod-template-hash": ")\w+'), "HASH"),
)


SECOND = edited("You are a very helpful travel booking assistant.")
THIRD = edited("You are a hasty travel booking assistant.")


@dataclass
class Life:
    """A namespace with an operator behind a proxy and a kubelet that only pretends."""

    plane: ControlPlane
    api: KubernetesApi
    folder: Path
    plan: Sequence[Fault] = ()
    name: str = "life"
    created: list[tuple[str, str]] = field(default_factory=list)
    """Name and UID of every Job that ever was."""

    def __post_init__(self) -> None:
        self.world = ClusterNamespace(self.api, f"faults-{next(NUMBERS)}")
        self.operator = OperatorProcess(self.folder / self.world.namespace, self.world.namespace)
        self.proxy = Proxy(self.plane, self.operator, self.plan)
        self._stack = AsyncExitStack()

    @property
    def kubelet(self) -> FakeKubelet:
        return self.world.kubelet

    async def __aenter__(self) -> "Life":
        await self.world.prepare(all_crds())
        await self.proxy.start()
        self._stack.push_async_callback(self.proxy.close)
        await self._stack.enter_async_context(self.operator)
        for work in (self.kubelet.run(), self._count_jobs()):
            self._stack.push_async_callback(_cancelled, asyncio.create_task(work))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _count_jobs(self) -> None:
        """Sees every Job: they live longer than the pause."""
        while True:
            for job in await self.world.all("Job"):
                seen = (job["metadata"]["name"], job["metadata"]["uid"])
                if seen not in self.created:
                    self.created.append(seen)
            await asyncio.sleep(0.2)

    async def told(self, what: Object, **conditions: str) -> None:
        """Waits until the agent speaks of this procedure, with these conditions."""
        digest = procedure_digest(ProcedureSpec.model_validate(what["spec"]))

        async def met() -> bool:
            agent = await self.world.get("CompiledAgent", "travel")
            status = (agent or {}).get("status", {})
            found = {item["type"]: item["status"] for item in status.get("conditions", [])}
            return status.get("procedureDigest") == digest and conditions.items() <= found.items()

        await self.until(met, f"the agent has {conditions}")

    async def until(self, met: Callable[[], Awaitable[object]], what: str) -> None:
        """Waits for something; the clock of the promise runs only when no fault does."""
        deadline = time.monotonic() + RECOVERY_SECONDS
        while not await met():
            now = time.monotonic()
            if any(armed.fired and not armed.over(now) for armed in self.proxy.armed) or self.operator.frozen:
                deadline = now + RECOVERY_SECONDS
            if now > deadline:
                raise AssertionError(f"{self.name}: not within {RECOVERY_SECONDS:.0f} s: {what}; {self.operator.log}")
            await asyncio.sleep(0.1)

    # The acts of a life.

    async def served(self) -> None:
        """From nothing to a served version."""
        await self.world.put(TRAVEL)
        await self.world.put(TRAVEL_AGENT)
        await self.told(TRAVEL, UpToDate="True", Ready="True")

    async def served_again(self) -> None:
        """An edit, and a second version takes over."""
        await self.world.put(SECOND)
        await self.told(SECOND, UpToDate="True", Ready="True")

    async def rejected(self) -> None:
        """Another edit, whose candidate does not pass."""
        self.kubelet.scores = scores(mean=2.0, failures=0.6)
        await self.world.put(THIRD)
        await self.told(THIRD, UpToDate="False", Ready="True")
        await self.until(self._judged, "the third run is judged")

    async def _judged(self) -> bool:
        agent = await self.world.get("CompiledAgent", "travel")
        return ((agent or {}).get("status", {}).get("candidate") or {}).get("verdict", {}).get("result") == "Fail"

    # The oracle.

    async def state(self) -> str:
        """All objects of the namespace, masked."""
        found = []
        for kind in COMPARED:
            objects, _ = await self.api.list(KINDS[kind], self.world.namespace)
            found += [self._masked(obj) for obj in objects if obj["metadata"]["name"] != HEARTBEAT]
        return "\n".join(sorted(found))

    def _masked(self, obj: Object) -> str:
        obj = copy.deepcopy(obj)
        if "generateName" in obj["metadata"]:
            obj["metadata"]["name"] = obj["metadata"]["generateName"] + "*"
        text = json.dumps(_without(obj), indent=1, sort_keys=True).replace(self.world.namespace, "NAMESPACE")
        text = f"{obj['kind']} {obj['metadata']['name']}\n{text}"
        for pattern, mask in _MASKS:
            text = pattern.sub(mask, text)
        return text

    async def settled(self) -> str:
        """The state, when it has not changed for a while."""
        before, since = await self.state(), time.monotonic()
        while time.monotonic() - since < 2.0:
            await asyncio.sleep(0.2)
            if (now := await self.state()) != before:
                before, since = now, time.monotonic()
        return before

    async def same(self, wanted: str) -> None:
        """Waits until the state is that of the undisturbed life."""
        found = ""

        async def met() -> bool:
            nonlocal found
            found = await self.state()
            return found == wanted

        try:
            await self.until(met, "the state is that of the undisturbed life")
        except AssertionError as error:
            lines = difflib.unified_diff(wanted.splitlines(), found.splitlines(), "undisturbed", self.name, lineterm="", n=8)
            raise AssertionError(f"{error}\n" + "\n".join(itertools.islice(lines, 200))) from None

    async def stays(self, wanted: str) -> None:
        """The state comes to rest where the undisturbed life's does."""
        await self.settled()
        await self.same(wanted)

    async def paid_once(self) -> None:
        """Each Job was created once, and no two for the same attempt."""
        names = [name for name, _ in self.created]
        assert len(names) == len(set(names)), f"{self.name}: a Job was made twice: {sorted(names)}"
        writes = [request for request, _ in self.proxy.written if request.verb == "create" and request.kind == "jobs"]
        assert len(writes) == len(set(writes)), f"{self.name}: {writes}"
        jobs = await self.world.all("Job")
        attempts = [tuple(labels_of(job)[f"subterra.dev/{part}"] for part in ("run", "stage", "attempt", "attach")) for job in jobs]
        assert len(attempts) == len(set(attempts)), f"{self.name}: two Jobs for one attempt: {attempts}"

    def past(self) -> list[Fault]:
        """The faults that happened."""
        return [armed.fault for armed in self.proxy.armed if armed.fired]


@dataclass(frozen=True)
class Reference:
    """The undisturbed life: the state after each act, and its writes in order."""

    states: tuple[str, ...]
    writes: tuple[tuple[Request, int], ...]


ACTS = ("served", "served_again", "rejected")


async def undisturbed(life: Life) -> Reference:
    """Lives without faults."""
    states = []
    async with life:
        for act in ACTS:
            await getattr(life, act)()
            states.append(await life.settled())
        await life.paid_once()
        return Reference(tuple(states), tuple(life.proxy.written))


async def lived(life: Life, reference: Reference, acts: Sequence[str] = ACTS) -> None:
    """Lives with the planned faults, and ends each act as the undisturbed life does."""
    async with life:
        for act, state in zip(acts, reference.states, strict=False):
            await getattr(life, act)()
            await life.same(state)
        await life.paid_once()


def _without(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without(item) for key, item in value.items() if key not in _FORGOTTEN}
    return [_without(item) for item in value] if isinstance(value, list) else value


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
