"""The census: what kopf has delivered is compared with what exists, and every difference is mended or ends the life."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NoReturn

import pytest

from subterra_operator.controller import Controller
from subterra_operator.framework import census as module
from subterra_operator.framework.census import PATIENCE_STEPS, Census, Count, StaleWatchError
from subterra_operator.kube.api_client import ApiError
from subterra_operator.kube.heartbeat import Heartbeat
from subterra_operator.kube.leader_lease import LeaderLease
from subterra_operator.labels import HEARTBEAT_NAME
from subterra_operator.resources import WATCHED, Key, Kind, Object, Version
from subterra_operator.settings import Settings
from subterra_testkit.cluster import kubernetes_objects as make

A, B = Key("Procedure", make.NAMESPACE, "a"), Key("Procedure", make.NAMESPACE, "b")
OLD, NEW, OTHER = Version("1", 5), Version("1", 7), Version("2", 7)


@pytest.mark.parametrize(
    ("held", "listed", "gone", "late"),
    [
        pytest.param({A: OLD}, {A: OLD}, [], set(), id="the same"),
        pytest.param({A: OLD}, {}, [A], set(), id="deleted unseen"),
        pytest.param({}, {A: OLD}, [], {A}, id="created unseen"),
        pytest.param({A: OLD}, {A: NEW}, [], {A}, id="changed unseen"),
        pytest.param({A: NEW}, {A: OLD}, [], {A}, id="restored from a backup, to a lower resourceVersion"),
        pytest.param({A: OLD}, {A: OTHER}, [A], {A}, id="deleted and created again unseen"),
        pytest.param({A: OLD, B: NEW}, {B: NEW}, [A], set(), id="one of two deleted unseen"),
    ],
)
def test_a_list_that_was_requested_later_is_right(
    held: dict[Key, Version], listed: dict[Key, Version], gone: list[Key], late: set[Key]
) -> None:
    count = Count(held, set(), listed)
    after = {key: version for key, version in held.items() if key not in count.gone}
    assert (count.gone, count.late(after, set())) == (gone, late)


@pytest.mark.parametrize(
    ("held_now", "deleted_now"),
    [
        pytest.param({A: NEW}, set(), id="its event has come"),
        pytest.param({A: Version("1", 9)}, set(), id="a later event has come"),
        pytest.param({}, {"1"}, id="it was deleted meanwhile"),
    ],
)
def test_nothing_is_late_once_anything_newer_is_known(held_now: dict[Key, Version], deleted_now: set[str]) -> None:
    assert Count({A: OLD}, set(), {A: NEW}).late(held_now, deleted_now) == set()


def test_an_object_that_was_known_as_deleted_before_it_was_listed_is_late() -> None:
    """A backup brings deleted objects back, with their UIDs."""
    count = Count({}, {"1"}, {A: OLD})
    assert count.late({}, {"1"}) == {A}
    assert Count({}, set(), {A: OLD}).late({}, {"1"}) == set(), "this one was deleted after the list"


def procedure(name: str, uid: str = "1", version: int = 5) -> Object:
    found = make.procedure()
    metadata = {**found["metadata"], "name": name, "uid": uid, "resourceVersion": str(version)}
    return {**found, "metadata": metadata}


async def passing(met: Callable[[], bool]) -> None:
    """Lets other tasks work until something holds."""
    for _ in range(5000):
        if met():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came true")


class Cluster:
    """An API server and a kopf that are told what to say. Nothing waits: each sleep is a step of the script."""

    def __init__(self) -> None:
        self.objects: list[Object] = []
        self.number = 10
        self.errors: list[ApiError] = []
        self.lacking: dict[str, int] = {}
        """Status codes of lists of kinds that this API server does not have."""
        self.listed: list[str] = []
        self.steps = 0
        self.script: dict[int, Callable[[], object]] = {}
        self.heartbeat = Heartbeat(self, "demo", lambda _: None, lambda: True)  # type: ignore[arg-type]
        lease = LeaderLease(self, Settings().lease, "demo")  # type: ignore[arg-type]
        self.controller = Controller(Settings(), self, self.heartbeat, lease)  # type: ignore[arg-type]
        self.census = Census(self.controller, self, self.sleep)  # type: ignore[arg-type]

    async def versions(self, kind: Kind, _: str | None = None) -> tuple[dict[Key, Version], int]:
        if self.errors:
            raise self.errors.pop(0)
        if kind.name in self.lacking:
            raise ApiError(self.lacking[kind.name], "NotFound", "no such kind")
        self.listed.append(kind.name)
        found = {}
        for obj in self.objects:
            metadata = obj["metadata"]
            if obj["kind"] == kind.name:
                key = Key(kind.name, metadata["namespace"], metadata["name"])
                found[key] = Version(metadata["uid"], int(metadata["resourceVersion"]))
        return found, self.number

    async def sleep(self, _: float) -> None:
        self.steps += 1
        if action := self.script.pop(self.steps, None):
            action()
        await asyncio.sleep(0)

    def delivers(self, *objects: Object, kinds: Iterable[str] = WATCHED) -> None:
        """kopf begins to watch these kinds, and delivers objects."""
        for kind in kinds:
            self.census.watch_begins(kind)
        for obj in objects:
            self.controller.handle_event(None, obj)

    async def begun(self) -> asyncio.Task[NoReturn]:
        """The census, after its first round."""
        task = asyncio.create_task(self.census.run())
        await passing(lambda: self.controller.ready)
        return task

    async def until(self, met: Callable[[], bool]) -> None:
        """Runs the census until something holds; raises what ends it."""
        task = asyncio.create_task(self.census.run())
        for _ in range(2000):
            await asyncio.sleep(0)
            if met() or task.done():
                break
        if task.done():
            await task
        assert met(), "it never came true"
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_nothing_is_decided_before_everything_that_exists_was_delivered() -> None:
    cluster = Cluster()
    cluster.objects = [procedure("a"), procedure("b", uid="2")]
    cluster.delivers(procedure("a"))
    seen = list[bool]()

    def deliver() -> None:
        seen.append(cluster.controller.ready)
        cluster.delivers(procedure("b", uid="2"))

    cluster.script = {3: deliver}
    await cluster.until(lambda: cluster.controller.ready)
    assert seen == [False]
    assert sorted(cluster.listed) == sorted(WATCHED)


async def test_an_empty_cluster_is_ready_at_once() -> None:
    cluster = Cluster()
    cluster.delivers()
    await cluster.until(lambda: cluster.controller.ready)
    assert cluster.steps == 0


async def test_a_404_is_not_taken_for_an_empty_list() -> None:
    """As while the CRDs are not installed."""
    cluster = Cluster()
    cluster.errors = [ApiError(404, "NotFound", "no such kind")] * 3
    cluster.delivers()
    cluster.script = {3: lambda: cluster.listed.append("not ready") if not cluster.controller.ready else None}
    await cluster.until(lambda: cluster.controller.ready)
    assert "not ready" in cluster.listed


async def test_a_kind_that_kopf_has_not_discovered_ends_the_life() -> None:
    cluster = Cluster()
    cluster.delivers(kinds=[kind for kind in WATCHED if kind != "Job"])
    with pytest.raises(StaleWatchError, match="all of kind Job"):
        await cluster.until(lambda: cluster.controller.ready)


@pytest.mark.parametrize("code", [404, 403], ids=["not installed", "not allowed"])
async def test_a_cluster_without_jobsets_is_ready_and_one_that_gets_them_begins_anew(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "INTERVAL_SECONDS", 0.0)
    cluster = Cluster()
    cluster.lacking = {"JobSet": code}
    cluster.delivers(kinds=[kind for kind in WATCHED if kind != "JobSet"])
    task = await cluster.begun()
    assert cluster.controller.cache.absent_kinds == {"JobSet"}
    cluster.lacking = {}
    with pytest.raises(StaleWatchError, match="all of kind JobSet"):
        await task


async def test_every_other_kind_must_be_there() -> None:
    cluster = Cluster()
    cluster.lacking = {"Job": 404}
    cluster.delivers()
    cluster.script = {3: lambda: cluster.lacking.clear() if not cluster.controller.ready else None}
    await cluster.until(lambda: cluster.controller.ready)
    assert cluster.steps >= 3 and cluster.controller.cache.absent_kinds == set()


async def test_the_census_is_patient_while_objects_keep_arriving() -> None:
    cluster = Cluster()
    cluster.objects = [procedure(f"p{number}", uid=str(number)) for number in range(3)]
    cluster.delivers()
    cluster.script = {
        PATIENCE_STEPS * (number + 1) - 5: lambda number=number: cluster.delivers(cluster.objects[number]) for number in range(3)
    }
    await cluster.until(lambda: cluster.controller.ready)
    assert cluster.steps > 2 * PATIENCE_STEPS


async def ready(*objects: Object) -> Cluster:
    """A cluster whose first census has passed, with these objects."""
    cluster = Cluster()
    cluster.objects = list(objects)
    cluster.delivers(*objects)
    return cluster


async def test_a_deletion_that_a_new_list_lost_is_noticed_after_the_new_stream_begins() -> None:
    cluster = await ready(procedure("a"), procedure("b", uid="2"))
    task = await cluster.begun()
    cluster.objects, cluster.listed = [procedure("b", uid="2")], []
    cluster.census.watch_begins("Procedure")
    await passing(lambda: bool(cluster.listed))
    await asyncio.sleep(0)
    assert cluster.controller.cache.keys("Procedure") == [Key("Procedure", make.NAMESPACE, "b")]
    assert cluster.listed == ["Procedure"], "the other kinds gave no hint"
    queued = {await cluster.controller.queue.get() for _ in range(len(cluster.controller.queue))}
    assert Key("Procedure", make.NAMESPACE, "a") in queued
    task.cancel()


async def test_a_successor_of_the_same_name_is_not_forgotten_with_its_predecessor() -> None:
    cluster = await ready(procedure("a"))
    cluster.census._forget(Key("Procedure", make.NAMESPACE, "a"), "another uid")
    assert cluster.controller.cache.keys("Procedure")


@pytest.mark.parametrize(
    ("now", "number"),
    [
        pytest.param([procedure("a", version=9)], 12, id="a deaf watch: the object is newer"),
        pytest.param([procedure("a", version=3)], 12, id="a restored backup: the object is older"),
        pytest.param([procedure("a"), procedure("b", uid="2")], 12, id="a deaf watch: an object is missing"),
        pytest.param([procedure("a")], 4, id="a restored backup: the list is older, no object differs"),
    ],
)
async def test_what_no_watch_delivers_ends_the_life(now: list[Object], number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL_SECONDS", 0.0)
    cluster = await ready(procedure("a"))
    cluster.objects, cluster.number = [procedure("a")], 10
    task = await cluster.begun()
    cluster.objects, cluster.number = now, number
    with pytest.raises(StaleWatchError):
        await task


async def test_a_large_cluster_is_counted_less_often_so_that_a_census_costs_no_more() -> None:
    cluster = await ready(procedure("a"))
    assert cluster.census._interval == module.INTERVAL_SECONDS
    for number in range(6000):
        cluster.controller.cache.upsert(procedure(f"p{number}", uid=f"u{number}"))
    assert cluster.census._interval == pytest.approx(6001 / module.OBJECTS_PER_SECOND)


async def test_a_census_that_fails_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = await ready(procedure("a"))
    task = await cluster.begun()
    cluster.errors, cluster.objects = [ApiError(500, "", "no"), ApiError(0, "", "no")], []
    cluster.census.watch_begins("Procedure")
    await passing(lambda: not cluster.controller.cache.keys("Procedure"))
    task.cancel()


async def test_silent_heartbeats_end_the_life_only_when_they_fell_silent_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    cluster = Cluster()
    cluster.heartbeat._undelivered_since = 900.0
    silences = list[float]()

    async def sleep(seconds: float) -> None:
        now[0] += seconds
        silences.append(now[0])
        if len(silences) == 4:
            cluster.controller.begin()
        await asyncio.sleep(0)

    with pytest.raises(StaleWatchError, match="heartbeat"):
        await Census(cluster.controller, cluster, sleep).listen()  # type: ignore[arg-type]
    assert 40 <= silences[-1] - silences[3] < 60, "counted from when this life was ready"


def test_only_a_stream_proves_that_a_heartbeat_came_back() -> None:
    cluster = Cluster()
    beat = {"kind": "ConfigMap", "metadata": {"name": HEARTBEAT_NAME, "namespace": "demo", "resourceVersion": "7"}}
    cluster.heartbeat._undelivered_since = 1.0
    cluster.controller.handle_event(None, beat)
    assert cluster.heartbeat.watch_silence > 0
    cluster.controller.handle_event("MODIFIED", beat)
    assert cluster.heartbeat.watch_silence == 0


@pytest.mark.parametrize(("seconds", "flood"), [(0.1, True), (5.0, False)])
async def test_streams_that_end_as_soon_as_they_begin_end_the_life(
    seconds: float, flood: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the supervisor's pauses spare the API server; kopf itself would begin the next stream at once."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    cluster = Cluster()
    for _ in range(module.FLOOD_STREAMS):
        cluster.census.watch_begins("Pod")
        now[0] += seconds
    task = asyncio.create_task(cluster.census.listen())
    for _ in range(10):
        await asyncio.sleep(0)
    assert task.done() == flood
    if flood:
        with pytest.raises(StaleWatchError, match="kind Pod at once"):
            await task
    task.cancel()
