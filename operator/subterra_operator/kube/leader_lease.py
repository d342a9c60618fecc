"""The leader's Lease: of several operators with warm caches one acts, and another takes over when it stops renewing.

`Election` knows the rules and no clock: times are seconds of a monotonic clock, which the caller passes in. A candidate counts from
when it *saw* the last renewal, so clocks of two machines are never compared. The holder counts from when it *sent* its renewal, so
it stops before anyone may take over. The algorithm is that of client-go; ADR 014 says why it is not its Python port.
"""

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Protocol

from subterra_operator.kube.api_client import AlreadyExistsError, ApiError, ConflictError, NotFoundError
from subterra_operator.kube.side_by_side import until_first_ends
from subterra_operator.resources import Key, Object
from subterra_operator.settings import LeaseSettings

log = logging.getLogger("subterra")

RELEASE_SECONDS = 2.0
"""How long a stopping operator tries to release the lease; kubelet waits 30 s for it to end."""
MICROTIME = "%Y-%m-%dT%H:%M:%S.%fZ"
FREE: Mapping[str, Any] = {"holderIdentity": ""}
"""Fields of a lease that anyone may take at once."""


class LeaseApi(Protocol):
    """What the lease needs of the API server. Its writes do not pass the fence: they decide it."""

    async def get(self, key: Key) -> Object: ...

    async def create(self, obj: Object) -> Object: ...

    async def replace(self, obj: Object) -> Object: ...


def own_identity() -> str:
    """The pod's name, else host, process and a random part.

    A container that kubelet restarts keeps its pod's name and goes on at once: its predecessor has ended.
    """
    return os.environ.get("POD_NAME") or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


def awake_seconds() -> float:
    """A monotonic clock that also counts the time in which the machine slept, where there is one."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Election:
    """What one candidate knows of the lease, and what follows from it."""

    def __init__(self, identity: str, settings: LeaseSettings) -> None:
        self.identity, self._settings = identity, settings
        self._seen: tuple[Any, ...] | None = None
        self._seen_at = 0.0
        self._free_at = 0.0
        self._renewed_at: float | None = None

    def holds(self, now: float) -> bool:
        """Whether the lease was renewed less than ``renewSeconds`` ago: only then may this operator write."""
        return self.left(now) > 0

    def left(self, now: float) -> float:
        """Seconds for which the lease still holds; 0 if it does not."""
        if self._renewed_at is None:
            return 0.0
        return max(0.0, self._renewed_at + self._settings.renew_seconds - now)

    def may_take(self, spec: Mapping[str, Any], now: float) -> bool:
        """Whether a lease that was read just now is ours, free, or has not been renewed for its duration."""
        mark = (spec.get("holderIdentity"), spec.get("renewTime"), spec.get("leaseTransitions"))
        if mark != self._seen:
            self._seen, self._seen_at = mark, now
        self._free_at = self._seen_at + (spec.get("leaseDurationSeconds") or self._settings.duration_seconds)
        return not spec.get("holderIdentity") or spec["holderIdentity"] == self.identity or now >= self._free_at

    def pause(self, looked_at: float, now: float) -> float:
        """Seconds until a candidate that looked at ``looked_at`` looks again: after its interval, or when the lease is due."""
        next_look = looked_at + self._settings.retry_seconds
        if now < self._free_at:
            next_look = min(next_look, self._free_at)
        return max(0.0, next_look - now)

    def renewal(self, spec: Mapping[str, Any], time_of_day: datetime) -> Object:
        """The lease's spec that takes or renews it. Its times are for readers: nobody decides by them."""
        renewed: Object = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self._settings.duration_seconds,
            "acquireTime": spec.get("acquireTime"),
            "renewTime": time_of_day.strftime(MICROTIME),
            "leaseTransitions": spec.get("leaseTransitions", 0),
        }
        if spec.get("holderIdentity") != self.identity:
            renewed |= {"acquireTime": renewed["renewTime"], "leaseTransitions": renewed["leaseTransitions"] + 1}
        return renewed

    def renewed(self, sent_at: float) -> None:
        """Records a renewal that the API server accepted, by the time at which it was sent."""
        self._renewed_at = sent_at

    def lost(self) -> None:
        """Records that someone else may hold the lease."""
        self._renewed_at = None


class LeaderLease:
    """Takes, renews and releases a Lease object, and runs work while it holds it."""

    def __init__(
        self,
        api: LeaseApi,
        settings: LeaseSettings,
        namespace: str,
        *,
        identity: str | None = None,
        clock: Callable[[], float] = awake_seconds,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._api, self._settings, self._clock, self._sleep = api, settings, clock, sleep
        self._election = Election(identity or own_identity(), settings)
        self._key = Key("Lease", settings.namespace or namespace, settings.name)
        self._lease: Object | None = None
        """The lease as it was last read or written, with its resourceVersion."""
        self._problem = ""

    @property
    def holds(self) -> bool:
        """Whether this operator may write now."""
        return self._election.holds(self._clock())

    async def lead(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs ``work`` whenever the lease is held and cancels it when it is lost, until cancelled. Raises what ``work`` raises."""
        while True:
            looked_at = self._clock()
            while not await self._attempt():
                await self._sleep(self._election.pause(looked_at, self._clock()))
                looked_at = self._clock()
            log.info("%s is held by %s", self._key, self._election.identity)
            await until_first_ends(work(), self._renew())
            log.warning("%s is lost; waiting for it with a warm cache", self._key)

    async def release(self) -> None:
        """Lets the next candidate take the lease at once. Call it when `lead` has ended, so that nothing writes any more."""
        self._election.lost()
        self._lease = None
        with suppress(ApiError, TimeoutError):
            async with asyncio.timeout(RELEASE_SECONDS):
                while not await self._freed(await self._read()):
                    continue

    async def _renew(self) -> None:
        """Renews the lease until it is lost."""
        while self.holds:
            await self._sleep(min(self._settings.retry_seconds, self._election.left(self._clock())))
            if self.holds:
                await self._attempt()

    async def _attempt(self) -> bool:
        """Takes or renews the lease, if it may be; returns whether it did. Ends before the lease does."""
        longest = self._settings.renew_seconds / 2  # after a request that hangs there is time for another
        try:
            async with asyncio.timeout(min(self._election.left(self._clock()) or longest, longest)):
                taken = await self._take()
        except (ApiError, TimeoutError) as error:
            self._lease = None  # it may have changed, also by the request that failed
            faster = isinstance(error, AlreadyExistsError | ConflictError)  # another candidate; the next attempt reads its lease
            answer = error if isinstance(error, ApiError) else "no response in time"
            self._report("" if faster else f"{self._key}: {answer}")
            return False
        self._report("")
        return taken

    async def _take(self) -> bool:
        held = self.holds
        if self._lease is None or not held:  # the holder's copy is the last one unless someone else has written
            self._lease = await self._read()
        spec, sent_at = self._lease.get("spec") or FREE, self._clock()
        if not self._election.may_take(spec, sent_at):
            self._election.lost()
            return False
        wanted = {**self._lease, "spec": self._election.renewal(spec, datetime.now(UTC))}
        exists = "resourceVersion" in self._lease["metadata"]
        self._lease = await (self._api.replace(wanted) if exists else self._api.create(wanted))
        self._election.renewed(sent_at)
        return self.holds

    async def _read(self) -> Object:
        """The lease, or the one to create."""
        try:
            return await self._api.get(self._key)
        except NotFoundError:
            metadata = {"name": self._key.name, "namespace": self._key.namespace}
            return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}

    async def _freed(self, lease: Object) -> bool:
        """Frees a lease that is ours; returns whether nothing is left to do, which a renewal under way may delay."""
        spec = lease.get("spec") or FREE
        if spec.get("holderIdentity") == self._election.identity:
            try:
                await self._api.replace({**lease, "spec": {**spec, **FREE}})
            except ConflictError:
                return False
            log.info("%s is released", self._key)
        return True

    def _report(self, problem: str) -> None:
        """Logs a problem once, not at every attempt."""
        if problem and problem != self._problem:
            log.warning("%s", problem)
        self._problem = problem
