"""Refused writes: the status names them and keeps what was recorded, nothing is forgotten, and the rest goes on."""

import copy
from datetime import UTC, datetime
from typing import Any

import pytest

from subterra_api.v1alpha1.conditions import Reason
from subterra_operator import controller as controller_module
from subterra_operator.controller import REFUSED_RETRY_SECONDS, Controller
from subterra_operator.kube.api_client import AlreadyExistsError, ApiError, ConflictError, NotFoundError
from subterra_operator.kube.apply import RefusedError
from subterra_operator.kube.heartbeat import Heartbeat
from subterra_operator.kube.leader_lease import LeaderLease
from subterra_operator.labels import HEARTBEAT_NAME
from subterra_operator.resources import Key, Kind, Object, key_of
from subterra_operator.settings import Settings
from subterra_operator.work.work_queue import FIRST_BACKOFF, LAST_BACKOFF
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster.agent_decisions import other_run, traffic_to, version, wanted_run

RUN, AGENT = Key("CompileRun", make.NAMESPACE, "travel-12345678"), Key("CompiledAgent", make.NAMESPACE, "travel")
STORE = Key("PersistentVolumeClaim", make.NAMESPACE, "subterra-store")
QUOTA = ApiError(403, "Forbidden", 'jobs.batch "x" is forbidden: exceeded quota: small, requested: count/jobs.batch=1')


class Server:
    """An API server in memory that refuses to write the kinds in ``refused``."""

    def __init__(self) -> None:
        self.objects: dict[Key, Object] = {}
        self.refused: dict[str, ApiError] = {}
        self.kept: ApiError | None = None
        """The answer to the deletion of those in ``kept_names``."""
        self.kept_names = set[str]()
        self.status_writes = 0
        self._version = 100

    async def get(self, key: Key) -> Object:
        if key not in self.objects:
            raise NotFoundError(404, "NotFound", f"{key} not found")
        return self.objects[key]

    async def list(self, kind: Kind, namespace: str, selector: str) -> tuple[list[Object], str]:
        return [], "1"

    async def create(self, obj: Object) -> Object:
        self._check(obj)
        if key_of(obj) in self.objects:
            raise AlreadyExistsError(409, "AlreadyExists", "it already exists")
        return self.store(obj)

    async def apply(self, obj: Object) -> Object:
        self._check(obj)
        known = self.objects.get(key_of(obj), {"metadata": {}})
        return self.store({**known, **obj, "metadata": {**known["metadata"], **obj["metadata"]}})

    async def patch(self, obj: Object, subresource: str = "") -> Object:
        if not subresource:
            self._check(obj)
        known = self.objects[key_of(obj)]
        if obj["metadata"]["resourceVersion"] != known["metadata"]["resourceVersion"]:
            raise ConflictError(409, "Conflict", "the object has been modified")
        self.status_writes += subresource == "status"
        return self.store(merged(known, {**obj, "metadata": {}}))

    async def delete(self, obj: Object) -> None:
        if self.kept and obj["metadata"]["name"] in self.kept_names:
            raise self.kept
        if self.objects.pop(key_of(obj), None) is None:
            raise NotFoundError(404, "NotFound", f"{key_of(obj)} not found")

    def store(self, obj: Object) -> Object:
        """Stores an object under a new resourceVersion."""
        self._version += 1
        assigned = {"uid": f"uid-{obj['metadata']['name']}", "creationTimestamp": make.CREATED, "generation": 1, **obj["metadata"]}
        stored = {**copy.deepcopy(obj), "metadata": {**assigned, "resourceVersion": str(self._version)}}
        self.objects[key_of(obj)] = stored
        return stored

    def _check(self, obj: Object) -> None:
        if obj["kind"] in self.refused:
            raise self.refused[obj["kind"]]


def merged(old: Object, change: Object) -> Object:
    result = dict(old)
    for name, value in change.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name) or {}, value) if isinstance(value, dict) else value
    return result


def world(*objects: Object) -> tuple[Server, Controller]:
    """A server and a controller that knows all of these objects."""
    server = Server()
    heartbeat = Heartbeat(server, "system", lambda _: None, lambda: True)  # type: ignore[arg-type]
    lease = LeaderLease(server, Settings().lease, "system")  # type: ignore[arg-type]
    controller = Controller(Settings(), server, heartbeat, lease)  # type: ignore[arg-type]
    for obj in objects:
        controller.cache.upsert(server.store(obj))
    return server, controller


async def refuse(controller: Controller, key: Key) -> Reason:
    """Reconciles and returns the reason of the refusal."""
    with pytest.raises(RefusedError) as caught:
        await controller.reconcile(key)
    return caught.value.refusal.reason


def condition(server: Server, key: Key, kind: str) -> tuple[str, str]:
    found = next(item for item in server.objects[key]["status"]["conditions"] if item["type"] == kind)
    return found["status"], found["reason"]


async def test_a_refused_job_is_no_attempt_and_the_first_job_is_the_first_attempt() -> None:
    server, controller = world(make.procedure(), make.run())
    server.refused = {"Job": QUOTA}
    for _ in range(3):
        assert await refuse(controller, RUN) is Reason.QUOTA_EXCEEDED
    assert server.status_writes == 1, "the same refusal is written once"
    assert condition(server, RUN, "Stalled") == ("True", "QuotaExceeded")
    assert condition(server, RUN, "Succeeded") == ("Unknown", "QuotaExceeded"), "it has not ended: an edit must still suspend it"
    assert {stage["attempt"] for stage in server.objects[RUN]["status"]["stages"]} == {0}
    server.refused = {}
    await controller.reconcile(RUN)
    assert condition(server, RUN, "Stalled")[0] == "False"
    assert server.objects[RUN]["status"]["stages"][0]["jobName"] == "travel-12345678-generate-1"


async def test_a_retry_whose_job_is_refused_is_not_forgotten() -> None:
    failed = {"name": "generate", "state": "Failed", "attempt": 1, "reason": "InvalidInput", "message": "no"}
    run = make.run({"stages": [failed]}, annotations={"subterra.dev/retry-at": "now"})
    server, controller = world(make.procedure(), run, make.frozen(run))
    server.refused = {"Job": QUOTA}
    assert await refuse(controller, RUN) is Reason.QUOTA_EXCEEDED
    assert "retryAt" not in server.objects[RUN]["status"]
    server.refused = {}
    await controller.reconcile(RUN)
    assert server.objects[RUN]["status"]["stages"][0]["attempt"] == 2
    assert server.objects[RUN]["status"]["retryAt"] == "now"


async def test_an_agents_refused_run_is_not_named_and_a_requested_start_stays_requested() -> None:
    source = {"procedureRef": {"name": "travel"}, "trigger": "Manual"}
    server, controller = world(make.procedure(), make.agent(annotations={"subterra.dev/retry-at": "now"}, compile=source))
    server.refused = {"CompileRun": QUOTA}
    assert await refuse(controller, AGENT) is Reason.QUOTA_EXCEEDED
    assert condition(server, AGENT, "Stalled") == ("True", "QuotaExceeded")
    status = server.objects[AGENT]["status"]
    assert (status["phase"], status["stage"], status["observedGeneration"]) == ("Blocked", "blocked", 1)
    assert not {"currentRun", "candidate", "retryAt"} & set(status)
    server.refused = {}
    await controller.reconcile(AGENT)
    assert server.objects[AGENT]["status"]["currentRun"].startswith("travel-")
    assert server.objects[AGENT]["status"]["retryAt"] == "now"


async def test_the_agent_that_waits_for_a_refused_run_says_so() -> None:
    server, controller = world(make.procedure(), make.agent())
    await controller.reconcile(AGENT)
    [run] = controller.cache.keys("CompileRun")
    server.refused = {"Job": QUOTA}
    await refuse(controller, run)
    await controller.reconcile(AGENT)
    assert condition(server, AGENT, "Stalled") == ("True", "QuotaExceeded")
    text = next(item for item in server.objects[AGENT]["status"]["conditions"] if item["type"] == "UpToDate")["message"]
    assert text.startswith(f"run {run.name} is blocked: Job demo/")
    assert "kubectl -n demo describe resourcequota small" in text


async def test_an_edit_meanwhile_is_tried_soon_and_not_reported_as_refused() -> None:
    server, controller = world(make.procedure(), make.run())

    class EditedError(ApiError):
        """A refusal that arrives after an edit."""

        @property
        def message(self) -> str:
            edited = {**server.objects[RUN], "metadata": {**server.objects[RUN]["metadata"], "generation": 2}}
            controller.cache.upsert(server.store(edited))
            return "exceeded quota: small"

        @message.setter
        def message(self, _: str) -> None: ...

    server.refused = {"Job": EditedError(403, "Forbidden", "")}
    assert await controller.reconcile(RUN) == controller_module.EDITED_RETRY_SECONDS
    assert server.status_writes == 0


async def test_a_refused_deletion_is_named_and_holds_up_neither_the_others_nor_the_status() -> None:
    """Policies against deletions are common."""
    agent = make.agent(promotion={"historyLimit": 1})
    run = wanted_run(agent)
    deployed = version(agent, run)
    old = [copy.deepcopy(other_run(agent)) for _ in range(3)]
    for number, each in enumerate(old):
        each["metadata"] |= {"name": f"travel-older{number}", "uid": f"older{number}"}
        each["status"]["artifacts"]["model"] = f"sha256:{number}"
    serving = traffic_to(agent, deployed)
    server, controller = world(make.procedure(), agent, run, deployed, serving, *old)
    server.kept = ApiError(403, "Forbidden", 'admission webhook "keep.example" denied the request: ask the platform team')
    server.kept_names = {"travel-older0"}
    assert await refuse(controller, AGENT) is Reason.ADMISSION_DENIED
    left = [key.name for key in server.objects if key.kind == "CompileRun" and "older" in key.name]
    assert left == ["travel-older0", "travel-older2"], "one is kept, and another one deleted"
    assert condition(server, AGENT, "Ready") == ("True", "Serving")
    assert condition(server, AGENT, "UpToDate") == ("False", "AdmissionDenied")
    status = server.objects[AGENT]["status"]
    text = next(item for item in status["conditions"] if item["type"] == "UpToDate")["message"]
    assert text.startswith('the deletion of CompileRun demo/travel-older0 was refused: admission webhook "keep.example" denied')
    assert (status["currentRun"], status["serving"]["run"]) == (run["metadata"]["name"],) * 2
    written = server.status_writes
    await refuse(controller, AGENT)
    assert server.status_writes == written, "the same refusal is written once"
    server.kept = None
    await controller.reconcile(AGENT)
    assert condition(server, AGENT, "UpToDate") == ("True", "UpToDate")


@pytest.mark.parametrize(
    ("finalizers", "words"),
    [
        (["service.kubernetes.io/load-balancer-cleanup"], ", held by the finalizers service.kubernetes.io/load-balancer-cleanup;"),
        ([], "; see kubectl -n demo get service travel -o yaml;"),
    ],
)
async def test_an_object_in_the_way_whose_deletion_never_ends_is_named_after_a_minute(finalizers: list[str], words: str) -> None:
    agent = make.agent()
    run = wanted_run(agent)
    deployed = version(agent, run)
    server, controller = world(make.procedure(), agent, run, deployed)
    theirs = traffic_to({**agent, "metadata": {**agent["metadata"], "uid": "an earlier one"}}, deployed)
    theirs["metadata"] |= {"deletionTimestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "finalizers": finalizers}
    server.store(theirs)
    with pytest.raises(ConflictError):
        await controller.reconcile(AGENT)
    assert not server.objects[AGENT].get("status")
    theirs["metadata"]["deletionTimestamp"] = make.CREATED
    server.store(theirs)
    assert await refuse(controller, AGENT) is Reason.NAME_TAKEN
    text = next(item for item in server.objects[AGENT]["status"]["conditions"] if item["type"] == "Stalled")["message"]
    assert text.startswith(f"Service demo/travel is being deleted since {make.CREATED}{words}")
    del server.objects[key_of(theirs)]
    await controller.reconcile(AGENT)
    assert key_of(theirs) in server.objects


async def test_a_claim_that_is_there_needs_no_quota() -> None:
    claim = {"apiVersion": "v1", "kind": STORE.kind, "metadata": {"namespace": STORE.namespace, "name": STORE.name}}
    claim["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "subterra"}  # type: ignore[index]
    server, controller = world(make.procedure(), make.run())
    server.store(claim)
    server.refused = {"PersistentVolumeClaim": QUOTA}
    await controller.reconcile(RUN)
    assert condition(server, RUN, "Stalled")[0] == "False"


async def test_a_network_policy_of_somebody_else_is_not_overwritten() -> None:
    server, controller = world(make.procedure(), make.run())
    theirs = {
        "kind": "NetworkPolicy",
        "metadata": {"namespace": make.NAMESPACE, "name": "subterra-hub"},
        "spec": {"podSelector": {}},
    }
    server.store(theirs)
    assert await refuse(controller, RUN) is Reason.NAME_TAKEN
    assert server.objects[key_of(theirs)]["spec"] == {"podSelector": {}}
    assert condition(server, RUN, "Stalled") == ("True", "NameTaken")


async def test_a_refused_write_is_tried_again_within_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    _, controller = world()
    error = RefusedError(controller_module.Refusal(Reason.REFUSED, "no"))
    asked: list[Any] = []
    monkeypatch.setattr(controller.queue, "retry_later", lambda key, longest=60.0: asked.append(longest) or longest)
    controller._retry_later(RUN, error)
    controller._retry_later(RUN, ApiError(500, "", "x"))
    assert asked == [REFUSED_RETRY_SECONDS, 60.0]
    assert REFUSED_RETRY_SECONDS <= 30


async def test_a_procedure_with_the_heartbeats_name_is_a_procedure() -> None:
    _, controller = world()
    named = make.procedure()
    named["metadata"]["name"] = HEARTBEAT_NAME
    controller.handle_event("ADDED", named)
    assert controller.cache.keys("Procedure") == [Key("Procedure", make.NAMESPACE, HEARTBEAT_NAME)]


def edited(obj: Object, version: int, **metadata: Any) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(version), **metadata}}


@pytest.mark.parametrize("change", [{"generation": 2}, {"annotations": {"subterra.dev/retry-at": "now"}}])
@pytest.mark.parametrize("who", [AGENT, Key("Procedure", make.NAMESPACE, "travel")])
async def test_an_edit_that_comes_while_a_reconcile_fails_is_tried_at_once(who: Key, change: dict[str, Any]) -> None:
    server, controller = world(make.procedure(), make.agent())
    for _ in range(12):
        controller.queue.retry_later(AGENT)
    controller.queue.add(AGENT)
    assert await controller.queue.get() == AGENT
    controller.handle_event("MODIFIED", edited(server.objects[who], 900, **change))
    assert controller.queue.retry_later(AGENT) <= FIRST_BACKOFF


async def test_a_status_that_is_written_and_an_event_that_comes_twice_end_no_backoff() -> None:
    server, controller = world(make.procedure(), make.agent())
    changed = edited(server.objects[AGENT], 900, generation=2)
    controller.handle_event("MODIFIED", changed)
    for _ in range(12):
        controller.queue.retry_later(AGENT)
    controller.queue.add(AGENT)
    assert await controller.queue.get() == AGENT
    controller.handle_event("MODIFIED", changed)
    controller.handle_event("MODIFIED", {**edited(changed, 901), "status": {"observedGeneration": 2}})
    controller.enqueue(changed)
    assert controller.queue.retry_later(AGENT) > LAST_BACKOFF / 3
