"""Watches: for each kind a list, then a stream of what changed since, for ever.

A stream that the API server ends is taken up where it ended. After any error, a silence, or when the version is too old, all is
listed anew, so that deletions that nobody told of are noticed too. No answer of the API server ends a watch; see docs/adr.
"""

import asyncio
import logging
import random
from collections.abc import Iterator
from contextlib import aclosing

from subterra_operator.controller import Controller
from subterra_operator.kube.client import Api, ApiError
from subterra_operator.resources import KINDS, WATCHED, Kind

log = logging.getLogger("subterra")

FIRST_BACKOFF = 0.5
LAST_BACKOFF = 15.0
PAUSE_SECONDS = 0.2
"""Between two streams, so that a server that ends each at once is not flooded."""


async def watch_all(controller: Controller, api: Api) -> None:
    """Watches all kinds in all namespaces until cancelled."""
    async with asyncio.TaskGroup() as group:
        for name in WATCHED:
            for namespace in controller.settings.watch_namespaces or (None,):
                group.create_task(_watch(controller, api, KINDS[name], namespace), name=f"watch {name}")


async def _watch(controller: Controller, api: Api, kind: Kind, namespace: str | None) -> None:
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
            log.warning("watch of %s: %s; listing anew in %.1f s", kind.plural, error, delay)
            await asyncio.sleep(delay)


async def _follow(controller: Controller, api: Api, kind: Kind, namespace: str | None, version: str) -> str:
    """Takes in what one stream tells; returns from where the next goes on. Raises ApiError."""
    async with aclosing(api.watch(kind, namespace, version)) as events:
        async for event in events:
            obj = event["object"]
            if event["type"] == "ERROR":
                raise ApiError(obj.get("code", 500), obj.get("reason", ""), obj.get("message", "the stream broke"))
            version = obj["metadata"]["resourceVersion"]
            if event["type"] != "BOOKMARK":
                controller.observe(event["type"], {"apiVersion": kind.api_version, "kind": kind.name, **obj})
    return version


def _backoffs() -> Iterator[float]:
    """Waiting times that grow and never run out."""
    delay = FIRST_BACKOFF
    while True:
        yield delay * random.uniform(0.5, 1.0)
        delay = min(LAST_BACKOFF, delay * 2)
