"""The loop: a key from the queue, a snapshot from the store, a decision, its writes."""

import asyncio
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from subterra_operator.decide.agent.agent import decide_agent
from subterra_operator.decide.decision import Decision
from subterra_operator.decide.procedure import decide_procedure
from subterra_operator.decide.run.run import decide_run
from subterra_operator.kube.apply import Applier, ForeignObjectError
from subterra_operator.kube.cache import Store
from subterra_operator.kube.client import Api, ApiError, ConflictError
from subterra_operator.kube.heartbeat import HEARTBEAT, Heartbeat
from subterra_operator.labels import RUN_LABEL
from subterra_operator.monitoring import metrics
from subterra_operator.monitoring.pod_poller import Poller
from subterra_operator.resources import KINDS, WATCHED, Key, Kind, deleting, key_of
from subterra_operator.settings import Settings
from subterra_operator.work_queue import KeyQueue

log = logging.getLogger("subterra")

RESYNC_SECONDS = 300.0
"""Everything is decided anew so often."""


class Controller:
    """Everything that is alive: store, queue, applier, poller, workers."""

    def __init__(self, settings: Settings, api: Api) -> None:
        self.settings, self.api = settings, api
        self.store = Store()
        self.queue: KeyQueue[Key] = KeyQueue()
        self.applier = Applier(api, self.store, self.wake)
        self.poller = Poller(self.store, self.wake)
        self._listing = asyncio.Lock()
        self._listed: set[tuple[str, str | None]] = set()
        self._ready = asyncio.Event()
        self.heartbeat = Heartbeat(api, settings.namespace, metrics.API_SILENCE.set)

    @property
    def ready(self) -> bool:
        """Whether all kinds have been listed once; before that nothing is decided: who knows nothing would do all twice."""
        return self._ready.is_set()

    @property
    def silence(self) -> float:
        """Seconds for which the watches have been silent although the API server answers."""
        return self.heartbeat.silence

    def observe(self, event: str | None, obj: Mapping[str, Any]) -> None:
        """Takes an event of a watch: remembers the object and wakes up whom it concerns."""
        if obj["metadata"]["name"] == HEARTBEAT:
            self.heartbeat.came_back()
        elif self.store.seen(obj, deleted=event == "DELETED"):
            self.wake(obj)

    def wake(self, obj: Mapping[str, Any]) -> None:
        """Makes everything that this object concerns be decided again."""
        for key in self.store.keys_for(obj):
            self.queue.add(key)

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.heartbeat.run())
            await self._ready.wait()
            log.info("all kinds listed: %d objects", sum(len(self.store.keys(kind)) for kind in WATCHED))
            await self.poller.first()
            group.create_task(self._resync())
            for _ in range(self.settings.workers):
                group.create_task(self._work())
            group.create_task(self.poller.run())

    async def relist(self, kind: Kind, namespace: str | None) -> str:
        """Takes over a complete list; returns its version, from which a watch misses nothing. Raises ApiError.

        One list at a time: a thousand agents' objects are large while they are read.
        """
        async with self._listing:
            present, version, news = set(), "0", 0
            async for page in self.api.pages(kind, namespace):
                version = page.version
                present |= {key_of(obj) for obj in page.items}
                news += sum(self.store.seen(obj) for obj in page.items)
            if self.store.listed(kind.name, present, version, namespace) or news:
                self._decide_all()
        self._listed.add((kind.name, namespace))
        if len(self._listed) == len(WATCHED) * len(self.settings.watch_namespaces or (None,)):
            self._ready.set()
        return version

    def _decide_all(self) -> None:
        """Makes every resource of ours be decided again."""
        for kind in ("Procedure", "CompileRun", "CompiledAgent"):
            for key in self.store.keys(kind):
                self.queue.add(key)

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(RESYNC_SECONDS)
            self._decide_all()

    async def _work(self) -> None:
        while True:
            key = await self.queue.take()
            metrics.QUEUE.set(len(self.queue))
            started = time.monotonic()
            try:
                again = await self.reconcile(key)
            except Exception as error:
                self._failed(key, error)
            else:
                self.queue.done(key, again)
                metrics.RECONCILES.labels(key.kind, "ok").inc()
            metrics.SECONDS.labels(key.kind).observe(time.monotonic() - started)

    def _failed(self, key: Key, error: Exception) -> None:
        delay = self.queue.failed(key)
        result = "conflict" if isinstance(error, ConflictError) else "error"
        metrics.RECONCILES.labels(key.kind, result).inc()
        if isinstance(error, ConflictError):
            log.debug("%s: %s", key, error)
        elif isinstance(error, ApiError | ForeignObjectError):
            log.warning("%s: %s; again in %.1f s", key, error, delay)
        else:
            log.exception("%s: unexpected failure; again in %.1f s", key, delay)

    async def reconcile(self, key: Key) -> float | None:
        """Decides on one resource and carries the decision out; returns when to look again."""
        subject = self.store.get(key)
        if subject is None or deleting(subject):
            metrics.forget(key)
            self.store.blocked.pop(key, None)
            return None
        decision = self.decide(key, datetime.now(UTC))
        if any(write.how == "create" and write.key.kind == "Job" for write in decision.writes) and await self._behind(key):
            return 0.0
        try:
            if await self.applier.carry_out(subject, decision):
                log.info("%s: %s", key, _told(decision))
        except ForeignObjectError as error:
            self.store.blocked[key] = str(error)
            await self.applier.tell(subject, self.decide(key, datetime.now(UTC)).status)
            raise
        if self.store.blocked.pop(key, None):
            self.queue.add(key)
        metrics.show(key, decision.status or {}, subject)
        return decision.recheck_after

    async def _behind(self, run: Key) -> bool:
        """A live look before a Job is made: does the API server know more of the run's Jobs and pods than the watches told?"""
        news = 0
        for kind in ("Job", "Pod"):
            objects, _ = await self.api.list(KINDS[kind], run.namespace, f"{RUN_LABEL}={run.name}")
            news += sum(self.store.seen(obj) for obj in objects)
        return news > 0

    def decide(self, key: Key, now: datetime) -> Decision:
        """The decision on a resource as the store knows it; none when it is gone."""
        if key.kind == "Procedure" and (procedure := self.store.procedure(key)):
            return decide_procedure(procedure, now)
        if key.kind == "CompileRun" and (run := self.store.run(key)):
            return decide_run(run, self.settings, now)
        if key.kind == "CompiledAgent" and (agent := self.store.agent(key)):
            return decide_agent(agent, self.settings, now)
        return Decision()


def _told(decision: Decision) -> str:
    """What a decision did, in a line for the log."""
    did = [f"{write.how} {write.key.kind} {write.key.name}" for write in decision.writes]
    did += [f"delete {obj['kind']} {obj['metadata']['name']}" for obj in decision.deletes]
    status = decision.status or {}
    phase = f"{status.get('phase')} {status.get('progress') or status.get('stage') or ''}".strip()
    return ", ".join([*did, phase])
