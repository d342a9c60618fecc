"""A census: which objects exist and in which version, compared with what kopf has delivered.

kopf does not report what was deleted before a list that follows a 410, silently omits a kind whose discovery returned 404, and
does not notice a watch that has gone deaf or an etcd that was restored from a backup. The first census also decides when the
operator may start: an incomplete cache would recreate existing objects.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from subterra_operator.controller import Controller
from subterra_operator.kube.api_client import ApiError, KubernetesApi
from subterra_operator.kube.heartbeat import is_heartbeat
from subterra_operator.resources import KINDS, OPTIONAL, WATCHED, Key, Version

log = logging.getLogger("subterra")

INTERVAL_SECONDS = 120.0
"""Shortest interval at which all kinds are counted."""
OBJECTS_PER_SECOND = 40
"""Objects that are counted per second at most, on average: a larger cluster is counted less often, so that it costs no more."""
HINT_SECONDS = 5.0
"""How long after a hint, such as a new stream, its kind is counted; also the pause after a failed census."""
STEP_SECONDS = 0.25
PATIENCE_STEPS = 60
"""Steps without progress after which an event that must come is lost. Steps, not seconds: a starved process is no deaf one."""
DEAF_SECONDS = 40.0
"""Heartbeat silence after which all watches are started again. Liveness fails later."""
FLOOD_STREAMS = 50
FLOOD_SECONDS = 10.0
"""So many streams of a kind and namespace in this time are a flood: kopf does not pause when the server ends each at once."""
Sleep = Callable[[float], Awaitable[object]]


class StaleWatchError(Exception):
    """What kopf has delivered differs from what exists: all watches must start again, with an empty cache."""


@dataclass(frozen=True)
class Count:
    """A list of a kind's objects, and what the cache held just before it was requested.

    The list is newer than ``held``, whatever the resourceVersions say: after a restore from a backup they are lower.
    """

    held: Mapping[Key, Version]
    deleted: Collection[str]
    """UIDs that the cache knew as deleted before the list was requested."""
    listed: Mapping[Key, Version]

    @property
    def gone(self) -> list[Key]:
        """Objects of the cache that no longer exist."""
        return [key for key, version in self.held.items() if key not in self.listed or self.listed[key].uid != version.uid]

    def late(self, held_now: Mapping[Key, Version], deleted_now: Collection[str]) -> set[Key]:
        """Objects that the cache lacks or has in another version, unchanged since the list was requested.

        An event for each of them is under way, or lost.
        """
        remaining = {key: self.held[key] for key in self.held.keys() - self.gone}
        differing = {key for key, version in self.listed.items() if remaining.get(key) != version}
        deleted_since = {key for key in differing if (uid := self.listed[key].uid) in deleted_now and uid not in self.deleted}
        return {key for key in differing - deleted_since if held_now.get(key) == remaining.get(key)}


Place = tuple[str, str | None]
"""A kind and a namespace, `None` for all."""


class Census:
    """Counts at the start, after hints, and at intervals."""

    def __init__(self, controller: Controller, api: KubernetesApi, sleep: Sleep = asyncio.sleep) -> None:
        self._controller, self._api, self._sleep = controller, api, sleep
        self._namespaces: tuple[str | None, ...] = controller.settings.watch_namespaces or (None,)
        self._begun: set[str] = set()
        self._hints: set[str] = set()
        self._hinted = asyncio.Event()
        self._numbers: dict[Place, int] = {}
        streams = FLOOD_STREAMS * len(self._namespaces)
        self._streams = {kind: deque[float](maxlen=streams) for kind in WATCHED}

    def watch_begins(self, kind: str) -> None:
        """Notes that kopf is about to list or watch a kind: after any gap in a watch it does."""
        self._streams[kind].append(time.monotonic())
        self._begun.add(kind)
        self._hints.add(kind)
        self._hinted.set()

    async def run(self) -> NoReturn:
        """Counts until cancelled. Raises StaleWatchError."""
        await self._first()
        self._hints.clear()
        self._hinted.clear()
        self._controller.begin()
        await self._repeat()

    async def listen(self) -> NoReturn:
        """Checks heartbeat and streams until cancelled. Raises StaleWatchError when watches are silent or end at once."""
        began = time.monotonic()
        while True:
            await self._sleep(HINT_SECONDS)
            began = began if self._controller.ready else time.monotonic()
            silence = min(self._controller.heartbeat.watch_silence, time.monotonic() - began)
            if silence > DEAF_SECONDS:
                raise StaleWatchError(f"no watch has delivered a heartbeat for {silence:.0f} s although the API server responds")
            for kind, begins in self._streams.items():
                if len(begins) == begins.maxlen and begins[-1] - begins[0] < FLOOD_SECONDS:
                    raise StaleWatchError(f"the API server ends each watch of kind {kind} at once")

    async def _first(self) -> None:
        while True:
            try:
                counts = await self._counts(WATCHED)
            except ApiError as error:
                log.warning("cannot list what exists: %s; trying again in %.0f s", error, HINT_SECONDS)
                await self._sleep(HINT_SECONDS)
            else:
                await self._settle(counts)
                return

    async def _repeat(self) -> NoReturn:
        last = time.monotonic()
        while True:
            due = last + self._interval
            await self._next(due)
            kinds = WATCHED if time.monotonic() >= due else tuple(self._hints)
            self._hints.clear()
            self._hinted.clear()
            try:
                await self._settle(await self._counts(kinds))
            except ApiError as error:
                log.info("census: %s", error)
                self._hints.update(kinds)
                self._hinted.set()
            else:
                last = time.monotonic() if kinds is WATCHED else last

    @property
    def _interval(self) -> float:
        return max(INTERVAL_SECONDS, self._controller.cache.size / OBJECTS_PER_SECOND)

    async def _next(self, due: float) -> None:
        """Waits until a census is due at that time, or `HINT_SECONDS` after a hint."""
        try:
            async with asyncio.timeout(max(0.0, due - time.monotonic())):
                await self._hinted.wait()
        except TimeoutError:
            return
        await self._sleep(HINT_SECONDS)

    async def _counts(self, kinds: Iterable[str]) -> dict[Place, Count]:
        """Counts these kinds in all namespaces. Raises ApiError, StaleWatchError.

        A kind that the cluster lacks is left out. Once it is there, the watch that kopf never began ends this life.
        """
        counts = dict[Place, Count]()
        for place in ((kind, namespace) for kind in kinds for namespace in self._namespaces):
            try:
                counts[place] = await self._count(place)
            except ApiError as error:
                if place[0] not in OPTIONAL or error.code not in (403, 404):
                    raise
                self._controller.cache.absent_kinds.add(place[0])
            else:
                self._controller.cache.absent_kinds.discard(place[0])
        return counts

    async def _count(self, place: Place) -> Count:
        cache, (kind, namespace) = self._controller.cache, place
        held, deleted = cache.versions(kind, namespace), cache.deleted_uids
        listed, number = await self._api.versions(KINDS[kind], namespace)
        if number < self._numbers.get(place, 0):
            before = self._numbers[place]
            raise StaleWatchError(
                f"{kind}: resourceVersion {number} after {before}: the API server's data was restored from a backup"
            )
        self._numbers[place] = number
        return Count(held, deleted, {key: version for key, version in listed.items() if not is_heartbeat(key)})

    async def _settle(self, counts: Mapping[Place, Count]) -> None:
        """Forgets what is gone, and waits until everything that was counted has been delivered. Raises StaleWatchError."""
        for count in counts.values():
            for key in count.gone:
                self._forget(key, count.held[key].uid)
        before, steps = set[str](), 0
        while missing := self._missing(counts):
            steps = 0 if missing != before else steps + 1
            before = missing
            if steps > PATIENCE_STEPS:
                raise StaleWatchError(f"not delivered by any watch: {_some(missing)}")
            await self._sleep(STEP_SECONDS)

    def _missing(self, counts: Mapping[Place, Count]) -> set[str]:
        """Objects that were not delivered, and kinds that kopf has not begun to watch."""
        cache = self._controller.cache
        missing = {f"all of kind {kind}" for kind, _ in counts if kind not in self._begun}
        for (kind, namespace), count in counts.items():
            missing |= {str(key) for key in count.late(cache.versions(kind, namespace), cache.deleted_uids)}
        return missing

    def _forget(self, key: Key, uid: str) -> None:
        obj = self._controller.cache.get(key)
        if obj and obj["metadata"]["uid"] == uid:
            log.info("%s was deleted while it was not watched", key)
            self._controller.handle_event("DELETED", obj)


def _some(names: Collection[str]) -> str:
    """The first names, and how many there are besides."""
    first = ", ".join(sorted(names)[:3])
    return first + (f" and {len(names) - 3} more" if len(names) > 3 else "")
