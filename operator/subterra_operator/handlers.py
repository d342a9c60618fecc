"""The only use of kopf: watches that wake up our queue. No finalizers, no annotations, no state of kopf's on any object."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import kopf
from kopf._cogs.clients import fetching

from subterra_operator.client import LOGIN_SECONDS, ApiError, credentials
from subterra_operator.controller import Controller
from subterra_operator.kinds import KINDS, WATCHED, Kind

log = logging.getLogger("subterra")


class EndlessBackoffs:
    """Waiting times that never run out. With kopf's own, a watcher ends for good after some ninety seconds of errors."""

    def __iter__(self) -> Iterator[float]:
        delay = 0.5
        while True:
            yield delay * random.uniform(0.5, 1.0)
            delay = min(15.0, delay * 2)


def watches(controller: Controller) -> kopf.OperatorRegistry:
    """Handlers of all watched kinds."""
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(login)
    for name in WATCHED:
        _watch(registry, KINDS[name], controller)
    return registry


def login(**_: Any) -> kopf.ConnectionInfo:
    """Credentials that expire, so that kopf asks again: tokens rotate."""
    return replace(credentials(), expiration=datetime.now(UTC) + timedelta(seconds=LOGIN_SECONDS))


def _watch(registry: kopf.OperatorRegistry, kind: Kind, controller: Controller) -> None:
    @kopf.on.event(kind.group, kind.version, kind.plural, registry=registry, id=f"seen-{kind.plural}")
    async def seen(event: Mapping[str, Any], **_: Any) -> None:
        controller.observe(event["type"], {"apiVersion": kind.api_version, "kind": kind.name, **event["object"]})


class WatchSettings(kopf.OperatorSettings):
    """kopf's settings, and the controller that lists for it."""

    controller: Controller


async def listed(*, settings: Any, resource: Any, namespace: Any, logger: Any) -> AsyncIterator[tuple[Collection[Any], str]]:
    """An empty list of the right version, in place of kopf's own one.

    kopf makes a queue and a task for every object that it lists. With a thousand agents that is a gigabyte and a minute, for what
    the controller has listed already, a page at a time; so kopf only watches, from where that list ended.
    """
    if not isinstance(settings, WatchSettings):
        async for page in _kopf_lists(settings=settings, resource=resource, namespace=namespace, logger=logger):
            yield page
        return
    kind = next(kind for kind in WATCHED if KINDS[kind].plural == resource.plural)
    for delay in EndlessBackoffs():
        try:
            version = await settings.controller.since(kind, namespace)
        except ApiError as error:
            log.warning("listing %s failed, trying again in %.1f s: %s", resource.plural, delay, error)
            await asyncio.sleep(delay)
        else:
            yield [], version
            return


_kopf_lists = fetching.fetch_objs
fetching.fetch_objs = listed


def watch_settings(controller: Controller) -> WatchSettings:
    """kopf's settings: server-side selection, endless retries, nothing written, short streams."""
    settings = WatchSettings()
    settings.controller = controller
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.networking.error_backoffs = EndlessBackoffs()
    settings.networking.request_timeout = 60
    settings.networking.connect_timeout = 10
    settings.watching.server_timeout = 240
    settings.watching.connect_timeout = 10
    settings.queueing.idle_timeout = 2.0
    for kind in (KINDS[name] for name in WATCHED):
        if kind.selector:
            settings.watching.label_selectors[kopf_selector(kind)] = kind.selector
    return settings


def kopf_selector(kind: Kind) -> tuple[str, str, str]:
    """How kopf names a kind."""
    return kind.group, kind.version, kind.plural
