"""Reads Events, and Workloads of Kueue, about objects whose status does not say what is wrong.

On demand: a watch of all Events would be a flood.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable

from subterra_operator.kube.api_client import ApiError, KubernetesApi
from subterra_operator.kube.cache import ObjectCache
from subterra_operator.kube.workload_reader import read_workload
from subterra_operator.resources import Key, Object
from subterra_operator.snapshot import Warned

log = logging.getLogger("subterra")

EVERY_SECONDS = 25.0
"""Minimum time between two lists about one object."""
WINDOW_SECONDS = 10.0
MAX_LISTS = 20
"""Maximum number of lists within `WINDOW_SECONDS`; what comes too early is skipped and asked for again later."""
KEPT = 5
"""Warnings that are kept of an object."""


class EventReader:
    """Keeps the warnings and Workloads that decisions ask for in the cache."""

    def __init__(self, api: KubernetesApi, cache: ObjectCache, clock: Callable[[], float] = time.monotonic) -> None:
        self._api, self._cache, self._clock = api, cache, clock
        self._read_at: dict[Key, float] = {}
        self._recent: deque[float] = deque(maxlen=MAX_LISTS)
        """Times of the latest lists."""

    async def read(self, keys: Iterable[Key]) -> bool:
        """Reads what is due; returns whether there was anything new. Errors are logged: Events only explain."""
        now = self._clock()
        self._read_at = {key: at for key, at in self._read_at.items() if now - at < EVERY_SECONDS}
        changed = False
        for key in dict.fromkeys(keys):
            if key in self._read_at or self._is_flooded(now):
                continue
            self._read_at[key] = now
            self._recent.append(now)
            try:
                changed |= await self._read(key)
            except ApiError as error:
                log.warning("Events about %s: %s", key, error)
        return changed

    async def _read(self, key: Key) -> bool:
        if key.kind != "Workload":
            return self._remember(key, await self._api.warnings(key))
        found, known = await read_workload(self._api, key), self._cache.workloads[key.namespace]
        changed = known.get(key.name) != found
        known[key.name] = found
        return changed

    def _is_flooded(self, now: float) -> bool:
        return len(self._recent) == MAX_LISTS and now - self._recent[0] < WINDOW_SECONDS

    def _remember(self, key: Key, events: Iterable[Object]) -> bool:
        newest = sorted(events, key=_time, reverse=True)[:KEPT]
        warnings = tuple(Warned(event.get("reason") or "", event.get("message") or "") for event in newest)
        known = self._cache.events[key.namespace]
        if known.get(key, ()) == warnings:
            return False
        known[key] = warnings
        return True


def _time(event: Object) -> str:
    """When an Event last happened; its sources record that in different fields."""
    last = (event.get("series") or {}).get("lastObservedTime") or event.get("lastTimestamp")
    return str(last or event.get("eventTime") or event["metadata"]["creationTimestamp"])
