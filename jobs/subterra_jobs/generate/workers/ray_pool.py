"""The workers of the generate stage as Ray actors: hands them batches as they become free, and replaces dead ones."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from subterra_api.job_contract.messages import Budget, RunInput
from subterra_jobs.errors import InfrastructureError, StageError
from subterra_jobs.generate.workers.broker import BROKER_DIED, Broker, BrokeredWorker
from subterra_jobs.generate.workers.ray_runtime import ray_runtime
from subterra_jobs.generate.workers.worker import BatchResult, LLMWorker, Worker
from subterra_jobs.generate.written_conversation import Conversation
from subterra_jobs.llm.admission import UsageStats
from subterra_jobs.spending.budget import BudgetGuard
from subterra_jobs.spending.ledger import Ledger
from subterra_jobs.stage.cancellation import STOP_SECONDS
from subterra_jobs.stage.tracing import FLUSH_SECONDS, tracing
from subterra_jobs.store.artifact_store import ArtifactStore

log = logging.getLogger("subterra")

MAX_ACTOR_CALLS = 10_000
"""More concurrent actor calls than a worker ever gets, so that waiting batches never block `usage`."""
POLL_SECONDS = 0.5
"""Maximum interval between requests for a worker's usage; what it had reserved then is booked if it dies."""
MAX_DEATHS = 3
"""Number of consecutive worker deaths, with nothing paid or finished in between, that ends the stage."""
LOST_NODE_SECONDS = 30.0
"""How long after the loss of a node deaths of workers count as due to it."""
ANSWER_SECONDS = 600.0
"""How long a process that is there may take to answer: the first answer waits for its start."""
UNSTAFFED_SECONDS = 600.0
"""How long the stage waits while no worker has a processor, as when all other pods are gone or none was made."""

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


@dataclass(eq=False)
class _Member:
    """A worker. In a cluster it may wait for a processor; until then it gets no batch."""

    name: str
    actor: Any
    pid: Any
    """Reference to its process id, which is there once it has started."""
    started: bool = False


@dataclass(frozen=True)
class _Batch:
    """Conversations that go to a worker together."""

    conversations: Conversations
    repeated: bool = False
    """Whether a dead worker had them, whose paid turns are in the store."""


@dataclass(frozen=True)
class _Flight:
    """A batch in the hands of a worker."""

    member: _Member
    batch: _Batch


class RayPool:
    """A context manager around Ray; use one per process. ``address`` is that of a cluster to join.

    A single worker of an LLM teacher pays by itself, several ask a broker. ``check`` raises a StageError when no more money may be
    spent.
    """

    def __init__(
        self, run: RunInput, shape: PoolShape, budget: Budget, check: Callable[[], None], address: str | None = None
    ) -> None:
        self._run, self._shape, self._budget, self._check = run, shape, budget, check
        self._costs_money = run.generation.teacher.name != "scripted"
        self._runtime = ray_runtime(address, shape.workers)
        self._last_usage: UsageStats | None = None
        self._calls_of_dead_workers = self._made = 0
        self._finished_batches = self._finished_at_death = self._deaths = 0
        self._flights: dict[Any, _Flight] = {}
        self._ledger = Ledger(ArtifactStore(run.store), run.run)
        self._broker: Any = None

    def __enter__(self) -> Self:
        try:
            self._runtime.start()
        except Exception as error:
            self._runtime.stop()
            fix = "give each pod of the generate stage at least 1.5Gi of memory and one CPU"
            raise InfrastructureError(f"Ray did not start ({error}); {fix}") from error
        self._ledger.new_payments()  # payments from now on are evidence of progress
        self._nodes, self._node_lost_at = _live_nodes(), -LOST_NODE_SECONDS
        self._run_ref = ray.put(self._run)
        if self._costs_money and self._shape.workers > 1:
            self._broker = self._make_broker()
        self._members = [self._make_worker() for _ in range(self._shape.workers)]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._flush_spans()
        self._runtime.stop()

    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [int(_answer(member.pid)) for member in self._members]

    def usage(self) -> UsageStats | None:
        """Calls and spending so far; `None` for a teacher that costs nothing."""
        if not self._costs_money:
            return None
        payer = self._broker or self._members[0].actor
        with suppress(ray.exceptions.RayActorError):  # a dead worker's last report stands
            usage: UsageStats = _answer(payer.usage.remote())
            self._last_usage = replace(usage, calls=usage.calls + self._calls_of_dead_workers)
        return self._last_usage

    def write(self, conversations: Conversations, on_finished: OnFinished) -> None:
        """Finishes all conversations and passes them to ``on_finished`` as they come.

        Raises the first StageError, once everything in progress is finished and passed on.
        """
        size = self._shape.batch
        waiting = deque(_Batch(conversations[start : start + size]) for start in range(0, len(conversations), size))
        self._flights = {}
        self._staffed_at = time.monotonic()
        try:
            while waiting or self._flights:
                self._runtime.check()
                self._require_worker()
                self._hand_out(waiting)
                self._collect_one(waiting, on_finished)
        except (StageError, SystemExit):
            self._stop(on_finished)
            raise

    def _require_worker(self) -> None:
        """Ends the stage when it only waits for processors, and long: nobody else would notice."""
        now = time.monotonic()
        if any(member.started for member in self._members):
            self._staffed_at = now
        elif now - self._staffed_at >= UNSTAFFED_SECONDS:
            raise InfrastructureError(
                f"none of {len(self._members)} workers has got a processor for {UNSTAFFED_SECONDS / 60:.0f} minutes; see that the "
                "pods of the generate stage run, each with 1.5Gi of memory and one CPU at least"
            )

    def _hand_out(self, waiting: deque[_Batch]) -> None:
        while waiting and (member := self._free_worker()) is not None:
            batch = waiting.popleft()
            self._flights[member.actor.write.remote(batch.conversations, batch.repeated)] = _Flight(member, batch)

    def _collect_one(self, waiting: deque[_Batch], on_finished: OnFinished) -> None:
        """Waits for one batch to end or one worker to start. Refreshes the usage figures instead if that takes long."""
        starting = {member.pid: member for member in self._members if not member.started}
        ready, _ = ray.wait([*self._flights, *starting], num_returns=1, timeout=POLL_SECONDS)
        if not ready:
            self.usage()
        elif ready[0] in starting:
            self._has_started(starting[ready[0]])
        else:
            self._collect(ready[0], waiting, on_finished)

    def _collect(self, reference: Any, waiting: deque[_Batch], on_finished: OnFinished) -> None:
        flight = self._flights.pop(reference)
        try:
            result: BatchResult = ray.get(reference)
        except ray.exceptions.RayActorError:
            self._replace(flight.member)
            waiting.append(replace(flight.batch, repeated=True))  # last, in case it killed the worker
            return
        self._finished_batches += 1
        on_finished(result.finished)
        if result.failure is not None:
            raise result.failure.error()

    def _has_started(self, member: _Member) -> None:
        try:
            ray.get(member.pid)
        except ray.exceptions.RayActorError:
            self._replace(member)
        else:
            member.started = True

    def _free_worker(self) -> _Member | None:
        """The worker with the fewest batches, or `None` if all have enough."""
        load = {member: 0 for member in self._members if member.started}
        for flight in self._flights.values():
            if flight.member in load:
                load[flight.member] += 1
        least = min(load, key=load.__getitem__, default=None)
        return least if least is not None and load[least] < self._shape.in_flight else None

    def _replace(self, dead: _Member) -> None:
        if dead not in self._members:
            return  # another of its batches has already reported the death
        log.warning("a worker died and is replaced")
        self._count_death()
        ray.kill(dead.actor)  # one that is only out of reach must not pay next to its successor
        self._book_lost_calls(dead)
        self._members[self._members.index(dead)] = self._make_worker()

    def _book_lost_calls(self, dead: _Member) -> None:
        """Books what a dead worker had reserved: which of its calls were paid is unknown."""
        if self._broker is not None:
            try:
                _answer(self._broker.write_off.remote(dead.name))
            except ray.exceptions.RayActorError:
                raise InfrastructureError(BROKER_DIED) from None
        elif self._last_usage is not None:
            self._calls_of_dead_workers = self._last_usage.calls
            # Before its successor reads the ledger.
            asyncio.run(BudgetGuard(self._ledger, "generate", self._budget).write_off(self._last_usage.reserved))

    def _count_death(self) -> None:
        """Ends the stage if a batch kills every worker, once all other batches are done. A lost node is no fault of a batch."""
        nodes, now = _live_nodes(), time.monotonic()
        self._node_lost_at = now if self._nodes - nodes else self._node_lost_at
        self._nodes = nodes
        paid = any(payment.run == self._run.run.uid for payment in self._ledger.new_payments())
        if now - self._node_lost_at < LOST_NODE_SECONDS:
            return
        self._deaths = 1 if paid or self._finished_batches > self._finished_at_death else self._deaths + 1
        self._finished_at_death = self._finished_batches
        if self._deaths >= MAX_DEATHS:
            raise InfrastructureError(
                f"{self._deaths} workers died without making progress; raise the memory limit of the generate stage"
            )

    def _stop(self, on_finished: OnFinished) -> None:
        """Lets every worker finish its turns in progress, so that paid responses are kept, and start no new call."""
        for member in self._members:
            member.actor.stop.remote()
        flights = list(self._flights)
        ready, _ = ray.wait(flights, num_returns=len(flights), timeout=STOP_SECONDS) if flights else ([], [])
        for reference in ready:
            try:
                on_finished(ray.get(reference).finished)
            except (ray.exceptions.RayError, StageError):
                log.warning("a worker died while stopping; its paid turns are kept")

    def _make_worker(self) -> _Member:
        self._made += 1
        name = f"worker-{self._made}"
        kind, spending = self._kind(name)
        options = ray.remote(kind).options(num_cpus=1, max_restarts=0, max_concurrency=MAX_ACTOR_CALLS)
        actor = options.remote(self._run_ref, self._shape.concurrency, *spending)
        return _Member(name, actor, actor.pid.remote())

    def _flush_spans(self) -> None:
        """Lets the workers that make calls send their spans, which Ray would kill them before."""
        if self._costs_money and tracing().on:
            flushes = [member.actor.flush_spans.remote() for member in self._members if member.started]
            with suppress(ray.exceptions.RayError):
                ray.get(flushes, timeout=2 * FLUSH_SECONDS)

    def _kind(self, name: str) -> tuple[type[Worker], tuple[Any, ...]]:
        """The class of workers, and what they need in order to pay."""
        if self._broker is not None:
            return BrokeredWorker, (self._broker, name)
        return (LLMWorker, (self._budget, self._shape.calls, self._check)) if self._costs_money else (Worker, ())

    def _make_broker(self) -> Any:
        """In this pod, whose end is that of the stage anyway."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = ray.remote(Broker).options(num_cpus=0, max_restarts=0, max_concurrency=MAX_ACTOR_CALLS, scheduling_strategy=here)
        return options.remote(self._run_ref, self._budget, self._shape.calls, self._check)


def _answer(reference: Any) -> Any:
    """What an actor answers. Raises InfrastructureError if it does not."""
    try:
        return ray.get(reference, timeout=ANSWER_SECONDS)
    except ray.exceptions.GetTimeoutError:
        text = f"a process of the generate stage has not answered for {ANSWER_SECONDS / 60:.0f} minutes; give its pod more CPU"
        raise InfrastructureError(text) from None


def _live_nodes() -> frozenset[str]:
    return frozenset(str(node["NodeID"]) for node in ray.nodes() if node["Alive"])
