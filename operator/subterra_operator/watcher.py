"""Watches: for each kind a list, then a stream of changes, forever.

A stream that the API server ends is resumed where it ended. After an error, a silence, or an expired resourceVersion the kind is
listed again, so that missed deletions are noticed too. No response of the API server ends a watch; see
docs/contributing/adr/006-own-watches.md.
"""

import asyncio
import logging
import random
from collections.abc import Iterator
from contextlib import aclosing

from subterra_operator.controller import Controller
from subterra_operator.kube.api_client import ApiError, KubernetesApi
from subterra_operator.resources import KINDS, WATCHED, Kind

log = logging.getLogger("subterra")

FIRST_BACKOFF = 0.5
LAST_BACKOFF = 15.0
PAUSE_SECONDS = 0.2
"""Pause between two streams, so that a server that ends each immediately is not flooded."""


async def watch_all(controller: Controller, api: KubernetesApi) -> None:
    """Watches all kinds in all namespaces until cancelled."""
    async with asyncio.TaskGroup() as group:
        for name in WATCHED:
            for namespace in controller.settings.watch_namespaces or (None,):
                group.create_task(_watch(controller, api, KINDS[name], namespace), name=f"watch {name}")


async def _watch(controller: Controller, api: KubernetesApi, kind: Kind, namespace: str | None) -> None:
    backoffs = _backoffs()
    while True:
        try:
            version = await controller.relist(kind, namespace)
            while True:
                version = await _follow(controller, api, kind, namespace, version)
                backoffs = _backoffs()
                await asyncio.sleep(PAUSE_SECONDS)
        except ApiError as error:
            delay = next(backoffs)
            log.warning("watch of %s: %s; listing again in %.1f s", kind.plural, error, delay)
            await asyncio.sleep(delay)


async def _follow(controller: Controller, api: KubernetesApi, kind: Kind, namespace: str | None, version: str) -> str:
    """Handles the events of one stream; returns the resourceVersion from which the next continues. Raises ApiError."""
    async with aclosing(api.watch(kind, namespace, version)) as events:
        async for event in events:
            obj = event["object"]
            if event["type"] == "ERROR":
                raise ApiError(obj.get("code", 500), obj.get("reason", ""), obj.get("message", "the watch failed"))
            version = obj["metadata"]["resourceVersion"]
            if event["type"] != "BOOKMARK":
                controller.handle_event(event["type"], {"apiVersion": kind.api_version, "kind": kind.name, **obj})
    return version


def _backoffs() -> Iterator[float]:
    """Endless waiting times that grow up to `LAST_BACKOFF`."""
    delay = FIRST_BACKOFF
    while True:
        yield delay * random.uniform(0.5, 1.0)
        delay = min(LAST_BACKOFF, delay * 2)
