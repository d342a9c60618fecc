"""A resync: everything is looked at again, save for Procedures and runs that cannot have become anything else."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from tests.unit.operator.work.loop_rounds import counted_rounds

from subterra_operator.controller import Controller
from subterra_operator.decide.decision import Decision
from subterra_operator.kube.heartbeat import Heartbeat
from subterra_operator.monitoring import metrics
from subterra_operator.resources import Key, Object, key_of
from subterra_operator.settings import Settings
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster import run_decisions as runs


class Server:
    """An API server that stores statuses."""

    def __init__(self) -> None:
        self.writes = 0

    async def patch(self, obj: Object, subresource: str = "") -> Object:
        self.writes += 1
        known = make.run() if obj["kind"] == "CompileRun" else make.procedure()
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


async def test_a_run_with_a_verdict_is_looked_at_again_after_a_change_of_what_it_owns(controller: Controller) -> None:
    run = make.run(runs.finished().status)
    key, frozen = key_of(run), make.frozen(run)
    for obj in (run, frozen):
        controller.cache.upsert(obj)
    assert key in await resynced(controller)
    assert await resynced(controller) == set()
    changed = {**frozen["metadata"], "resourceVersion": "999"}
    controller.cache.upsert({**frozen, "metadata": changed})
    assert await resynced(controller) == {key}
    metrics.remove(key)


async def test_a_run_without_a_verdict_is_looked_at_each_time(controller: Controller) -> None:
    run = make.run({"stages": [{"name": "generate", "state": "Failed", "attempt": 3, "message": "out of memory"}]})
    controller.cache.upsert(run)
    controller.cache.upsert(make.frozen(run))
    for _ in range(3):
        assert key_of(run) in await resynced(controller)
    metrics.remove(key_of(run))


async def test_agents_are_looked_at_each_time(controller: Controller) -> None:
    agent = make.agent(annotations={"note": "nothing to do"}, model={"uri": "s3://x", "digest": make.TRAVEL_DIGEST})
    controller.cache.upsert(agent)
    looked_at: list[Key] = []
    for _ in range(2):
        controller._enqueue_all()
        looked_at.append(await controller.queue.get())
        controller.queue.done(looked_at[-1])
    assert looked_at == [key_of(agent)] * 2


async def test_no_two_workers_compute_in_one_round_of_the_event_loop(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the Lease is not renewed while a worker goes through keys that it can decide on without waiting."""
    computed_in = list[int]()
    keys = [Key("Procedure", make.NAMESPACE, f"procedure-{number}") for number in range(4)]
    for number, key in enumerate(keys):
        controller.cache.upsert(make.resource("Procedure", key.name, {"systemPrompt": f"{number}"}))
    async with counted_rounds() as rounds:

        def decide(*_: object) -> Decision:
            computed_in.append(rounds.number)
            return Decision()

        monkeypatch.setattr("subterra_operator.controller.decide", decide)
        await asyncio.gather(*map(controller.reconcile, keys))
    assert len(set(computed_in)) == len(keys)
    for key in keys:
        metrics.remove(key)


async def test_who_leads_again_looks_at_all_but_the_procedures_that_have_not_changed(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    procedure, run = {**make.procedure(), "status": {}}, make.run(runs.finished().status)
    for obj in (procedure, run, make.frozen(run)):
        controller.cache.upsert(obj)
    await resynced(controller)
    assert await resynced(controller) == set()
    looked_at: asyncio.Queue[Key] = asyncio.Queue()

    async def reconcile(key: Key) -> None:
        looked_at.put_nowait(key)

    monkeypatch.setattr(controller, "reconcile", reconcile)
    leading = asyncio.create_task(controller._lead())
    assert await looked_at.get() == key_of(run), "whose metrics are gone"
    leading.cancel()
    with suppress(asyncio.CancelledError):
        await leading
    assert looked_at.empty()
