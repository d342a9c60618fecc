"""Lives of the operator within one process: whenever kopf ends, all watches start again with an empty cache.

One 404, 409, 410 or 422 on a list, a watch or the discovery ends kopf. A process that ended as often would wait in kubelet's
restart backoff, up to five minutes; a new life begins within seconds.
"""

import asyncio
import logging
import random
import time
import weakref
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from contextvars import ContextVar
from typing import Any, NoReturn

import kopf

from subterra_operator.controller import Controller
from subterra_operator.framework.census import Census, StaleWatchError
from subterra_operator.framework.handlers import REGISTRY, Memo
from subterra_operator.framework.kopf_settings import NoMemories
from subterra_operator.monitoring import metrics

log = logging.getLogger("subterra")

FIRST_PAUSE = 0.25
LAST_PAUSE = 8.0
STEADY_SECONDS = 60.0
"""A life of at least this length resets the pause."""
END_ROUNDS = 3
END_SECONDS = 1.0
SCHEDULER_HELPERS = ("spawner of ", "cleaner of ")
"""How the names of the tasks begin by which kopf's schedulers start workers and end them."""
Task = asyncio.Task[Any]
_TASKS: ContextVar[weakref.WeakSet[Task]] = ContextVar("tasks of this life")


class KopfEndedError(Exception):
    """One of kopf's root tasks has ended, and with it the life."""


async def supervise(
    live: Callable[[], Awaitable[object]],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    jitter: Callable[[float, float], float] = random.uniform,
) -> NoReturn:
    """Begins ``live`` again whenever it returns or fails, after a pause that grows up to `LAST_PAUSE`."""
    pause = FIRST_PAUSE
    while True:
        began = clock()
        try:
            await live()
        except (StaleWatchError, KopfEndedError) as error:
            log.warning("%s", error)
        except Exception:
            log.exception("unexpected error")
        pause = FIRST_PAUSE if clock() - began >= STEADY_SECONDS else pause
        delay = pause * jitter(0.5, 1.0)
        pause = min(LAST_PAUSE, pause * 2)
        metrics.WATCH_RESTARTS.inc()
        log.warning("starting all watches again in %.1f s", delay)
        await sleep(delay)


async def live_once(controller: Controller, census: Census, on_spawned: Callable[[], None]) -> NoReturn:
    """One life. Raises what ended it, after all its tasks have ended.

    ``on_spawned`` is called when kopf has taken over the signal handlers.
    """
    mine = _record_tasks()
    namespaces = list(controller.settings.watch_namespaces)
    try:
        tasks = await kopf.spawn_tasks(
            registry=REGISTRY,
            memo=Memo(controller, census),
            memories=NoMemories(),
            standalone=True,
            clusterwide=not namespaces,
            namespaces=namespaces,
        )
        on_spawned()
        own = [asyncio.create_task(work, name=name) for name, work in _own_work(controller, census)]
        done, _ = await asyncio.wait([*tasks, *own], return_when=asyncio.FIRST_COMPLETED)
        raise _reason(done, own)
    finally:
        await end_tasks(mine)


def _own_work(controller: Controller, census: Census) -> list[tuple[str, Coroutine[Any, Any, object]]]:
    return [("controller", controller.run()), ("census", census.run()), ("heartbeat watch", census.listen())]


def _reason(done: Collection[Task], own: Collection[Task]) -> Exception:
    """Why a life has ended: an error of our own tasks as it is, anything else as KopfEndedError."""
    for task in sorted(done, key=lambda task: task not in own):
        error = None if task.cancelled() else task.exception()
        if task in own and isinstance(error, Exception):
            return error
        if error is not None:
            return KopfEndedError(f"kopf ended: {task.get_name()}: {type(error).__name__}: {error}")
    return KopfEndedError(f"kopf ended: {', '.join(sorted(task.get_name() for task in done))}")


def _record_tasks() -> weakref.WeakSet[Task]:
    """A set that receives every task that the current task and its descendants create from now on.

    kopf leaves tasks behind when it fails, and cancels everybody's tasks when it ends by itself.
    """
    loop = asyncio.get_running_loop()
    if loop.get_task_factory() is not _recording_factory:
        loop.set_task_factory(_recording_factory)  # type: ignore[arg-type]
    found = weakref.WeakSet[Task]()
    _TASKS.set(found)
    return found


def _recording_factory(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any) -> Task:
    task = asyncio.Task(coro, loop=loop, **options)
    tasks = _TASKS.get(None)
    if tasks is not None:
        tasks.add(task)
    return task


async def end_tasks(tasks: Iterable[Task]) -> None:
    """Cancels tasks and those that they create while they end, repeatedly if necessary; logs what is left.

    The helpers of kopf's schedulers come last: without them a worker that waits for its start never ends.
    """
    for last in range(END_ROUNDS):
        left = [task for task in list(tasks) if not task.done()]
        if not left:
            break
        left = left if last else [task for task in left if not task.get_name().startswith(SCHEDULER_HELPERS)] or left
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=END_SECONDS)
    for task in list(tasks):
        if not task.done():
            log.error("task %s does not end", task.get_name())
        elif not task.cancelled():
            task.exception()  # or asyncio logs that nobody has retrieved it
