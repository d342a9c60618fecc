"""A heartbeat: an object that is written to the API server and must come back through a watch."""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from subterra_operator.kube.api_client import ApiError, KubernetesApi
from subterra_operator.labels import HEARTBEAT_NAME, HEARTBEAT_TIME, MANAGED_BY, MANAGER

log = logging.getLogger("subterra")

INTERVAL_SECONDS = 20.0


class Heartbeat:
    """Checks that the watches are alive: a watch must deliver every beat that the API server accepts."""

    def __init__(self, api: KubernetesApi, namespace: str, on_silence: Callable[[float], object]) -> None:
        self._api, self._namespace, self._on_silence = api, namespace, on_silence
        self._delivered = 0.0
        """When a watch last delivered a beat."""
        self._undelivered_since: float | None = None
        """When the oldest accepted beat was sent that no watch has delivered, or `None`."""

    @property
    def watch_silence(self) -> float:
        """Seconds for which the API server has accepted beats without any watch delivering one.

        0 while the API server does not respond at all: restarting the operator would not help, and kubelet would back off for
        minutes.
        """
        return 0.0 if self._undelivered_since is None else time.monotonic() - self._undelivered_since

    def delivered(self) -> None:
        """Records that a watch has delivered a beat."""
        self._delivered, self._undelivered_since = time.monotonic(), None

    async def run(self) -> None:
        """Writes a beat every `INTERVAL_SECONDS` until cancelled."""
        while True:
            sent = time.monotonic()
            responds = await self._send()
            if responds and self._undelivered_since is None and self._delivered < sent:
                self._undelivered_since = sent
            self._on_silence(self.watch_silence)
            await asyncio.sleep(INTERVAL_SECONDS)

    async def _send(self) -> bool:
        """Writes one beat; returns whether the API server responds."""
        metadata = {
            "name": HEARTBEAT_NAME,
            "namespace": self._namespace,
            "labels": {MANAGED_BY: MANAGER},
            "annotations": {HEARTBEAT_TIME: datetime.now(UTC).isoformat()},
        }
        try:
            await self._api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
        except ApiError as error:
            log.warning("heartbeat failed: %s", error)
            return 0 < error.code < 500 and error.code != 429
        return True
