"""The reconcile loop: take a key from the queue and a snapshot from the cache, decide, apply the decision."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from subterra_core.procedure.calls.called import called_names_in
from subterra_operator.decide.agent.agent import decide_agent
from subterra_operator.decide.decision import Decision
from subterra_operator.decide.procedure import decide_procedure
from subterra_operator.decide.procedure_check import check_request
from subterra_operator.decide.run.run import decide_run
from subterra_operator.kube.api_client import ApiError, ConflictError, KubernetesApi
from subterra_operator.kube.apply import Applier, RefusedError
from subterra_operator.kube.cache import ObjectCache
from subterra_operator.kube.event_reader import EventReader
from subterra_operator.kube.event_recorder import EventRecorder
from subterra_operator.kube.heartbeat import Heartbeat, is_heartbeat
from subterra_operator.kube.leader_lease import LeaderLease
from subterra_operator.labels import RUN_LABEL
from subterra_operator.monitoring import metrics, model_metrics
from subterra_operator.monitoring.pod_poller import PodPoller
from subterra_operator.resources import JOB_KINDS, KINDS, RECONCILED, WATCHED, Key, Version, is_deleting, key_of
from subterra_operator.settings import Settings
from subterra_operator.snapshot import ProcedureSnapshot, Refusal, RunSnapshot, Snapshot
from subterra_operator.work.check_process import ProcedureChecker
from subterra_operator.work.turns import Turns
from subterra_operator.work.work_queue import KeyQueue

log = logging.getLogger("subterra")

Clock = Callable[[], datetime]
RESYNC_SECONDS = 300.0
"""Interval at which every resource is reconciled."""
REFUSED_RETRY_SECONDS = 30.0
"""Longest pause before a refused write is tried again: nothing tells the operator when a quota or a policy changes."""
EDITED_RETRY_SECONDS = 0.2
"""Pause after a refusal of what has been edited meanwhile."""


def utc_now() -> datetime:
    """The current time."""
    return datetime.now(UTC)


class Controller:
    """Cache, queue, applier, poller and workers.

    Every operator keeps its cache warm. Only the holder of the lease decides, writes and polls pods.
    """

    def __init__(
        self, settings: Settings, api: KubernetesApi, heartbeat: Heartbeat, lease: LeaderLease, clock: Clock = utc_now
    ) -> None:
        self.settings, self.api, self.lease, self._clock = settings, api, lease, clock
        self.cache = ObjectCache()
        self.queue = self._new_queue()
        self.recorder = EventRecorder(api)
        self.applier = Applier(api, self.cache, self.enqueue, self.recorder.status_written)
        self._turns = Turns()
        self.poller = PodPoller(self.cache, self.enqueue_key, settings.pools, settings.prices, self._turns)
        self.checker = ProcedureChecker()
        self.events = EventReader(api, self.cache)
        self.heartbeat = heartbeat
        self._ready = asyncio.Event()
        self._settled: dict[Key, tuple[Version, ...]] = {}
        """Procedures without calls, and runs with a verdict, with the versions of all that they own, on which the last decision
        changed nothing. No other decision depends on these alone."""

    @property
    def ready(self) -> bool:
        """Whether the cache has everything that exists.

        Until then no reconcile runs, because an incomplete cache would recreate existing objects.
        """
        return self._ready.is_set()

    def begin(self) -> None:
        """Starts to reconcile: the cache is complete."""
        self._ready.set()

    def handle_event(self, event: str | None, obj: Mapping[str, Any]) -> None:
        """Updates the cache and enqueues the affected resources. ``event`` is a watch event's type, `None` for a listed object."""
        if is_heartbeat(key_of(obj)):
            # A list does not prove that watches deliver.
            if event is not None and obj["metadata"]["namespace"] == self.heartbeat.namespace:
                self.heartbeat.delivered(obj)
        elif event == "DELETED":
            if self.cache.remove(obj):
                self.enqueue(obj)
        else:
            edited = self._is_edited(obj)
            if self.cache.upsert(obj):
                self.enqueue(obj, edited=edited)

    def enqueue(self, obj: Mapping[str, Any], *, edited: bool = False) -> None:
        """Enqueues all resources that this object affects; once it is ``edited`` they wait for no backoff of what it was."""
        for key in self.cache.affected_keys(obj):
            if edited:
                self.queue.forget_failures(key)
            self.queue.add(key)

    def _is_edited(self, obj: Mapping[str, Any]) -> bool:
        """Whether somebody has made or edited a resource. What the operator itself writes is in the cache before its event."""
        key = key_of(obj)
        if key.kind not in RECONCILED:
            return False
        known = self.cache.get(key)
        return known is None or _user_edits(known) != _user_edits(obj)

    def enqueue_key(self, key: Key) -> None:
        """Enqueues one resource."""
        self.queue.add(key)

    async def run(self) -> None:
        """Runs until cancelled."""
        await self._ready.wait()
        log.info("ready: %d objects", sum(len(self.cache.keys(kind)) for kind in WATCHED))
        await self.lease.lead(self._lead)

    async def _lead(self) -> None:
        """Decides and writes until cancelled. Begins from the cache, whatever an earlier term left undone."""
        self.queue = self._new_queue()
        self.applier = Applier(self.api, self.cache, self.enqueue, self.recorder.status_written)
        self._settled = {key: known for key, known in self._settled.items() if key.kind == "Procedure"}  # runs have metrics
        self._enqueue_all()
        try:
            await self.poller.poll_once()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._resync())
                for _ in range(self.settings.workers):
                    group.create_task(self._work())
                group.create_task(self.poller.run())
                group.create_task(self.recorder.run())
                group.create_task(self.checker.run())
        finally:
            metrics.remove_all()  # the next leader reports them

    def _new_queue(self) -> KeyQueue[Key]:
        return KeyQueue(tenant=lambda key: key.namespace)

    def _enqueue_all(self) -> None:
        for kind in RECONCILED:
            for key in self.cache.keys(kind):
                if self._is_settled(key):
                    metrics.record_check(key, self._clock())
                else:
                    self.queue.add(key)

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(RESYNC_SECONDS)
            self._enqueue_all()

    def _is_settled(self, key: Key) -> bool:
        """Whether a decision on these very objects changed nothing: it would again, whatever else has changed."""
        return key in self._settled and self._settled[key] == self.cache.versions_of_owned(key)

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            metrics.QUEUE_KEYS.set(len(self.queue))
            metrics.QUEUE_OVERDUE.set(self.queue.overdue_seconds)
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
        refused = isinstance(error, RefusedError)
        delay = self.queue.retry_later(key, REFUSED_RETRY_SECONDS) if refused else self.queue.retry_later(key)
        result = "conflict" if isinstance(error, ConflictError) else "refused" if refused else "error"
        metrics.RECONCILES.labels(key.kind, result).inc()
        if isinstance(error, ConflictError):
            log.debug("%s: %s", key, error)
        elif isinstance(error, ApiError | RefusedError):
            log.warning("%s: %s; retrying in %.1f s", key, error, delay)
        else:
            log.exception("%s: unexpected error; retrying in %.1f s", key, delay)

    async def reconcile(self, key: Key) -> float | None:
        """Decides on one resource and applies the decision; returns the seconds until the next reconcile, if one is due."""
        async with self._turns.turn():
            request = self._check_request(key)
        if request:
            await self.checker.check(request)
        async with self._turns.turn():
            snapshot, now = self.cache.snapshot(key), self._clock()
            if snapshot is None or is_deleting(snapshot.subject):
                self._settled.pop(key, None)
                metrics.remove(key)
                return None
            subject, decision = snapshot.subject, decide(snapshot, self.settings, now)
            versions = self.cache.versions_of_owned(key)
        if _creates_job(decision) and await self._cache_is_stale(key):
            return 0.0
        try:
            changes = await self.applier.apply(subject, decision)
        except RefusedError as error:
            if await self._report_refusal(key, error.refusal, subject):
                raise
            return EDITED_RETRY_SECONDS
        if changes:
            log.info("%s: %s", key, _describe(changes, decision.status or {}))
        elif _depends_on_its_own(key, subject, decision):
            self._settled[key] = versions
        metrics.record_status(key, decision.status or {}, subject, now)
        if key.kind == "CompiledAgent":
            model_metrics.record_retirements(key, subject, now.date())
        if decision.lookups and await self.events.read(decision.lookups):
            self.queue.add(key)
        return decision.recheck_after

    def _check_request(self, key: Key) -> bytes | None:
        """What has to be checked before the decision on a resource."""
        procedure = self.cache.procedure_to_check(key)
        if procedure is None:
            return None
        return check_request(procedure["spec"], self.cache.called_procedures(procedure), procedure["metadata"]["name"])

    async def _report_refusal(self, key: Key, refusal: Refusal, subject: Mapping[str, Any]) -> bool:
        """Writes the status that names the refusal; returns False instead if ``subject`` has been edited since."""
        latest = self.cache.get(key)
        if latest is None or is_deleting(latest) or _user_edits(latest) != _user_edits(subject):
            return False
        snapshot = self.cache.snapshot(key)
        status = decide(snapshot, self.settings, self._clock(), refusal).status if snapshot else None
        try:
            await self.applier.write_status(latest, status)
        except ConflictError:
            return False
        metrics.record_status(key, status or {}, latest, self._clock())
        return True

    async def _cache_is_stale(self, run: Key) -> bool:
        """A live check before a Job is created: whether the API server has Jobs or pods of the run that the cache lacks."""
        changes = 0
        for kind in (*JOB_KINDS, "Pod"):
            if kind in self.cache.absent_kinds:
                continue
            objects, _ = await self.api.list(KINDS[kind], run.namespace, f"{RUN_LABEL}={run.name}")
            changes += sum(self.cache.upsert(obj) for obj in objects)
        return changes > 0


def decide(snapshot: Snapshot, settings: Settings, now: datetime, refusal: Refusal | None = None) -> Decision:
    """The decision on a resource; with a ``refusal`` only its status counts."""
    if isinstance(snapshot, ProcedureSnapshot):
        return decide_procedure(snapshot, now)
    if isinstance(snapshot, RunSnapshot):
        blocks = None if refusal and refusal.of_deletion else refusal  # what a run leaves behind says nothing about its result
        return decide_run(replace(snapshot, refusal=blocks), settings, now)
    return decide_agent(replace(snapshot, refusal=refusal), settings, now)


def _user_edits(subject: Mapping[str, Any]) -> tuple[Any, Any]:
    """What changes when somebody edits a resource: the generation of its spec, and its annotations."""
    return subject["metadata"].get("generation"), subject["metadata"].get("annotations")


def _depends_on_its_own(key: Key, subject: Mapping[str, Any], decision: Decision) -> bool:
    """Whether the next decision can only change with the resource and what it owns: neither with time, nor with others."""
    if key.kind == "Procedure":
        return not called_names_in(subject["spec"])
    if key.kind != "CompileRun" or subject["spec"].get("reevaluates") or decision.recheck_after is not None or decision.lookups:
        return False
    return bool((decision.status or {}).get("verdict"))


def _creates_job(decision: Decision) -> bool:
    return any(write.verb == "create" and write.key.kind in JOB_KINDS for write in decision.writes)


def _describe(changes: Sequence[str], status: Mapping[str, Any]) -> str:
    """What was written, and the phase, as one log line."""
    phase = f"{status.get('phase', '')} {status.get('progress') or status.get('stage') or ''}".strip()
    return ", ".join(filter(None, (*changes, phase)))
