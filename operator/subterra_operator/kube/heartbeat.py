"""A heartbeat: an object that the leader writes and that must come back through the watches of every operator."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from subterra_operator.kube.api_client import ApiError, KubernetesApi, NotFoundError
from subterra_operator.labels import HEARTBEAT_NAME, HEARTBEAT_TIME, MANAGED_BY, MANAGER
from subterra_operator.resources import Key, Object

log = logging.getLogger("subterra")

INTERVAL_SECONDS = 20.0


def is_heartbeat(key: Key) -> bool:
    """Whether an object is a heartbeat, of this or of another operator, rather than a namesake of another kind."""
    return (key.kind, key.name) == ("ConfigMap", HEARTBEAT_NAME)


class Heartbeat:
    """Checks that the watches are alive: a watch must deliver every beat that the API server has.

    An operator that does not lead writes nothing: it reads the leader's beat instead.
    """

    def __init__(
        self, api: KubernetesApi, namespace: str, on_silence: Callable[[float], object], leads: Callable[[], bool]
    ) -> None:
        self._api, self.namespace, self._on_silence, self._leads = api, namespace, on_silence, leads
        self._key = Key("ConfigMap", namespace, HEARTBEAT_NAME)
        self._delivered = 0
        """The resourceVersion of the latest beat that a watch delivered."""
        self._latest: int | None = None
        """The resourceVersion of the beat that the API server had last."""
        self._undelivered_since: float | None = None
        """When the oldest beat was found that no watch has delivered, or `None`."""

    @property
    def watch_silence(self) -> float:
        """Seconds for which the API server has had beats without any watch delivering one.

        0 while the API server does not respond at all: restarting the operator would not help, and kubelet would back off for
        minutes.
        """
        return 0.0 if self._undelivered_since is None else time.monotonic() - self._undelivered_since

    def delivered(self, beat: Mapping[str, Any]) -> None:
        """Records that a watch has delivered a beat."""
        self._delivered, self._undelivered_since = max(self._delivered, _version(beat)), None

    async def run(self) -> None:
        """Writes or reads a beat every `INTERVAL_SECONDS` until cancelled."""
        while True:
            await self.beat()
            self._on_silence(self.watch_silence)
            await asyncio.sleep(INTERVAL_SECONDS)

    async def beat(self) -> None:
        """Writes a beat, or reads the leader's, and compares it with what the watches delivered."""
        asked_at, leads = time.monotonic(), self._leads()
        try:
            latest = _version(await (self._send() if leads else self._read()))
        except ApiError as error:
            self._failed(error, leads, asked_at)
            return
        is_new, self._latest = leads or self._latest not in (None, latest), latest
        if not is_new:
            self._undelivered_since = None  # nothing was there to deliver
        elif self._delivered < latest:
            self._undelivered_since = self._undelivered_since or asked_at

    def _failed(self, error: ApiError, leads: bool, asked_at: float) -> None:
        """An API server that refuses responds, so silence counts; nothing is there to read before anyone has led."""
        if isinstance(error, NotFoundError) and not leads:
            return
        log.warning("heartbeat failed: %s", error)
        if 0 < error.code < 500 and error.code != 429:
            self._undelivered_since = self._undelivered_since or asked_at

    async def _send(self) -> Object:
        metadata = {
            "name": HEARTBEAT_NAME,
            "namespace": self.namespace,
            "labels": {MANAGED_BY: MANAGER},
            "annotations": {HEARTBEAT_TIME: datetime.now(UTC).isoformat()},
        }
        return await self._api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})

    async def _read(self) -> Object:
        return await self._api.get(self._key)


def _version(beat: Mapping[str, Any]) -> int:
    return int(beat["metadata"]["resourceVersion"])
