"""Ray inside the Job's pod: hands batches to worker processes as they become free, and replaces dead workers."""

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
from subterra_jobs.generate.workers.worker import BatchResult, LLMWorker, Worker
from subterra_jobs.generate.written_conversation import Conversation
from subterra_jobs.llm.admission import UsageStats
from subterra_jobs.spending.ledger import Ledger
from subterra_jobs.stage.cancellation import STOP_SECONDS, signal_handlers_kept
from subterra_jobs.stage.tracing import FLUSH_SECONDS, tracing
from subterra_jobs.store.artifact_store import ArtifactStore

log = logging.getLogger("subterra")

OBJECT_STORE_BYTES = 80 * 1024 * 1024
"""Close to Ray's minimum: batches of text are small."""
MAX_ACTOR_CALLS = 10_000
"""More concurrent actor calls than a worker ever gets, so that waiting batches never block `usage`."""
POLL_SECONDS = 0.5
"""Maximum interval between requests for a worker's usage; what it had reserved then is booked if it dies."""
ANSWER_SECONDS = 600.0
"""Longest time that a worker may take to answer; the first answer waits for its process."""
START_TRIES = 3
MAX_DEATHS = 3
"""Number of consecutive worker deaths, with nothing paid or finished in between, that ends the stage."""
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Its monitor reads the node's memory on some cgroup layouts and then kills workers of a healthy pod; kubelet has the limit.
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}

Conversations = Sequence[Conversation]
OnFinished = Callable[[Conversations], None]


@dataclass(frozen=True)
class PoolShape:
    """How work is divided among processes."""

    workers: int
    batch: int
    concurrency: int
    """Conversations in progress in each worker."""
    in_flight: int = 2
    """Batches handed to each worker, so that none waits for the driver."""
    calls: int = 1
    """Maximum LLM calls in flight; the account's limits may allow fewer."""


@dataclass(frozen=True)
class _Flight:
    """A batch in the hands of a worker."""

    worker: int
    actor: Any
    batch: Conversations


class RayPool:
    """A context manager around one local Ray; use one per process. An LLM teacher has a single worker, as it mostly waits for
    responses. ``check`` raises a StageError when no more money may be spent.
    """

    def __init__(self, run: RunInput, shape: PoolShape, budget: Budget, check: Callable[[], None]) -> None:
        self._run, self._shape, self._budget, self._check = run, shape, budget, check
        self._costs_money = run.generation.teacher.name != "scripted"
        assert shape.workers == 1 or not self._costs_money
        self._last_usage: UsageStats | None = None
        self._calls_of_dead_workers = 0
        self._finished_batches = self._finished_at_death = self._deaths = 0
        self._flights: dict[Any, _Flight] = {}
        self._ledger = Ledger(ArtifactStore(run.store), run.run)

    def __enter__(self) -> Self:
        # A short path: the sockets in it may have 107 bytes.
        self._temp = tempfile.mkdtemp(prefix="ray", dir="/tmp")
        os.environ.update(_ENVIRONMENT | {"PYTHONPATH": _python_path()})
        try:
            _start_ray(self._shape.workers, self._temp)
        except Exception as error:
            self._shut_down()
            fix = "give the generate stage at least 1.5Gi of memory and one CPU"
            raise InfrastructureError(f"Ray did not start ({error}); {fix}") from error
        self._ledger.new_payments()  # payments from now on are evidence of progress
        self._run_ref = ray.put(self._run)
        self._workers = [self._make_worker() for _ in range(self._shape.workers)]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._flush_spans()
        self._shut_down()

    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [int(_answer(actor.pid.remote())) for actor in self._workers]

    def usage(self) -> UsageStats | None:
        """Calls and spending so far; `None` for a teacher that costs nothing."""
        if self._costs_money:
            with suppress(ray.exceptions.RayActorError):  # a dead worker's last report stands
                usage: UsageStats = _answer(self._workers[0].usage.remote())
                self._last_usage = replace(usage, calls=usage.calls + self._calls_of_dead_workers)
        return self._last_usage

    def write(self, conversations: Conversations, on_finished: OnFinished) -> None:
        """Finishes all conversations and passes them to ``on_finished`` as they come.

        Raises the first StageError, once everything in progress is finished and passed on.
        """
        size = self._shape.batch
        waiting = deque(list(conversations[start : start + size]) for start in range(0, len(conversations), size))
        self._flights = {}
        try:
            while waiting or self._flights:
                self._hand_out(waiting)
                self._collect_one(waiting, on_finished)
        except (StageError, SystemExit):
            self._stop(on_finished)
            raise

    def _hand_out(self, waiting: deque[list[Conversation]]) -> None:
        while waiting and (free := self._free_worker()) is not None:
            actor, batch = self._workers[free], waiting.popleft()
            self._flights[actor.write.remote(batch)] = _Flight(free, actor, batch)

    def _collect_one(self, waiting: deque[list[Conversation]], on_finished: OnFinished) -> None:
        """Waits for one batch to end. Refreshes the usage figures instead if that takes long."""
        ready, _ = ray.wait(list(self._flights), num_returns=1, timeout=POLL_SECONDS)
        if not ready:
            self.usage()
            return
        flight = self._flights.pop(ready[0])
        result = self._result(ready[0], flight)
        if result is None:
            waiting.append(list(flight.batch))  # last, in case it killed the worker; its paid turns are in the store
            return
        self._finished_batches += 1
        on_finished(result.finished)
        if result.failure is not None:
            raise result.failure.error()

    def _result(self, reference: Any, flight: _Flight) -> BatchResult | None:
        """The result of a batch; `None` if its worker died and the batch must be repeated."""
        try:
            result: BatchResult = ray.get(reference)
        except ray.exceptions.RayActorError:
            self._replace(flight.worker, flight.actor)
            return None
        return result

    def _free_worker(self) -> int | None:
        """The worker with the fewest batches, or `None` if all have enough."""
        load = [0] * len(self._workers)
        for flight in self._flights.values():
            load[flight.worker] += 1
        least = min(range(len(load)), key=load.__getitem__)
        return least if load[least] < self._shape.in_flight else None

    def _replace(self, index: int, dead: Any) -> None:
        if self._workers[index] is not dead:
            return  # another of its batches has already reported the death
        log.warning("a worker died and is replaced")
        self._count_death()
        self._workers[index] = self._make_worker()
        if self._last_usage is not None:
            self._calls_of_dead_workers = self._last_usage.calls
            _answer(self._workers[index].write_off.remote(self._last_usage.reserved))

    def _count_death(self) -> None:
        """Ends the stage if a batch kills every worker, once all other batches are done."""
        paid = any(payment.run == self._run.run.uid for payment in self._ledger.new_payments())
        self._deaths = 1 if paid or self._finished_batches > self._finished_at_death else self._deaths + 1
        self._finished_at_death = self._finished_batches
        if self._deaths >= MAX_DEATHS:
            raise InfrastructureError(
                f"{self._deaths} workers died without making progress; raise the memory limit of the generate stage"
            )

    def _stop(self, on_finished: OnFinished) -> None:
        """Lets every worker finish its turns in progress, so that paid responses are kept, and start no new call."""
        for actor in self._workers:
            actor.stop.remote()
        flights = list(self._flights)
        ready, _ = ray.wait(flights, num_returns=len(flights), timeout=STOP_SECONDS) if flights else ([], [])
        for reference in ready:
            try:
                on_finished(ray.get(reference).finished)
            except (ray.exceptions.RayError, StageError):
                log.warning("a worker died while stopping; its paid turns are kept")

    def _make_worker(self) -> Any:
        actor_class = ray.remote(LLMWorker if self._costs_money else Worker)
        spending = (self._budget, self._shape.calls, self._check) if self._costs_money else ()
        options = actor_class.options(num_cpus=1, max_restarts=0, max_concurrency=MAX_ACTOR_CALLS)
        return options.remote(self._run_ref, self._shape.concurrency, *spending)

    def _flush_spans(self) -> None:
        """Lets the worker that makes calls send its spans, which Ray would kill it before."""
        if self._costs_money and tracing().on:
            with suppress(ray.exceptions.RayError):
                ray.get(self._workers[0].flush_spans.remote(), timeout=2 * FLUSH_SECONDS)

    def _shut_down(self) -> None:
        ray.shutdown()
        shutil.rmtree(self._temp, ignore_errors=True)


def _answer(reference: Any) -> Any:
    """What a worker answers. Raises InfrastructureError if it does not: its process never started, or hangs."""
    try:
        return ray.get(reference, timeout=ANSWER_SECONDS)
    except ray.exceptions.GetTimeoutError:
        text = f"a worker of the generate stage has not answered for {ANSWER_SECONDS / 60:.0f} minutes; give the stage more CPU"
        raise InfrastructureError(text) from None


def _start_ray(workers: int, temp: str) -> None:
    """Starts Ray in this pod. A node that shares its processors may need longer than Ray's fixed 30 s, so it is tried again."""
    for tries_left in reversed(range(START_TRIES)):
        try:
            _init_ray(workers, temp)
        except Exception as error:
            if not tries_left:
                raise
            log.warning("Ray did not start (%s); trying again", error)
            ray.shutdown()
        else:
            return


def _init_ray(workers: int, temp: str) -> None:
    # Ray's handler aborts a process that is still there three seconds after a SIGTERM, whatever it has to finish
    # (https://github.com/ray-project/ray/pull/64830).
    with signal_handlers_kept():
        ray.init(
            address="local",
            num_cpus=workers,
            num_gpus=0,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=OBJECT_STORE_BYTES,
            _temp_dir=temp,
            _node_ip_address="127.0.0.1",
        )


def _python_path() -> str:
    """A PYTHONPATH with which workers find this process's packages, installed or not."""
    packages = (subterra_jobs, subterra_core, subterra_api)
    roots = [str(Path(package.__file__).parent.parent) for package in packages if package.__file__]
    return os.pathsep.join(dict.fromkeys([*roots, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]))
