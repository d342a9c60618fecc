"""Lease in the store: one job at a time works on an artifact, whichever run it belongs to.

Terms are numbered, and each is a file. The job that creates the next number holds the lease. Creation is exclusive, and no job
writes another one's file. The holder rewrites its file as long as it lives. Once a term is marked as ended, or has not changed for
a while by the waiter's own clock, the next one may begin: the clocks of two machines are never compared.
"""

import json
import logging
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath

from subterra_jobs.errors import InfrastructureError
from subterra_jobs.store.artifact_store import ArtifactStore

log = logging.getLogger("subterra")

POLL_SECONDS = 2.0
"""Interval at which a waiter reads the latest term."""
RENEW_SECONDS = 10.0
STALE_SECONDS = 60.0
"""A holder that has not renewed its term for this long is considered dead."""
GIVE_UP_SECONDS = 40.0
"""A holder that could not renew its term for this long gives up, before waiters consider it dead."""


@dataclass(frozen=True)
class Lease:
    """One term of work on an artifact. Can be passed to other processes of the stage."""

    store: ArtifactStore
    folder: str
    number: int
    holder: str
    token: str

    @property
    def path(self) -> str:
        """File of the term."""
        return _term_path(self.folder, self.number)

    def content(self, beat: int, *, ended: bool = False) -> bytes:
        """Content of the term's file."""
        return json.dumps({"holder": self.holder, "token": self.token, "beat": beat, "ended": ended}).encode()

    def check(self) -> None:
        """Raises InfrastructureError when another job has taken over."""
        if self.store.read(_term_path(self.folder, self.number + 1)) is not None:
            raise InfrastructureError(
                "another job has taken over the work on this artifact, because this one did not renew its lease; "
                "the next attempt reuses what it makes"
            )


@dataclass(frozen=True)
class _Term:
    """The latest term as a waiter sees it."""

    number: int
    content: bytes

    def field(self, key: str) -> object:
        try:
            return json.loads(self.content).get(key)
        except ValueError:
            return None  # its holder died, or is about to write


def acquire(
    store: ArtifactStore,
    folder: str,
    holder: str,
    *,
    done: Callable[[], bool],
    report: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Lease | None:
    """Waits for the lease; `None` as soon as `done` returns True, because there is nothing left to do."""
    latest, since = _latest_term(store, folder), clock()
    while not done():
        if latest is None or latest.field("ended") or clock() - since >= STALE_SECONDS:
            lease = Lease(store, folder, latest.number + 1 if latest else 1, holder, uuid.uuid4().hex)
            if store.create(lease.path, lease.content(0)):
                if not done():  # it may have been finished between the two checks
                    return lease
                release(lease)
                return None
        else:
            report(f"waiting for run {latest.field('holder') or '(unknown)'}, which is working on the same artifact")
            sleep(POLL_SECONDS)
        if (newer := _latest_term(store, folder)) != latest:
            latest, since = newer, clock()
    return None


def release(lease: Lease) -> None:
    """Lets the next waiter in at once."""
    try:
        lease.store.put(lease.path, lease.content(0, ended=True))
    except OSError as error:
        log.warning("the stage lease could not be released, so the next job waits %.0f s: %s", STALE_SECONDS, error)


class Heartbeat:
    """Renews a lease."""

    def __init__(self, lease: Lease, clock: Callable[[], float] = time.monotonic) -> None:
        self._lease, self._clock = lease, clock
        self._beats, self._renewed_at = 0, clock()

    def renew(self) -> None:
        """Renews once. Raises InfrastructureError when the lease is lost, or may be because the store does not respond."""
        try:
            self._lease.check()
            self._lease.store.put(self._lease.path, self._lease.content(self._beats + 1))
        except InfrastructureError:
            raise
        except Exception as error:  # object stores raise many types
            if self._clock() - self._renewed_at >= GIVE_UP_SECONDS:
                raise InfrastructureError(
                    f"the artifact store has not responded for {GIVE_UP_SECONDS:.0f} s ({error}), so another job may take over the "
                    "work on this artifact; check the store"
                ) from None
            log.warning("the stage lease could not be renewed: %s", error)
            return
        self._beats, self._renewed_at = self._beats + 1, self._clock()


@contextmanager
def keep_renewed(lease: Lease, every: float = RENEW_SECONDS) -> Iterator[None]:
    """Renews the lease in the background and releases it at the end.

    When it is lost, the process gets SIGTERM, which `stage.runner.main` handles, and the block ends with InfrastructureError.
    """
    heartbeat, ending, lost = Heartbeat(lease), threading.Event(), list[InfrastructureError]()

    def run() -> None:
        while not ending.wait(every):
            try:
                heartbeat.renew()
            except InfrastructureError as error:
                log.error("%s", error)
                lost.append(error)
                os.kill(os.getpid(), signal.SIGTERM)  # ends engines as a suspension does
                return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        if lost:
            raise lost[0] from None
        raise
    finally:
        ending.set()
        thread.join()
        if not lost:
            release(lease)


def _term_path(folder: str, number: int) -> str:
    return f"{folder}/{number:06d}.json"


def _latest_term(store: ArtifactStore, folder: str) -> _Term | None:
    paths = [path for path in store.sizes(folder) if path.endswith(".json")]
    if not paths:
        return None
    newest = max(paths)
    return _Term(int(PurePosixPath(newest).stem), store.read(newest) or b"")
