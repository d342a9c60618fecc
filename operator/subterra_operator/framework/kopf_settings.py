"""kopf's settings: it only reads, retries without end, and keeps little memory."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import kopf
from kopf._core.reactor.inventory import ResourceMemories, ResourceMemory

from subterra_operator.resources import KINDS, WATCHED, Kind

LAST_BACKOFF = 15.0
PAGE_SIZE = 25
"""Objects per page of kopf's lists. It lists all kinds at once: pages of 100 take 26 MiB more for 2,000 objects."""
STREAM_SECONDS = 600
"""How long the API server keeps a watch open. With each new one its kind is counted."""
SILENCE_SECONDS = 70.0
"""Bookmarks arrive every minute; a watch that is silent for longer than this is dead."""
UNUSED_FINALIZER = "subterra.dev/never-set"
"""kopf removes the finalizer of this name from what it watches. Its default name is another operator's too."""


class Backoffs:
    """Endless waiting times that grow up to `LAST_BACKOFF`. kopf iterates over the same object for each request."""

    def __iter__(self) -> Iterator[float]:
        delay = 0.5
        while True:
            yield delay * random.uniform(0.5, 1.0)
            delay = min(LAST_BACKOFF, delay * 2)


class NoDiffBase(kopf.DiffBaseStorage):
    """Stores nothing: no handler asks what changed, and the copies would take a third of the time of an event."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        """An empty essence."""
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        """Nothing is stored."""

    def store(self, **_: Any) -> None:
        """Refuses: kopf must not write to our resources."""
        raise AssertionError("kopf wants to store a handled configuration: a handler other than on.event is registered")


class NoProgress(kopf.ProgressStorage):
    """Stores nothing: no handler has progress."""

    def fetch(self, **_: Any) -> None:
        """Nothing is stored."""

    def store(self, **_: Any) -> None:
        """Refuses: kopf must not write to our resources."""
        raise AssertionError("kopf wants to store progress: a handler other than on.event is registered")

    def purge(self, **_: Any) -> None:
        """Nothing is stored."""

    def touch(self, **_: Any) -> None:
        """Nothing is stored."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        """The essence as it is."""
        return essence


class NoMemories(ResourceMemories):
    """Remembers no object: no handler of ours has a state, and what kopf would keep of a thousand agents is 11 MiB."""

    async def recall(
        self, raw_body: kopf.RawBody, *, memobase: Any = None, noticed_by_listing: bool = False, ephemeral: bool = True
    ) -> ResourceMemory:
        """What kopf asks for at each event, good for that event."""
        return await super().recall(raw_body, memobase=memobase, noticed_by_listing=noticed_by_listing, ephemeral=True)


def configure(settings: kopf.OperatorSettings, begins: Callable[[str], object]) -> None:
    """Changes ``settings``; ``begins`` is called with a kind's name whenever kopf is about to list or watch it."""
    settings.process.ultimate_exiting_timeout = None  # else SIGKILL ten minutes after the first new life
    settings.networking.error_backoffs = Backoffs()
    settings.networking.request_timeout, settings.networking.connect_timeout = 30, 10
    settings.scanning.disabled = True  # needs rights for CRDs and namespaces that a namespaced installation lacks
    settings.posting.enabled = False
    settings.queueing.idle_timeout, settings.queueing.exit_timeout = 0.1, 0.5
    settings.persistence.finalizer = UNUSED_FINALIZER
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.persistence.progress_storage = NoProgress()
    watching = settings.watching
    watching.chunk_size, watching.server_timeout, watching.inactivity_timeout = PAGE_SIZE, STREAM_SECONDS, SILENCE_SECONDS
    for name in WATCHED:
        watching.label_selectors[_noticing(KINDS[name], begins)] = KINDS[name].selector


def _noticing(kind: Kind, begins: Callable[[str], object]) -> Callable[[kopf.Resource], bool]:
    """A selector of a kind's resource that reports its use. kopf looks selectors up before each list and each stream."""

    def selects(resource: kopf.Resource) -> bool:
        if (resource.group, resource.version, resource.plural) != (kind.group, kind.version, kind.plural):
            return False
        begins(kind.name)
        return True

    return selects
