"""Who works on an artifact: one job at a time, of whatever run, by a lease in the store.

Turns are numbered, each is a file. Whoever creates the next number holds the lease; there is only exclusive creation, and nobody
writes what another has made. The holder rewrites its own file as long as it lives. A turn that says that it ended, or does not
change for a while by the waiter's own clock, may be followed by the next: clocks of two machines are never compared.
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
from subterra_jobs.store.artifacts import ArtifactStore

log = logging.getLogger("subterra")

LOOK_SECONDS = 2.0
"""How often a waiter looks."""
BEAT_SECONDS = 10.0
STALE_SECONDS = 60.0
"""A holder that has not renewed its turn for so long is taken for dead."""
GIVE_UP_SECONDS = 40.0
"""A holder that could not renew its turn for so long gives up, before a waiter takes it for dead."""


@dataclass(frozen=True)
class Lease:
    """One turn at an artifact. Can be handed to other processes of the stage."""

    store: ArtifactStore
    folder: str
    number: int
    holder: str
    token: str

    @property
    def path(self) -> str:
        """The turn's file."""
        return _turn(self.folder, self.number)

    def content(self, beat: int, *, ended: bool = False) -> bytes:
        """What the turn's file says."""
        return json.dumps({"holder": self.holder, "token": self.token, "beat": beat, "ended": ended}).encode()

    def check(self) -> None:
        """Raises InfrastructureError when another job has taken over."""
        if self.store.read(_turn(self.folder, self.number + 1)) is not None:
            raise InfrastructureError(
                "another job has taken over the work on this artifact, since this one did not answer for a while; "
                "the next attempt reuses what it makes"
            )


@dataclass(frozen=True)
class _Turn:
    """The latest turn as a waiter sees it."""

    number: int
    content: bytes

    def says(self, key: str) -> object:
        try:
            return json.loads(self.content).get(key)
        except ValueError:
            return None  # its holder died, or is just about to write


def acquire(
    store: ArtifactStore, folder: str, holder: str, *, done: Callable[[], bool], tell: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep,
) -> Lease | None:  # fmt: skip
    """Waits for the lease; none as soon as ``done`` says that there is nothing left to do."""
    seen, since = _latest(store, folder), clock()
    while not done():
        if seen is None or seen.says("ended") or clock() - since >= STALE_SECONDS:
            lease = Lease(store, folder, seen.number + 1 if seen else 1, holder, uuid.uuid4().hex)
            if store.create(lease.path, lease.content(0)):
                if not done():  # it may have been finished between the two looks
                    return lease
                release(lease)
                return None
        else:
            tell(f"waits for run {seen.says('holder') or '(unknown)'}, which works on the same artifact")
            sleep(LOOK_SECONDS)
        if (now := _latest(store, folder)) != seen:
            seen, since = now, clock()
    return None


def release(lease: Lease) -> None:
    """Lets the next one in at once."""
    try:
        lease.store.put(lease.path, lease.content(0, ended=True))
    except OSError as error:
        log.warning("the stage lease could not be released, so the next job waits %.0f s: %s", STALE_SECONDS, error)


class Heartbeat:
    """Renews a lease."""

    def __init__(self, lease: Lease, clock: Callable[[], float] = time.monotonic) -> None:
        self._lease, self._clock = lease, clock
        self._beats, self._renewed = 0, clock()

    def beat(self) -> None:
        """Renews once. Raises InfrastructureError when the lease is lost, or may be because the store does not answer."""
        try:
            self._lease.check()
            self._lease.store.put(self._lease.path, self._lease.content(self._beats + 1))
        except InfrastructureError:
            raise
        except Exception as error:  # object stores have many of their own
            if self._clock() - self._renewed >= GIVE_UP_SECONDS:
                raise InfrastructureError(
                    f"the artifact store has not answered for {GIVE_UP_SECONDS:.0f} s ({error}), so another job may take over the "
                    "work on this artifact; see to the store"
                ) from None
            log.warning("the stage lease could not be renewed: %s", error)
            return
        self._beats, self._renewed = self._beats + 1, self._clock()


@contextmanager
def kept(lease: Lease, every: float = BEAT_SECONDS) -> Iterator[None]:
    """Renews the lease in the background and releases it at the end.

    When it is lost, the process gets SIGTERM, which `stage.main` handles, and the block ends with InfrastructureError.
    """
    heart, ending, lost = Heartbeat(lease), threading.Event(), list[InfrastructureError]()

    def run() -> None:
        while not ending.wait(every):
            try:
                heart.beat()
            except InfrastructureError as error:
                log.error("%s", error)
                lost.append(error)
                os.kill(os.getpid(), signal.SIGTERM)  # ends engines the way a suspension does
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


def _turn(folder: str, number: int) -> str:
    return f"{folder}/{number:06d}.json"


def _latest(store: ArtifactStore, folder: str) -> _Turn | None:
    paths = [path for path in store.sizes(folder) if path.endswith(".json")]
    if not paths:
        return None
    newest = max(paths)
    return _Turn(int(PurePosixPath(newest).stem), store.read(newest) or b"")
