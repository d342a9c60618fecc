"""One run through everything that spot nodes do in a day, on the real API server with its Job controller and pod collector.

Scheduler, kubelet and attacher are pretended: their statuses and Events are written as they write them. The operator's clock is
set forward instead of waiting.
"""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from aiohttp import web

from subterra_api.job_contract.messages import Progress
from subterra_operator.decide.decision import parse_time
from subterra_operator.decide.trouble import trouble
from subterra_operator.kube import event_reader
from subterra_operator.labels import ATTEMPT_LABEL, STAGE_LABEL, labels_of
from subterra_operator.monitoring import pod_poller
from subterra_operator.resources import KINDS, Object, is_deleting
from subterra_testkit.cluster.kubernetes_objects import TRAVEL, TRAVEL_AGENT
from subterra_testkit.cluster.operator_namespace import ClusterNamespace, condition
from subterra_testkit.servers.local_server import free_port

BACKEND_DOWN = 'AttachVolume.Attach failed for volume "pvc-1" : rpc error: code = Unavailable desc = storage backend is down'
DELETED = "the pod was "
"""Ended, in the eviction's words, or evicted or deleted: it may be gone before its Job has failed."""
CALL_USD = Decimal("0.01")
PATIENCE = 120.0
Act = Callable[[ClusterNamespace, Object], Awaitable[None]]


async def evicted(world: ClusterNamespace, pod: Object) -> None:
    """Through the eviction API, by a kubelet that ends the containers at once."""
    await evict(world, pod)
    if found := await world.get("Pod", pod["metadata"]["name"]):
        await end(world, found, 143, found["status"]["conditions"])


async def evict(world: ClusterNamespace, pod: Object) -> None:
    """As `kubectl drain` does it."""
    metadata = {"name": pod["metadata"]["name"], "namespace": world.namespace}
    path = KINDS["Pod"].path(world.namespace, metadata["name"])
    await world.api._call("POST", f"{path}/eviction", {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata})


async def starved(world: ClusterNamespace, pod: Object) -> None:
    """By a kubelet whose node runs out of memory."""
    words = "The node was low on resource: memory."
    await end(world, pod, 137, [target("TerminationByKubelet", words)], reason="Evicted", message=words)


async def preempted(world: ClusterNamespace, pod: Object) -> None:
    """By the scheduler, for a pod of higher priority."""
    await end(
        world, pod, 143, [target("PreemptionByScheduler", "default-scheduler: preempting to accommodate a higher priority pod")]
    )


def target(reason: str, message: str) -> Object:
    """The condition that says who ends a pod."""
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message, "lastTransitionTime": now}


async def end(world: ClusterNamespace, pod: Object, code: int, conditions: Sequence[Object], **status: str) -> None:
    """A pod's end, as its kubelet reports it."""
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    [main] = pod["status"]["containerStatuses"]
    ended = {**main, "state": {"terminated": {"exitCode": code, "startedAt": now, "finishedAt": now}}}
    changed = {"phase": "Failed", "conditions": list(conditions), "containerStatuses": [ended], **status}
    metadata = {"name": pod["metadata"]["name"], "namespace": world.namespace}
    await world.api.patch({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": changed}, "status")


@dataclass
class Jobs:
    """What the containers would do: pay each call once, as their ledger has them do, and report how far they are."""

    said: Progress | None = None
    billed: Counter[str] = field(default_factory=Counter)

    def work(self, stage: str, calls: int, percent: int) -> str:
        """Has a stage make its calls up to this number, those that are answered excepted; returns what it has cost so far."""
        wanted = {f"{stage} {number}" for number in range(calls)}
        self.billed.update(wanted - self.billed.keys())
        usd = str(CALL_USD * sum(count for call, count in self.billed.items() if call.startswith(f"{stage} ")))
        self.said = Progress.model_validate({"stage": stage, "percent": percent, "usd": usd})
        return usd

    async def answer(self, request: web.Request) -> web.Response:
        """The progress page of the pod that runs."""
        return web.json_response(self.said.model_dump(by_alias=True)) if self.said else web.Response(status=404)


@dataclass
class Course:
    """The run, and the checks that each of its hardships shares."""

    world: ClusterNamespace
    jobs: Jobs
    run: str

    async def pod(self, stage: str, attempt: int, phase: str = "Running") -> Object:
        """The pod of an attempt, once it is in this phase."""

        async def met() -> Object | None:
            for pod in await self.world.all("Pod"):
                labels = labels_of(pod)
                if (labels.get(STAGE_LABEL), labels.get(ATTEMPT_LABEL)) == (stage, str(attempt)) and not is_deleting(pod):
                    return pod if pod["status"].get("phase") == phase else None
            return None

        found: Object = await self.world.until(met, f"the pod of {stage} {attempt} is {phase}", PATIENCE)
        return found

    async def says(self, stage: str, attempt: int, state: str, reason: str = "", *words: str) -> Object:
        """Waits until the stage is so and both run and agent say why, in these words; returns the stage's status.

        Without a reason any will do.
        """

        async def met() -> Object | None:
            await self.world.touch("CompileRun", self.run)  # the operator's clock moves by leaps
            run, agent = await self.world.get("CompileRun", self.run), await self.world.get("CompiledAgent", "travel")
            assert run and agent
            found: Object | None = next((item for item in run.get("status", {}).get("stages", []) if item["name"] == stage), None)
            if found is None:
                return None
            told = [condition(obj, "Reconciling") for obj in (run, agent)]
            if (found["attempt"], found["state"]) != (attempt, state) or any(reason not in ("", item["reason"]) for item in told):
                return None
            assert all(item["status"] == "True" for item in told), "it goes on by itself"
            assert {condition(obj, "Stalled")["status"] for obj in (run, agent)} == {"False"}
            assert found["retries"] == 0, "no failure is counted"
            return found if all(word in item["message"] for item in told for word in words) else None

        what = f"{stage} {attempt} is {state}, {reason}: {words}"
        status: Object = await self.world.until(met, what, PATIENCE)
        return status

    async def progress(self, stage: str, attempt: int, percent: int) -> None:
        """Waits until the status has the stage at this percentage."""

        async def met() -> bool:
            status = await self.says(stage, attempt, "Running")
            return bool(status["percent"] == percent)

        await self.world.until(met, f"{stage} is at {percent} %", PATIENCE)

    async def disrupted(self, stage: str, attempt: int, act: Act, wait: int, *words: str) -> None:
        """Ends an attempt, and lets the next one begin after the pause, not before it."""
        await act(self.world, await self.pod(stage, attempt))
        await self.goes_on(stage, attempt, wait, *words)

    async def goes_on(self, stage: str, attempt: int, wait: int, *words: str) -> None:
        """The attempt has ended for that reason; the next one begins after the pause, not before it."""
        again = f"attempt {attempt + 1} begins in {wait} s and goes on with the finished work; this counts as no failure"
        pausing = await self.says(stage, attempt, "Pending", "Disrupted", *words, again)
        due = parse_time(pausing["finishedAt"]) + timedelta(seconds=wait)
        following = f"{self.run}-{stage}-{attempt + 1}"
        assert following not in await self.world.names("Job") or self.world.clock() >= due, "not before the pause is over"
        self.world.clock.advance(wait)
        await self.says(stage, attempt + 1, "Running")

    async def succeeded(self, stage: str) -> None:
        """Lets the stage's pod end with its result."""
        self.world.kubelet.held -= {stage}
        self.jobs.said = None

        async def met() -> bool:
            await self.world.touch("CompileRun", self.run)
            run = await self.world.get("CompileRun", self.run)
            return bool(run and {item["name"]: item["state"] for item in run["status"]["stages"]}[stage] == "Succeeded")

        await self.world.until(met, f"{stage} has succeeded", PATIENCE)

    async def without_storage(self, stage: str, attempt: int, minutes: Sequence[int]) -> None:
        """The claim's volume cannot be attached for so long, looked at after each of these minutes."""
        pod = await self.pod(stage, attempt, "Pending")
        await self._warn(pod, "FailedAttachVolume", BACKEND_DOWN)
        for before, after in zip((0, *minutes), (*minutes, minutes[-1]), strict=True):
            told = f"FailedAttachVolume: {BACKEND_DOWN}; mend the volume, its driver or what it names"
            await self.says(stage, attempt, "Running", "VolumeMountFailed", told)
            self.world.clock.advance(60 * (after - before))
        del self.world.kubelet.stuck[stage]
        await self.pod(stage, attempt)

        async def cleared() -> bool:
            status = await self.says(stage, attempt, "Running")
            run, agent = await self.world.get("CompileRun", self.run), await self.world.get("CompiledAgent", "travel")
            told = [condition(obj, "Reconciling") for obj in (run, agent) if obj]
            return "reason" not in status and not any("Volume" in item["reason"] or "Volume" in item["message"] for item in told)

        await self.world.until(cleared, "nothing is said of storage any more", PATIENCE)

    async def _warn(self, pod: Object, reason: str, message: str) -> None:
        names = {name: pod["metadata"][name] for name in ("name", "namespace", "uid")}
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        event = {"reason": reason, "message": message, "type": "Warning", "firstTimestamp": now, "lastTimestamp": now, "count": 1}
        metadata = {"name": f"{names['name']}.1", "namespace": self.world.namespace}
        about = {"involvedObject": {"apiVersion": "v1", "kind": "Pod", **names}, "source": {"component": "attachdetach-controller"}}
        body = {"apiVersion": "v1", "kind": "Event", "metadata": metadata, **event, **about}
        await self.world.api._call("POST", f"/api/v1/namespaces/{self.world.namespace}/events", body)

    async def on_a_node_that_is_lost(self, stage: str, attempt: int, wait: int) -> None:
        """The pod's node is drained and dies; somebody finds the command in the condition, and the cluster ends the pod."""
        node, pod = f"{self.world.namespace}-spot", await self.pod(stage, attempt)
        await self.world.api._call("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod["metadata"]["name"]}, "target": target}
        self.world.kubelet.dead_nodes.add(node)
        await self.world.api._call("POST", f"{KINDS['Pod'].path(self.world.namespace, pod['metadata']['name'])}/binding", binding)
        await evict(self.world, pod)
        self.world.clock.advance(pod["spec"]["terminationGracePeriodSeconds"] + 60)
        unconfirmed = f"pod {pod['metadata']['name']} was ended, and node {node} does not confirm that it has stopped"
        command = f"kubectl taint node {node} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
        await self.says(stage, attempt, "Running", "Disrupted", unconfirmed, command)
        taint = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}
        change = {"spec": {"taints": [taint]}}
        await self.world.api._call("PATCH", f"/api/v1/nodes/{node}", change, media="application/merge-patch+json")
        await self.goes_on(stage, attempt, wait, DELETED)
        await self.world.api._call("DELETE", f"/api/v1/nodes/{node}")


@pytest.fixture
async def course(world: ClusterNamespace, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Course]:
    """A run whose pods report progress and end only when the test wants it."""
    port, jobs, application = free_port(), Jobs(), web.Application()
    application.router.add_get("/progress", jobs.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    for module, name, value in (
        (pod_poller, "PROGRESS_PORT", port),
        (pod_poller, "POLL_SECONDS", 0.3),
        (pod_poller, "PUBLISH_SECONDS", 0.3),
        (event_reader, "EVERY_SECONDS", 0.3),
        (event_reader, "MAX_LISTS", 1000),
        (trouble, "EVENTS_EVERY_SECONDS", 1.0),
    ):
        monkeypatch.setattr(module, name, value)
    world.kubelet.address, world.kubelet.held = "127.0.0.1", {"generate", "train", "evaluate"}
    await world.put(TRAVEL)
    await world.put(TRAVEL_AGENT)
    [name] = await world.until(lambda: world.names("CompileRun"), "there is a run")
    await world.until(lambda: world.all("Job"), "a Job exists")
    yield Course(world, jobs, name)
    await runner.cleanup()


async def test_a_run_lives_through_ten_evictions_a_lost_node_and_a_quarter_of_an_hour_without_storage(course: Course) -> None:
    world, jobs = course.world, course.jobs
    jobs.work("generate", 30, 30)
    await course.progress("generate", 1, 30)
    await course.disrupted("generate", 1, evicted, 20, DELETED)
    world.kubelet.paid["generate"] = jobs.work("generate", 100, 100)
    await course.succeeded("generate")

    kinds: list[tuple[Act, str]] = [
        (evicted, DELETED),
        (starved, "TerminationByKubelet"),
        (preempted, "PreemptionByScheduler"),
    ]
    for attempt, wait in enumerate((20, 40, 80, 160, 320, 640), 1):
        act, words = kinds[attempt % len(kinds)]
        await course.disrupted("train", attempt, act, wait, words)
    await course.pod("train", 7)
    world.kubelet.stuck["train"] = attaching()
    await course.disrupted("train", 7, starved, 900, "TerminationByKubelet")
    await course.without_storage("train", 8, (5, 10, 15))
    jobs.work("train", 0, 40)
    await course.progress("train", 8, 40)
    await course.disrupted("train", 8, preempted, 20, "PreemptionByScheduler")
    await course.on_a_node_that_is_lost("train", 9, 40)
    await course.succeeded("train")

    jobs.work("evaluate", 20, 40)
    await course.progress("evaluate", 1, 40)
    await course.disrupted("evaluate", 1, evicted, 20, DELETED)
    world.kubelet.paid["evaluate"] = jobs.work("evaluate", 50, 100)
    world.kubelet.exits["evaluate"] = [(0, "")]  # its result is lost, and read back
    await course.succeeded("evaluate")

    await world.up_to_date()
    run = await world.condition("CompileRun", course.run, "Succeeded", "True")
    assert [stage["attempt"] for stage in run["status"]["stages"]] == [2, 10, 2, 0]
    assert not any(stage.get("retries") or stage.get("reason") for stage in run["status"]["stages"])
    assert (condition(run, "Stalled")["status"], condition(run, "Reconciling")["status"]) == ("False", "False")
    assert Decimal(run["status"]["usd"]) == CALL_USD * 150 and set(jobs.billed.values()) == {1}, "nothing is paid twice"
    attempts = [*(f"train-{number}" for number in range(1, 11)), "generate-1", "generate-2", "evaluate-1", "evaluate-2"]
    made = await world.all("Job")
    assert sorted(job["metadata"]["name"] for job in made) == sorted(
        f"{course.run}-{name}" for name in (*attempts, "evaluate-2-attach")
    )
    await world.until(lambda: one_pod_each(world), "each Job has counted the end of one pod")


async def one_pod_each(world: ClusterNamespace) -> bool:
    """Whether each Job has counted one end of a pod, which its controller does some time after that end."""
    return {sum(job["status"].get(ending, 0) for ending in ("succeeded", "failed")) for job in await world.all("Job")} == {1}


def attaching() -> Object:
    """The status of a pod that has a node and waits for its volume."""
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    main = {"name": "main", "image": "none", "imageID": "", "ready": False, "restartCount": 0}
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": now}
    creating = {**main, "state": {"waiting": {"reason": "ContainerCreating"}}}
    return {"phase": "Pending", "startTime": now, "conditions": [scheduled], "containerStatuses": [creating]}
