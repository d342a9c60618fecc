"""Ray inside the Job's pod: worker processes, batches handed out as workers get free, dead workers replaced."""

import logging
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ray

import subterra_api
import subterra_core
import subterra_jobs
from subterra_api.job_contract.messages import Budget, RunInput
from subterra_jobs.errors import InfrastructureError, StageError
from subterra_jobs.generate.conversation import Conversation
from subterra_jobs.generate.workers.worker import Batch, PaidWorker, Worker
from subterra_jobs.llm.admission import Figures
from subterra_jobs.spending.ledger import Ledger
from subterra_jobs.stage.runner import STOP_SECONDS
from subterra_jobs.store.artifacts import ArtifactStore

log = logging.getLogger("subterra")

OBJECT_STORE_BYTES = 80 * 1024 * 1024
"""Near Ray's minimum: batches of text are small."""
MESSAGES = 10_000
"""More than a worker is ever sent at once: a batch that waits for its turn must not keep figures from being told."""
LOOK_SECONDS = 0.5
"""How often a worker is asked how far it is, at least: what it held then is booked if it dies."""
DEATHS = 3
"""How many workers may die in a row while nothing is paid or finished."""
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Its monitor reads the node's memory on some cgroup layouts and then kills workers of a healthy pod; kubelet has the limit.
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@dataclass(frozen=True)
class Shape:
    """How the work is cut."""

    workers: int
    batch: int
    concurrency: int
    """Conversations at once in each worker."""
    in_flight: int = 2
    """Batches per worker that are handed out, so that none waits for the driver."""
    calls: int = 1
    """Calls of a paid teacher at once; its account's limits may let through fewer."""


@dataclass(frozen=True)
class _Flight:
    worker: int
    actor: Any
    batch: list[Conversation]


class RayPool:
    """A context manager. Use one per process. A teacher that is paid has one worker, which waits for answers most of the time;
    ``check`` raises a StageError when there must be no more spending.
    """

    def __init__(self, run: RunInput, shape: Shape, budget: Budget, check: Callable[[], None]) -> None:
        self._run, self._shape, self._budget, self._check = run, shape, budget, check
        self._paid = run.generation.teacher.name != "scripted"
        assert shape.workers == 1 or not self._paid
        self._told: Figures | None = None
        self._calls_before = 0
        self._finished = self._finished_at_death = self._deaths = 0
        self._ledger = Ledger(ArtifactStore(run.store), run.run)

    def __enter__(self) -> Self:
        # A short path: the sockets in it may have 107 bytes.
        self._temp = tempfile.mkdtemp(prefix="ray", dir="/tmp")
        os.environ.update(_ENVIRONMENT | {"PYTHONPATH": _python_path()})
        try:
            ray.init(
                address="local", num_cpus=self._shape.workers, num_gpus=0, include_dashboard=False, log_to_driver=False,
                logging_level=logging.ERROR, object_store_memory=OBJECT_STORE_BYTES, _temp_dir=self._temp,
                _node_ip_address="127.0.0.1",
            )  # fmt: skip
        except Exception as error:
            self._leave()
            raise InfrastructureError(f"Ray did not start ({error}); give the generate stage at least 1.5Gi of memory") from error
        self._ledger.news()  # what is paid from now on tells whether anything gets done
        self._run_ref = ray.put(self._run)
        self._workers = [self._make_worker() for _ in range(self._shape.workers)]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._leave()

    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [int(pid) for pid in ray.get([actor.pid.remote() for actor in self._workers])]

    def figures(self) -> Figures | None:
        """How far it is with the provider; none with a teacher that costs nothing."""
        if self._paid:
            with suppress(ray.exceptions.RayActorError):  # a dead worker's last word stands
                told: Figures = ray.get(self._workers[0].figures.remote())
                self._told = replace(told, calls=told.calls + self._calls_before)
        return self._told

    def write(self, todo: Sequence[Conversation], done: Callable[[Sequence[Conversation]], None]) -> None:
        """Finishes all conversations; ``done`` gets them as they come.

        Raises the first StageError after what was under way is finished and handed over.
        """
        size = self._shape.batch
        waiting = deque(list(todo[start : start + size]) for start in range(0, len(todo), size))
        flights: dict[Any, _Flight] = {}
        try:
            while waiting or flights:
                while waiting and (free := self._free(flights)) is not None:
                    actor, next_one = self._workers[free], waiting.popleft()
                    flights[actor.write.remote(next_one)] = _Flight(free, actor, next_one)
                ready, _ = ray.wait(list(flights), num_returns=1, timeout=LOOK_SECONDS)
                if not ready:
                    self.figures()
                    continue
                flight = flights.pop(ready[0])
                result = self._result(ready[0], flight)
                if result is None:
                    waiting.append(flight.batch)  # last, in case it killed the worker; its paid turns are in the store
                    continue
                self._finished += 1
                done(result.finished)
                if result.failure is not None:
                    raise result.failure.error()
        except (StageError, SystemExit):
            self._stop(flights, done)
            raise

    def _result(self, reference: Any, flight: _Flight) -> Batch | None:
        """What a batch came to; none when its worker died and the batch must be done again."""
        try:
            result: Batch = ray.get(reference)
        except ray.exceptions.RayActorError:
            self._replace(flight.worker, flight.actor)
            return None
        return result

    def _free(self, flights: dict[Any, _Flight]) -> int | None:
        """The worker with the fewest batches, unless all have enough."""
        load = [0] * len(self._workers)
        for flight in flights.values():
            load[flight.worker] += 1
        least = min(range(len(load)), key=load.__getitem__)
        return least if load[least] < self._shape.in_flight else None

    def _replace(self, index: int, dead: Any) -> None:
        if self._workers[index] is not dead:
            return  # another of its batches told already
        log.warning("a worker died; another one takes over")
        self._count_death()
        self._workers[index] = self._make_worker()
        if self._told is not None:
            self._calls_before = self._told.calls
            ray.get(self._workers[index].forfeit.remote(self._told.held))

    def _count_death(self) -> None:
        """A batch that kills every worker ends the stage, once all others are done."""
        paid = any(payment.run == self._run.run.uid for payment in self._ledger.news())
        self._deaths = 1 if paid or self._finished > self._finished_at_death else self._deaths + 1
        self._finished_at_death = self._finished
        if self._deaths >= DEATHS:
            text = f"{self._deaths} workers died while nothing got done; raise the memory limit of the generate stage"
            raise InfrastructureError(text)

    def _stop(self, flights: dict[Any, _Flight], done: Callable[[Sequence[Conversation]], None]) -> None:
        """Lets every worker end its turns under way, so that what is paid is kept. No new call goes."""
        for actor in self._workers:
            actor.stop.remote()
        ready, _ = ray.wait(list(flights), num_returns=len(flights), timeout=STOP_SECONDS) if flights else ([], [])
        for reference in ready:
            try:
                done(ray.get(reference).finished)
            except (ray.exceptions.RayError, StageError):
                log.warning("a worker died while stopping; its paid turns are kept")

    def _make_worker(self) -> Any:
        kind = ray.remote(PaidWorker if self._paid else Worker).options(num_cpus=1, max_restarts=0, max_concurrency=MESSAGES)
        spending = (self._budget, self._shape.calls, self._check) if self._paid else ()
        return kind.remote(self._run_ref, self._shape.concurrency, *spending)

    def _leave(self) -> None:
        ray.shutdown()
        shutil.rmtree(self._temp, ignore_errors=True)


def _python_path() -> str:
    """Workers find the packages that this process runs, installed or not."""
    roots = [
        str(Path(package.__file__).parent.parent) for package in (subterra_jobs, subterra_core, subterra_api) if package.__file__
    ]
    return os.pathsep.join(dict.fromkeys([*roots, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]))
