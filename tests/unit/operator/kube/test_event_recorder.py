"""What reaches the API server of the Events, and what happens when it does not."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from subterra_operator.decide.events.event import Event
from subterra_operator.kube import event_recorder
from subterra_operator.kube.api_client import ApiError, NotFoundError
from subterra_operator.kube.event_recorder import BURST, REFILL, SERIES_AGE, EventRecorder
from subterra_operator.resources import Object
from subterra_testkit.cluster import kubernetes_objects as make

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
FORBIDDEN = ApiError(403, "Forbidden", "events.events.k8s.io is forbidden")


class Server:
    """An API server that keeps Events, or refuses with the next of ``errors``."""

    def __init__(self) -> None:
        self.events: dict[str, Object] = {}
        self.calls = 0
        self.errors: list[Exception] = []
        self.stored = asyncio.Event()

    async def create(self, obj: Object) -> Object:
        self._answer()
        assert obj["metadata"]["name"] not in self.events
        self.events[obj["metadata"]["name"]] = obj
        self.stored.set()
        return obj

    async def patch(self, obj: Object) -> Object:
        self._answer()
        if obj["metadata"]["name"] not in self.events:
            raise NotFoundError(404, "NotFound", "gone")
        assert set(obj) == {"apiVersion", "kind", "metadata", "series"}, "all else is immutable"
        self.events[obj["metadata"]["name"]]["series"] = obj["series"]
        return obj

    def _answer(self) -> None:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)

    @property
    def notes(self) -> list[str]:
        """In the order in which `kubectl describe` shows them."""
        return [self.events[name]["note"] for name in sorted(self.events)]


class Recorded:
    """A recorder with its server and its clock."""

    def __init__(self) -> None:
        self.server, self.now = Server(), NOW
        server: Any = self.server
        self.recorder = EventRecorder(server, lambda: self.now)

    async def wrote(self, before: Object, after: Object, subject: Object | None = None) -> None:
        """A status was written, and all its Events are posted."""
        self.recorder.status_written({**(subject or make.agent()), "status": before}, after)
        while not self.recorder._queue.empty():
            await self.recorder.post_next()

    async def lost_and_back(self, subject: Object | None = None) -> None:
        """Two Events: no replica is ready, and one is again."""
        up, down = ready("True", "Serving"), ready("False", "NotServing")
        await self.wrote(up, down, subject)
        await self.wrote(down, up, subject)


def ready(status: str, reason: str, message: str = "so it is") -> Object:
    condition = {"type": "Ready", "status": status, "reason": reason, "message": message, "lastTransitionTime": make.CREATED}
    return {"conditions": [condition]}


async def test_an_event_says_what_happened_to_which_object() -> None:
    world = Recorded()
    await world.wrote(ready("True", "Serving"), ready("False", "NotServing", "no replica"))
    [event] = world.server.events.values()
    assert event["regarding"] == {
        "apiVersion": "subterra.dev/v1alpha1",
        "kind": "CompiledAgent",
        "name": "travel",
        "namespace": make.NAMESPACE,
        "uid": "CompiledAgent-travel",
    }
    fields = ("type", "reason", "action", "note", "eventTime", "reportingController")
    assert [event[field] for field in fields] == [
        *("Warning", "NotServing", "Serve", "no replica", "2026-11-20T12:00:00.000000Z", "subterra.dev/operator"),
    ]
    assert "series" not in event


async def test_the_same_again_is_a_series_of_the_first_event() -> None:
    world = Recorded()
    for _ in range(3):
        await world.lost_and_back()
        world.now += timedelta(minutes=5)
    assert len(world.server.events) == 2
    series = {"count": 3, "lastObservedTime": "2026-11-20T12:10:00.000000Z"}
    assert [event["series"] for event in world.server.events.values()] == [series, series]


async def test_the_same_long_afterwards_or_of_another_object_is_another_event() -> None:
    world = Recorded()
    await world.lost_and_back()
    world.now += SERIES_AGE
    await world.lost_and_back()
    other = make.agent()
    other["metadata"]["uid"] = "recreated"
    await world.lost_and_back(other)
    assert len(world.server.events) == 6


async def test_an_event_that_expired_on_the_server_is_posted_again() -> None:
    world = Recorded()
    await world.lost_and_back()
    world.server.events.clear()
    await world.lost_and_back()
    assert len(world.server.events) == 2


async def test_names_sort_by_time_also_within_one_moment() -> None:
    world = Recorded()
    for number in range(8):
        down = ready("False", "NotServing", f"loss {number}")
        await world.wrote(ready("True", "Serving"), down)
    assert world.server.notes == [f"loss {number}" for number in range(8)]


async def test_an_object_that_changes_all_the_time_runs_out_of_events_and_gets_some_back() -> None:
    world = Recorded()
    for number in range(2 * BURST):
        await world.wrote(ready("True", "Serving"), ready("False", "NotServing", f"loss {number}"))
    assert len(world.server.events) == BURST
    other = make.agent()
    other["metadata"]["uid"] = "another"
    await world.wrote(ready("True", "Serving"), ready("False", "NotServing"), other)
    assert len(world.server.events) == BURST + 1, "others do not suffer for it"
    world.now += 2 * REFILL
    for number in range(5):
        await world.wrote(ready("True", "Serving"), ready("False", "NotServing", f"later loss {number}"))
    assert len(world.server.events) == BURST + 3


async def test_what_the_server_refuses_is_dropped_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    world = Recorded()
    world.server.errors = [FORBIDDEN] * 4
    for _ in range(2):
        await world.lost_and_back()
    assert world.server.events == {} and world.server.calls == 4
    assert len(caplog.records) == 1 and "403 Forbidden" in caplog.text
    await world.lost_and_back()
    assert len(world.server.events) == 2, "it works again"
    world.server.errors = [FORBIDDEN]
    await world.wrote(ready("True", "Serving"), ready("False", "NotServing", "another"))
    assert len(caplog.records) == 2, "it fails anew after it had worked"


@pytest.mark.parametrize("error", [FORBIDDEN, ApiError(0, "Unreachable", "no answer"), RuntimeError("a bug")], ids=str)
async def test_a_failure_ends_neither_the_recorder_nor_a_reconcile(error: Exception) -> None:
    world = Recorded()
    task = asyncio.create_task(world.recorder.run())
    world.server.errors = [error]
    for number in range(2):
        down = ready("False", "NotServing", f"loss {number}")
        world.recorder.status_written({**make.agent(), "status": ready("True", "Serving")}, down)
    async with asyncio.timeout(5):
        await world.server.stored.wait()
    assert world.server.notes == ["loss 1"] and not task.done()
    task.cancel()


def test_a_status_that_cannot_be_read_costs_the_events_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    world = Recorded()
    world.recorder.status_written({**make.agent(), "status": {"conditions": "none"}}, {"conditions": []})
    assert "no Events for this change of status" in caplog.text


def test_a_server_that_does_not_answer_makes_nobody_wait(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    world = Recorded()
    monkeypatch.setattr(event_recorder, "BURST", 10_000)
    with caplog.at_level(logging.WARNING):
        for number in range(1500):
            down = ready("False", "NotServing", f"loss {number}")
            world.recorder.status_written({**make.agent(), "status": ready("True", "Serving")}, down)
    assert world.recorder._queue.qsize() == event_recorder.QUEUE_LIMIT
    assert caplog.text.count("wait to be written") == 1


async def test_memory_is_bounded_however_many_objects_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_recorder, "REMEMBERED", 10)
    world = Recorded()
    for number in range(50):
        subject = make.agent()
        subject["metadata"]["uid"] = f"uid-{number}"
        await world.lost_and_back(subject)
    assert len(world.recorder._posted) <= 10 and len(world.recorder._tokens) <= 10


async def test_the_name_of_an_object_with_a_long_name_is_cut_to_a_valid_one() -> None:
    world, subject = Recorded(), make.run()
    subject["metadata"]["name"] = "a" * 229 + "." + "b" * 20
    world.recorder._offer(event_recorder._reference(subject), Event("Normal", "Created", "Compile", "note"))
    await world.recorder.post_next()
    [name] = world.server.events
    assert len(name) <= 253 and ".." not in name
