"""The loop: a key from the queue, a snapshot from the store, a decision, its writes."""

import asyncio
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from subterra_api.v1alpha1 import GROUP
from subterra_operator import metrics
from subterra_operator.apply import Applier, ForeignObjectError
from subterra_operator.client import Api, ApiError, ConflictError
from subterra_operator.decide.agent import decide_agent
from subterra_operator.decide.decision import Decision
from subterra_operator.decide.procedure import decide_procedure
from subterra_operator.decide.run import decide_run
from subterra_operator.kinds import KINDS, WATCHED, Key, deleting, key_of
from subterra_operator.progress import Poller
from subterra_operator.queue import KeyQueue
from subterra_operator.settings import Settings
from subterra_operator.store import Store

log = logging.getLogger("subterra")

RESYNC_SECONDS = 300.0
"""Everything is listed and decided anew so often: the safety net under the watches."""
HEARTBEAT = "subterra-operator-heartbeat"
BEAT = f"{GROUP}/beat"
BEAT_SECONDS = 20.0


class Controller:
    """Everything that is alive: store, queue, applier, poller, workers."""

    def __init__(self, settings: Settings, api: Api) -> None:
        self.settings, self.api = settings, api
        self.store = Store()
        self.queue: KeyQueue[Key] = KeyQueue()
        self.applier = Applier(api, self.store, self.wake)
        self.poller = Poller(self.store, self.wake)
        self._versions: dict[tuple[str, str | None], str] = {}
        self._looked = asyncio.Event()
        self.last_beat = time.monotonic()
        """When a heartbeat was last seen to come back through a watch."""

    @property
    def ready(self) -> bool:
        """Whether all kinds have been listed once; before that nothing is decided."""
        return self._looked.is_set()

    async def since(self, kind: str, namespace: str | None) -> str:
        """The resourceVersion from which a watch misses nothing: that of the last list, or of a new one. Raises ApiError."""
        await self._looked.wait()
        if (kind, namespace) not in self._versions:
            await self._relist(kind, namespace)
        return self._versions.pop((kind, namespace))

    def observe(self, event: str | None, obj: Mapping[str, Any]) -> None:
        """Takes an event of a watch: remembers the object and wakes up whom it concerns."""
        if obj["metadata"]["name"] == HEARTBEAT:
            self.last_beat = time.monotonic()
        elif self.store.seen(obj, deleted=event == "DELETED"):
            self.wake(obj)

    def wake(self, obj: Mapping[str, Any]) -> None:
        """Makes everything that this object concerns be decided again."""
        for key in self.store.keys_for(obj):
            self.queue.add(key)

    async def run(self) -> None:
        """Works until cancelled."""
        await self._first_look()
        await self.poller.first()
        async with asyncio.TaskGroup() as group:
            for _ in range(self.settings.workers):
                group.create_task(self._work())
            group.create_task(self.poller.run())
            group.create_task(self._resync())
            group.create_task(self._beat())

    async def _first_look(self) -> None:
        """Lists everything before the first decision: an operator that knows nothing would do everything twice."""
        while not self.ready:
            try:
                await self.resync()
                self._looked.set()
                log.info("all kinds listed: %d objects", sum(len(self.store.keys(kind)) for kind in WATCHED))
            except ApiError as error:
                log.warning("the first look at the cluster failed, trying again: %s", error)
                await asyncio.sleep(2.0)

    async def resync(self) -> None:
        """Lists all kinds, and makes every resource of ours be decided again."""
        for kind in WATCHED:
            for namespace in self.settings.watch_namespaces or (None,):
                await self._relist(kind, namespace)
        for kind in ("Procedure", "CompileRun", "CompiledAgent"):
            for key in self.store.keys(kind):
                self.queue.add(key)

    async def _relist(self, kind: str, namespace: str | None) -> None:
        """Takes over a complete list, and remembers of which version it is."""
        present, version = set(), "0"
        async for page in self.api.pages(KINDS[kind], namespace):
            version = page.version
            for obj in page.items:
                present.add(key_of(obj))
                if self.store.seen(obj):
                    self.wake(obj)
            if not self.ready:
                self.last_beat = time.monotonic()  # a long first look is no silence
        self.store.listed(kind, present, version, namespace)
        self._versions[kind, namespace] = version

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(RESYNC_SECONDS)
            try:
                await self.resync()
            except ApiError as error:
                log.warning("resync failed, trying again in %d s: %s", RESYNC_SECONDS, error)

    async def _beat(self) -> None:
        """Writes a heartbeat; that it comes back through a watch proves that the watches live."""
        while True:
            metadata = {
                "name": HEARTBEAT, "namespace": self.settings.namespace, "labels": {"app.kubernetes.io/managed-by": "subterra"},
                "annotations": {BEAT: datetime.now(UTC).isoformat()},
            }  # fmt: skip
            try:
                await self.api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
            except ApiError as error:
                log.warning("heartbeat failed: %s", error)
            metrics.API_SILENCE.set(time.monotonic() - self.last_beat)
            await asyncio.sleep(BEAT_SECONDS)

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
