"""A heartbeat object that is written to the API server and must come back through a watch."""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from subterra_operator.kube.client import Api, ApiError
from subterra_operator.labels import BEAT, MANAGED_BY, MANAGER

log = logging.getLogger("subterra")

HEARTBEAT = "subterra-operator-heartbeat"
BEAT_SECONDS = 20.0


class Heartbeat:
    """Proves that the watches are alive: a beat that the API server accepts must be seen by a watch."""

    def __init__(self, api: Api, namespace: str, on_silence: Callable[[float], object]) -> None:
        self._api, self._namespace, self._on_silence = api, namespace, on_silence
        self._seen = 0.0
        """When a beat last came back through a watch."""
        self._unseen_since: float | None = None
        """When the first beat was sent that the API server accepted and that has not come back."""

    @property
    def silence(self) -> float:
        """Seconds for which the API server has accepted beats while none came back through a watch.

        It is 0 while the API server does not answer at all: a fresh operator would be no better, and kubelet would back off for
        minutes.
        """
        return 0.0 if self._unseen_since is None else time.monotonic() - self._unseen_since

    def came_back(self) -> None:
        """Records that a beat was seen through a watch."""
        self._seen, self._unseen_since = time.monotonic(), None

    async def run(self) -> None:
        """Writes a beat every `BEAT_SECONDS` until cancelled."""
        while True:
            sent = time.monotonic()
            answered = await self._send()
            if answered and self._unseen_since is None and self._seen < sent:
                self._unseen_since = sent
            self._on_silence(self.silence)
            await asyncio.sleep(BEAT_SECONDS)

    async def _send(self) -> bool:
        """Writes one beat; returns whether the API server is able to answer."""
        metadata = {
            "name": HEARTBEAT,
            "namespace": self._namespace,
            "labels": {MANAGED_BY: MANAGER},
            "annotations": {BEAT: datetime.now(UTC).isoformat()},
        }
        try:
            await self._api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
        except ApiError as error:
            log.warning("heartbeat failed: %s", error)
            return 0 < error.code < 500 and error.code != 429
        return True
