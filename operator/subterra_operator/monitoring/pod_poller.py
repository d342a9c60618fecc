"""Asks running pods how far they are and serving pods what they cost. Best effort: never decides anything."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import aiohttp
from pydantic import ValidationError

from subterra_api.job_contract.environment import EXPORTER_PORT, PROGRESS_PORT
from subterra_api.job_contract.messages import Progress
from subterra_api.v1alpha1.base import ApiModel
from subterra_api.v1alpha1.compiledagent import Price
from subterra_operator.kube.cache import Store
from subterra_operator.labels import COMPONENT_LABEL, RUN_LABEL, labels
from subterra_operator.monitoring import metrics
from subterra_operator.resources import Key, Object

log = logging.getLogger("subterra")

POLL_SECONDS = 5.0
PRICE_SECONDS = 30.0
"""A serving pod is asked for its price so often: there may be a thousand of them, and prices move slowly."""
AT_ONCE = 100
PUBLISH_SECONDS = 15.0
"""A status is written at most so often for progress alone."""
TIMEOUT = aiohttp.ClientTimeout(total=5, connect=2)
"""A pod that keeps its processor busy may take seconds to answer; one that is gone does not even connect."""
LIMIT = 8192
M = TypeVar("M", bound=ApiModel)


class Poller:
    """Keeps the store's progress and prices fresh. ``wake`` is told of pods that have news."""

    def __init__(self, store: Store, wake: Callable[[Object], None]) -> None:
        self._store, self._wake = store, wake
        self._published: dict[tuple[str, str], float] = {}
        self._due: dict[tuple[str, str], float] = {}
        self._told: dict[tuple[str, str], Key] = {}
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def first(self) -> None:
        """Asks everybody once, not for long: else the first decisions would take from every status what the pods told before."""
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS), _session() as session:
                await self._round(session)

    async def run(self) -> None:
        """Polls until cancelled."""
        async with _session() as session:
            while True:
                await self._round(session)
                await asyncio.sleep(POLL_SECONDS)

    async def _round(self, session: aiohttp.ClientSession) -> None:
        now, pods = time.monotonic(), {_name(pod): pod for pod in self._store.running_pods()}
        self._published, self._due = (
            {name: at for name, at in known.items() if name in pods} for known in (self._published, self._due)
        )
        for name in self._told.keys() - pods.keys():
            metrics.hush(self._told.pop(name))
        await asyncio.gather(*(self._ask(session, pod) for name, pod in pods.items() if now >= self._due.get(name, now)))

    async def _ask(self, session: aiohttp.ClientSession, pod: Object) -> None:
        async with self._gate:
            now = time.monotonic()
            if labels(pod).get(COMPONENT_LABEL) == "serving":
                self._due[_name(pod)] = now + PRICE_SECONDS
                price = await _get(session, _url(pod, EXPORTER_PORT, "price"), Price)
                self._publish(self._store.prices, pod, price, now)
            else:
                progress = await _get(session, _url(pod, PROGRESS_PORT, "progress"), Progress)
                self._publish(self._store.progress, pod, progress, now)
                self._measure(pod, progress)

    def _measure(self, pod: Object, progress: Progress | None) -> None:
        """What the run's metrics say is newer than its status, which is written now and then."""
        run = Key("CompileRun", pod["metadata"]["namespace"], labels(pod).get(RUN_LABEL, ""))
        if progress is not None and self._store.get(run) is not None:
            self._told[_name(pod)] = run
            metrics.tell(run, progress)

    def _publish(self, known: dict[tuple[str, str], M], pod: Object, heard: M | None, now: float) -> None:
        name = _name(pod)
        due = now - self._published.get(name, float("-inf")) >= PUBLISH_SECONDS
        if heard is not None and due and known.get(name) != heard:
            known[name], self._published[name] = heard, now
            self._wake(pod)


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=TIMEOUT, trust_env=False)


def _name(pod: Mapping[str, Any]) -> tuple[str, str]:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]


def _url(pod: Mapping[str, Any], port: int, path: str) -> str:
    address = pod["status"]["podIP"]
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}:{port}/{path}"


async def _get(session: aiohttp.ClientSession, url: str, model: type[M]) -> M | None:
    """What a pod says, if it says it briefly and well."""
    try:
        async with session.get(url, allow_redirects=False) as response:
            text = await response.content.read(LIMIT + 1)
            if response.status != 200 or len(text) > LIMIT:
                return None
        return model.model_validate_json(text)
    except (aiohttp.ClientError, TimeoutError, OSError, ValidationError) as error:
        log.debug("%s: %s", url, error)
        return None
