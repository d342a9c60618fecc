"""The reconcile loop: take a key from the queue and a snapshot from the cache, decide, apply the decision."""

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
from subterra_operator.kube.api_client import ApiError, ConflictError, KubernetesApi
from subterra_operator.kube.apply import Applier, ForeignObjectError
from subterra_operator.kube.cache import ObjectCache
from subterra_operator.kube.heartbeat import HEARTBEAT_NAME, Heartbeat
from subterra_operator.labels import RUN_LABEL
from subterra_operator.monitoring import metrics, model_metrics
from subterra_operator.monitoring.pod_poller import PodPoller
from subterra_operator.resources import KINDS, RECONCILED, WATCHED, Key, Kind, is_deleting, key_of
from subterra_operator.settings import Settings
from subterra_operator.work_queue import KeyQueue

log = logging.getLogger("subterra")

RESYNC_SECONDS = 300.0
"""Interval at which every resource is reconciled."""


class Controller:
    """Cache, queue, applier, poller and workers."""

    def __init__(self, settings: Settings, api: KubernetesApi) -> None:
        self.settings, self.api = settings, api
        self.cache = ObjectCache()
        self.queue: KeyQueue[Key] = KeyQueue()
        self.applier = Applier(api, self.cache, self.enqueue)
        self.poller = PodPoller(self.cache, self.enqueue)
        self.heartbeat = Heartbeat(api, settings.namespace, metrics.API_SILENCE.set)
        self._listing = asyncio.Lock()
        self._listed: set[tuple[str, str | None]] = set()
        self._ready = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether all kinds have been listed once.

        Until then no reconcile runs, because an empty cache would recreate existing objects.
        """
        return self._ready.is_set()

    @property
    def watch_silence(self) -> float:
        """Seconds for which the watches have delivered no heartbeat although the API server responds."""
        return self.heartbeat.watch_silence

    def handle_event(self, event: str, obj: Mapping[str, Any]) -> None:
        """Updates the cache from a watch event and enqueues the affected resources."""
        if obj["metadata"]["name"] == HEARTBEAT_NAME:
            self.heartbeat.delivered()
        elif self.cache.remove(obj) if event == "DELETED" else self.cache.upsert(obj):
            self.enqueue(obj)

    def enqueue(self, obj: Mapping[str, Any]) -> None:
        """Enqueues all resources that this object affects."""
        for key in self.cache.affected_keys(obj):
            self.queue.add(key)

    async def run(self) -> None:
        """Runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.heartbeat.run())
            await self._ready.wait()
            log.info("all kinds listed: %d objects", sum(len(self.cache.keys(kind)) for kind in WATCHED))
            await self.poller.poll_once()
            group.create_task(self._resync())
            for _ in range(self.settings.workers):
                group.create_task(self._work())
            group.create_task(self.poller.run())

    async def relist(self, kind: Kind, namespace: str | None) -> str:
        """Loads a complete list into the cache; returns its resourceVersion, from which a watch continues. Raises ApiError.

        One list at a time: the objects of a thousand agents need much memory while they are parsed.
        """
        async with self._listing:
            present, version, changes = set(), "0", 0
            async for page in self.api.pages(kind, namespace):
                version = page.version
                present |= {key_of(obj) for obj in page.items}
                changes += sum(self.cache.upsert(obj) for obj in page.items)
            if self.cache.replace_list(kind.name, present, version, namespace) or changes:
                self._enqueue_all()
        self._listed.add((kind.name, namespace))
        if len(self._listed) == len(WATCHED) * len(self.settings.watch_namespaces or (None,)):
            self._ready.set()
        return version

    def _enqueue_all(self) -> None:
        for kind in RECONCILED:
            for key in self.cache.keys(kind):
                self.queue.add(key)

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(RESYNC_SECONDS)
            self._enqueue_all()

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            metrics.QUEUE_KEYS.set(len(self.queue))
            started = time.monotonic()
            try:
                recheck_after = await self.reconcile(key)
            except Exception as error:
                self._retry_later(key, error)
            else:
                self.queue.done(key, recheck_after)
                metrics.RECONCILES.labels(key.kind, "ok").inc()
            metrics.RECONCILE_SECONDS.labels(key.kind).observe(time.monotonic() - started)

    def _retry_later(self, key: Key, error: Exception) -> None:
        delay = self.queue.retry_later(key)
        result = "conflict" if isinstance(error, ConflictError) else "error"
        metrics.RECONCILES.labels(key.kind, result).inc()
        if isinstance(error, ConflictError):
            log.debug("%s: %s", key, error)
        elif isinstance(error, ApiError | ForeignObjectError):
            log.warning("%s: %s; retrying in %.1f s", key, error, delay)
        else:
            log.exception("%s: unexpected error; retrying in %.1f s", key, delay)

    async def reconcile(self, key: Key) -> float | None:
        """Decides on one resource and applies the decision; returns the seconds until the next reconcile, if one is due."""
        subject = self.cache.get(key)
        if subject is None or is_deleting(subject):
            metrics.remove(key)
            model_metrics.forget_retirements(key)
            self.cache.name_conflicts.pop(key, None)
            return None
        decision = self.decide(key, datetime.now(UTC))
        if _creates_job(decision) and await self._cache_is_stale(key):
            return 0.0
        try:
            if await self.applier.apply(subject, decision):
                log.info("%s: %s", key, _describe(decision))
        except ForeignObjectError as error:
            self.cache.name_conflicts[key] = str(error)
            await self.applier.write_status(subject, self.decide(key, datetime.now(UTC)).status)
            raise
        if self.cache.name_conflicts.pop(key, None):
            self.queue.add(key)
        metrics.record_status(key, decision.status or {}, subject)
        if key.kind == "CompiledAgent":
            model_metrics.record_retirements(key, subject, datetime.now(UTC).date())
        return decision.recheck_after

    async def _cache_is_stale(self, run: Key) -> bool:
        """A live check before a Job is created: whether the API server has Jobs or pods of the run that the cache lacks."""
        changes = 0
        for kind in ("Job", "Pod"):
            objects, _ = await self.api.list(KINDS[kind], run.namespace, f"{RUN_LABEL}={run.name}")
            changes += sum(self.cache.upsert(obj) for obj in objects)
        return changes > 0

    def decide(self, key: Key, now: datetime) -> Decision:
        """The decision on a resource as it is in the cache; an empty one if it is not there."""
        if key.kind == "Procedure" and (procedure := self.cache.procedure_snapshot(key)):
            return decide_procedure(procedure, now)
        if key.kind == "CompileRun" and (run := self.cache.run_snapshot(key)):
            return decide_run(run, self.settings, now)
        if key.kind == "CompiledAgent" and (agent := self.cache.agent_snapshot(key)):
            return decide_agent(agent, self.settings, now)
        return Decision()


def _creates_job(decision: Decision) -> bool:
    return any(write.verb == "create" and write.key.kind == "Job" for write in decision.writes)


def _describe(decision: Decision) -> str:
    """A decision's changes as one log line."""
    changes = [f"{write.verb} {write.key.kind} {write.key.name}" for write in decision.writes]
    changes += [f"delete {obj['kind']} {obj['metadata']['name']}" for obj in decision.deletes]
    status = decision.status or {}
    phase = f"{status.get('phase')} {status.get('progress') or status.get('stage') or ''}".strip()
    return ", ".join([*changes, phase])
