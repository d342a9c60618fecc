"""Records every status that the operator ever wrote in a namespace, and says what in it flaps."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

from kubernetes.aio.client import ApiClient, CustomObjectsApi
from kubernetes.aio.watch import Watch

from subterra_operator.kube.api_client import KubernetesApi
from subterra_operator.kube.credentials import load_configuration
from subterra_operator.resources import KINDS, Key, Object, key_of

RECORDED = ("Procedure", "CompileRun", "CompiledAgent")
UNSTABLE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d|resourceVersion|\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
"""A time, a resourceVersion or a UID: messages with these would change though nothing does."""

CATCH_UP_SECONDS = 30.0


class Recorder:
    """Versions of our objects, each in the order of their writing."""

    def __init__(self, api: KubernetesApi, namespace: str) -> None:
        self._api, self._namespace = api, namespace
        self.versions: dict[Key, list[Object]] = {}
        self.acts = 0
        self._news = asyncio.Condition()

    async def mark(self) -> None:
        """Begins an act of a person, once everything written so far is recorded: what was so before may be so again."""
        for kind in RECORDED:
            for obj in (await self._api.list(KINDS[kind], self._namespace))[0]:
                await self._recorded(obj)
        self.acts += 1

    async def _recorded(self, obj: Object) -> None:
        """Waits until the watch has shown this version of an object, or a later one."""
        async with asyncio.timeout(CATCH_UP_SECONDS), self._news:
            await self._news.wait_for(lambda: self._newest(key_of(obj)) >= _version(obj))

    def _newest(self, key: Key) -> int:
        return max(map(_version, self.versions.get(key, [])), default=-1)

    @asynccontextmanager
    async def recording(self) -> Any:
        """Watches from now on, until the block ends."""
        since = {kind: (await self._api.list(KINDS[kind], self._namespace))[1] for kind in RECORDED}
        watches = [asyncio.create_task(self._watch(kind, version)) for kind, version in since.items()]
        yield self
        for watch in watches:
            watch.cancel()
        ended = await asyncio.gather(*watches, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in ended), f"a watch ended before the life did: {ended}"

    async def _watch(self, kind: str, version: str) -> None:
        found = KINDS[kind]
        async with ApiClient(await load_configuration()) as client:
            listed = CustomObjectsApi(client).list_namespaced_custom_object
            where = (found.group, found.version, self._namespace, found.plural)
            async for event in Watch().stream(listed, *where, resource_version=version):
                if event["type"] in ("ADDED", "MODIFIED"):
                    self._note({"kind": kind, **event["raw_object"]})
                    async with self._news:
                        self._news.notify_all()

    def _note(self, obj: Object) -> None:
        obj["act"] = self.acts
        self.versions.setdefault(key_of(obj), []).append(obj)

    def flaws(self) -> list[str]:
        """Everything that a status should not have done, in words."""
        return [f"{key}: {flaw}" for key, versions in self.versions.items() for flaw in flaws(versions)]


def flaws(versions: list[Object]) -> Iterator[str]:
    """What is wrong with the versions of one object, oldest first."""
    for before, after in pairwise(versions):
        yield from _step(before, after)
    for kind in sorted({item["type"] for version in versions for item in _conditions(version).values()}):
        yield from _returns(kind, versions)


def _step(before: Object, after: Object) -> Iterator[str]:
    if _observed(after) < _observed(before):
        yield f"observedGeneration went back from {_observed(before)} to {_observed(after)}"
    for kind, new in _conditions(after).items():
        if UNSTABLE.search(new["message"]):
            yield f"{kind} has a message that cannot stay: {new['message']}"
        if (old := _conditions(before).get(kind)) is None:
            continue
        if (old["status"] == new["status"]) != (old["lastTransitionTime"] == new["lastTransitionTime"]) and _late(old, new):
            yield f"{kind}: lastTransitionTime and status moved one without the other: {old} → {new}"


def _late(old: Object, new: Object) -> bool:
    """Whether the times could differ: within one second two transitions have the same."""
    return bool(old["status"] == new["status"] or old["lastTransitionTime"] > new["lastTransitionTime"])


def _returns(kind: str, versions: list[Object]) -> Iterator[str]:
    """What a condition says again, between two acts of a person, after having said something else."""
    for fields in (("status", "reason"), ("status", "reason", "message")):
        told: list[tuple[int, tuple[str, ...]]] = []
        for version in versions:
            if (found := _conditions(version).get(kind)) is None:
                continue
            now = version["act"], tuple(found[field] for field in fields)
            if told and told[-1][1] == now[1]:
                continue
            if now in told:
                yield f"{kind} says {now[1]} again, after {told[-1][1]}, and nobody did anything"
            told.append(now)


def _conditions(obj: Object) -> dict[str, Object]:
    return {item["type"]: item for item in obj.get("status", {}).get("conditions", [])}


def _observed(obj: Object) -> int:
    return int(obj.get("status", {}).get("observedGeneration", -1))


def _version(obj: Object) -> int:
    return int(obj["metadata"]["resourceVersion"])
