"""For tests of the leader's Lease: an API server with one Lease, a clock that moves on request, and candidates."""

import asyncio
import copy
from contextlib import suppress

from subterra_operator.kube.api_client import AlreadyExistsError, ApiError, ConflictError, NotFoundError
from subterra_operator.kube.leader_lease import LeaderLease
from subterra_operator.resources import Key, Object
from subterra_operator.settings import LeaseSettings


class LeaseServer:
    """An API server with one Lease. ``broken``: why it does not respond."""

    def __init__(self) -> None:
        self.lease: Object | None = None
        self.broken: Exception | None = None
        self.loses_replies = False
        self.writes = 0

    async def get(self, key: Key) -> Object:
        self._respond()
        if self.lease is None:
            raise NotFoundError(404, "NotFound", f"{key} not found")
        return copy.deepcopy(self.lease)

    async def create(self, obj: Object) -> Object:
        self._respond()
        if self.lease is not None:
            raise AlreadyExistsError(409, "AlreadyExists", "exists")
        return self._store(obj)

    async def replace(self, obj: Object) -> Object:
        self._respond()
        if self.lease is None:
            raise NotFoundError(404, "NotFound", "not found")
        if obj["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise ConflictError(409, "Conflict", "changed")
        return self._store(obj)

    @property
    def holder(self) -> str | None:
        return None if self.lease is None else self.lease["spec"]["holderIdentity"]

    def _respond(self) -> None:
        if self.broken is not None:
            raise self.broken

    def _store(self, obj: Object) -> Object:
        self.writes += 1
        self.lease = copy.deepcopy(obj)
        self.lease["metadata"]["resourceVersion"] = str(self.writes)
        if self.loses_replies:
            raise ApiError(0, "Unreachable", "the API server does not answer")
        return copy.deepcopy(self.lease)


class SteppedClock:
    """Sleepers wake in the order of their times when `advance` is called."""

    def __init__(self) -> None:
        self.now = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        waker = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + seconds, waker))
        await waker

    async def advance(self, seconds: float, *, asleep: bool = False) -> None:
        """Lets time pass; with ``asleep`` nobody wakes before the end, as in a stopped process."""
        until = self.now + seconds
        await settled()
        while due := min((entry for entry in self._sleepers if entry[0] <= until), key=lambda entry: entry[0], default=None):
            self._sleepers.remove(due)
            self.now = until if asleep else max(self.now, due[0])
            if not due[1].done():
                due[1].set_result(None)
            await settled()
        self.now = until


async def settled() -> None:
    """Lets every task run until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


class Candidate:
    """An operator that leads while it may. ``working``: whether its work runs now."""

    def __init__(self, server: LeaseServer, clock: SteppedClock, identity: str) -> None:
        self.lease = LeaderLease(server, LeaseSettings(), "system", identity=identity, clock=clock, sleep=clock.sleep)
        self.terms, self.working = 0, False
        self.task = asyncio.ensure_future(self.lease.lead(self._work))

    async def _work(self) -> None:
        self.terms, self.working = self.terms + 1, True
        try:
            await asyncio.Event().wait()
        finally:
            self.working = False

    async def die(self) -> None:
        """Ends without a word."""
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task

    async def stop(self) -> None:
        """Ends as at SIGTERM."""
        await self.die()
        await self.lease.release()
