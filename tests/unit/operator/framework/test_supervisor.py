"""Lives follow each other without end, with pauses that grow, and leave no task behind."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import kopf
import pytest
from kopf._cogs.aiokits.aiotasks import Scheduler

from subterra_operator.controller import Controller
from subterra_operator.framework import supervisor
from subterra_operator.framework.census import Census, StaleWatchError
from subterra_operator.framework.supervisor import KopfEndedError, end_tasks, live_once, supervise
from subterra_operator.kube.api_client import KubernetesApi
from subterra_operator.kube.heartbeat import Heartbeat
from subterra_operator.kube.leader_lease import LeaderLease
from subterra_operator.settings import Settings


class Enough(BaseException):
    """Ends the supervisor, which nothing else does."""


async def pauses_of(lengths: list[float], how: Callable[[], None] = lambda: None) -> list[float]:
    """The pauses after lives of these lengths."""
    now, left, pauses = 0.0, list(lengths), list[float]()

    async def live() -> None:
        nonlocal now
        now += left.pop(0)
        how()

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        pauses.append(seconds)
        if not left:
            raise Enough

    with pytest.raises(Enough):
        await supervise(live, clock=lambda: now, sleep=sleep, jitter=lambda low, high: high)
    return pauses


def fail(error: Exception) -> Callable[[], None]:
    def raises() -> None:
        raise error

    return raises


@pytest.mark.parametrize("how", [lambda: None, fail(StaleWatchError("deaf")), fail(KopfEndedError("404")), fail(ValueError("no"))])
async def test_however_a_life_ends_another_one_begins(how: Callable[[], None]) -> None:
    assert await pauses_of([0.0] * 8, how) == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


async def test_only_a_life_of_a_minute_resets_the_pause() -> None:
    assert await pauses_of([0, 0, 59.9, 60.0, 0, 3600, 5]) == [0.25, 0.5, 1.0, 0.25, 0.5, 0.25, 0.5]


async def test_an_outage_of_25_seconds_costs_few_lives() -> None:
    """Each life lists everything: a watch that answers 404 must not cost one every second."""
    pauses, lasted = await pauses_of([1.0] * 12), 0.0
    lives = next(number for number, pause in enumerate(pauses, 1) if (lasted := lasted + 1.0 + pause) >= 25.0)
    assert lives <= 8


async def test_pauses_are_spread_so_that_replicas_do_not_list_at_once() -> None:
    asked = list[tuple[float, float]]()

    async def live() -> None:
        return None

    async def sleep(_: float) -> None:
        raise Enough

    def jitter(low: float, high: float) -> float:
        asked.append((low, high))
        return 1.0

    with pytest.raises(Enough):
        await supervise(live, sleep=sleep, jitter=jitter)
    assert asked == [(0.5, 1.0)]


async def test_cancelling_the_supervisor_ends_it() -> None:
    task = asyncio.create_task(supervise(asyncio.Event().wait))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class Kopf:
    """kopf whose root task fails, and which leaves a task behind that must be cancelled twice, as its watchers must."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.orphans: list[asyncio.Task[Any]] = []
        self.arguments: dict[str, Any] = {}

    async def spawn_tasks(self, **arguments: Any) -> list[asyncio.Task[Any]]:
        self.arguments = arguments
        return [asyncio.create_task(self.root(), name="resource observer")]

    async def root(self) -> None:
        self.orphans.append(asyncio.create_task(stubborn(asyncio.Event().wait)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if self.error:
            raise self.error


async def stubborn(wait: Callable[[], Awaitable[object]]) -> None:
    """Survives one cancellation."""
    try:
        await wait()
    except asyncio.CancelledError:
        await wait()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "END_SECONDS", 0.01)


def a_life(namespaces: tuple[str, ...] = ()) -> tuple[Controller, Census]:
    """A controller and a census that wait: there is no API server."""
    api = KubernetesApi()

    async def waits(*_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    api._call = waits  # type: ignore[method-assign]
    settings = Settings(watch_namespaces=namespaces)
    controller = Controller(
        settings, api, Heartbeat(api, "default", lambda _: None, lambda: True), LeaderLease(api, settings.lease, "default")
    )
    return controller, Census(controller, api)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("error", [None, kopf.PermanentError("404 page not found")], ids=["returns", "fails"])
async def test_when_kopf_ends_the_life_ends_with_all_its_tasks_and_no_others(
    error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, foreign, signals = Kopf(error), asyncio.create_task(asyncio.Event().wait()), list[str]()
    monkeypatch.setattr(kopf, "spawn_tasks", fake.spawn_tasks)
    before = asyncio.all_tasks()
    life = asyncio.create_task(live_once(*a_life(), lambda: signals.append("ours again")))
    with pytest.raises(KopfEndedError, match="resource observer"):
        await life
    assert [task.done() for task in fake.orphans] == [True]
    assert asyncio.all_tasks() == before
    assert not foreign.done()
    assert signals == ["ours again"]
    foreign.cancel()


@pytest.mark.usefixtures("quick")
async def test_two_lives_in_one_loop_do_not_end_each_others_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    lasting = Kopf()
    monkeypatch.setattr(lasting, "root", asyncio.Event().wait)
    monkeypatch.setattr(kopf, "spawn_tasks", lasting.spawn_tasks)
    first = asyncio.create_task(live_once(*a_life(), lambda: None))
    await asyncio.sleep(0.01)
    monkeypatch.setattr(kopf, "spawn_tasks", Kopf().spawn_tasks)
    with pytest.raises(KopfEndedError):
        await asyncio.create_task(live_once(*a_life(), lambda: None))
    assert not first.done()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("namespaces", [(), ("a", "b")])
async def test_kopf_watches_the_whole_cluster_or_the_given_namespaces(
    namespaces: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Kopf()
    monkeypatch.setattr(kopf, "spawn_tasks", fake.spawn_tasks)
    with pytest.raises(KopfEndedError):
        await asyncio.create_task(live_once(*a_life(namespaces), lambda: None))
    found = (fake.arguments["clusterwide"], fake.arguments["namespaces"], fake.arguments["standalone"])
    assert found == (not namespaces, list(namespaces), True)


async def test_a_task_that_never_ends_is_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(supervisor, "END_SECONDS", 0.01)
    release = asyncio.Event()

    async def immortal() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    task = asyncio.create_task(immortal(), name="immortal")
    await asyncio.sleep(0)
    await end_tasks([task])
    assert "task immortal does not end" in caplog.text
    release.set()
    await task


@pytest.mark.filterwarnings("error")
async def test_a_worker_that_kopf_has_not_started_yet_ends_with_its_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "END_SECONDS", 0.2)

    async def worker() -> None:
        await asyncio.sleep(60)

    waiting, handed_over = worker(), asyncio.Event()

    async def watcher() -> None:
        scheduler = Scheduler(limit=1)
        await scheduler.spawn(worker(), name="worker")
        await scheduler.spawn(waiting, name="worker that waits")
        handed_over.set()
        try:
            await asyncio.Event().wait()
        finally:
            await scheduler.close()

    before = asyncio.all_tasks()
    watching = asyncio.create_task(watcher(), name="watcher")
    await handed_over.wait()
    await end_tasks(asyncio.all_tasks() - before)
    assert inspect.getcoroutinestate(waiting) == inspect.CORO_CLOSED
    assert watching.cancelled()
    assert asyncio.all_tasks() == before
