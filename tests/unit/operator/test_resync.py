"""A resync: everything is looked at again, save for Procedures that cannot have become anything else."""

from datetime import UTC, datetime

import pytest

from subterra_operator.controller import Controller
from subterra_operator.kube.heartbeat import Heartbeat
from subterra_operator.monitoring import metrics
from subterra_operator.resources import Key, Object, key_of
from subterra_operator.settings import Settings
from subterra_testkit.cluster import kubernetes_objects as make


class Server:
    """An API server that stores statuses."""

    def __init__(self) -> None:
        self.writes = 0

    async def patch(self, obj: Object, subresource: str = "") -> Object:
        self.writes += 1
        known = make.procedure()
        metadata = {**known["metadata"], "resourceVersion": str(100 + self.writes)}
        return {**known, "metadata": metadata, "status": obj["status"]}


@pytest.fixture
async def controller() -> Controller:
    server = Server()
    heartbeat = Heartbeat(server, "demo", lambda _: None, lambda: True)  # type: ignore[arg-type]
    return Controller(Settings(), server, heartbeat, None)  # type: ignore[arg-type]


async def resynced(controller: Controller) -> set[Key]:
    """The keys that a resync has looked at again."""
    controller._enqueue_all()
    keys = set[Key]()
    while len(controller.queue):
        key = await controller.queue.get()
        keys.add(key)
        await controller.reconcile(key)
        controller.queue.done(key)
    return keys


async def test_a_procedure_is_looked_at_until_nothing_changes_and_again_after_each_change(controller: Controller) -> None:
    procedure = {**make.procedure(), "status": {}}
    key = key_of(procedure)
    controller.cache.upsert(procedure)
    assert await resynced(controller) == {key}, "the status is written, and looked at"
    assert await resynced(controller) == set()
    latest = controller.cache.get(key)
    assert latest
    controller.cache.upsert({**latest, "status": {}, "metadata": {**latest["metadata"], "resourceVersion": "999"}})
    assert await resynced(controller) == {key}, "somebody has changed the status"
    metrics.remove(key)


async def test_a_procedure_that_is_skipped_counts_as_checked(controller: Controller) -> None:
    procedure = make.procedure()
    controller.cache.upsert({**procedure, "status": {}})
    await resynced(controller)
    before = datetime.now(UTC).timestamp()
    assert await resynced(controller) == set()
    oldest = metrics.REGISTRY.get_sample_value("subterra_reconcile_oldest_timestamp_seconds", {"kind": "Procedure"})
    assert oldest and oldest >= before
    metrics.remove(key_of(procedure))


async def test_agents_and_runs_are_looked_at_each_time(controller: Controller) -> None:
    agent = make.agent(annotations={"note": "nothing to do"}, model={"uri": "s3://x", "digest": make.TRAVEL_DIGEST})
    controller.cache.upsert(agent)
    looked_at: list[Key] = []
    for _ in range(2):
        controller._enqueue_all()
        looked_at.append(await controller.queue.get())
        controller.queue.done(looked_at[-1])
    assert looked_at == [key_of(agent)] * 2
