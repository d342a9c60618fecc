"""Asks running pods how far they are and serving pods what they cost. Best effort: never decides anything."""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, TypeVar

import aiohttp
from pydantic import ValidationError

from subterra_api.contract import EXPORTER_PORT, PROGRESS_PORT, Progress
from subterra_api.v1alpha1.base import ApiModel
from subterra_api.v1alpha1.compiledagent import Price
from subterra_operator.controller import Controller
from subterra_operator.kinds import COMPONENT_LABEL, Object, deleting, labels

log = logging.getLogger("subterra")

POLL_SECONDS = 5.0
PUBLISH_SECONDS = 15.0
"""A status is written at most so often for progress alone."""
TIMEOUT = aiohttp.ClientTimeout(total=2)
LIMIT = 8192
M = TypeVar("M", bound=ApiModel)


class Poller:
    """Keeps the store's progress and prices fresh."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._published: dict[tuple[str, str], float] = {}

    async def run(self) -> None:
        """Polls until cancelled."""
        async with aiohttp.ClientSession(timeout=TIMEOUT, trust_env=False) as session:
            while True:
                pods = [pod for pod in self._controller.store.all("Pod") if _answering(pod)]
                await asyncio.gather(*(self._ask(session, pod) for pod in pods))
                known = {_name(pod) for pod in pods}
                self._published = {name: at for name, at in self._published.items() if name in known}
                await asyncio.sleep(POLL_SECONDS)

    async def _ask(self, session: aiohttp.ClientSession, pod: Object) -> None:
        name, now = _name(pod), time.monotonic()
        if labels(pod).get(COMPONENT_LABEL) == "serving":
            price = await _get(session, _url(pod, EXPORTER_PORT, "price"), Price)
            self._publish(self._controller.store.prices, pod, price, now)
        elif progress := await _get(session, _url(pod, PROGRESS_PORT, "progress"), Progress):
            self._publish(self._controller.store.progress, pod, progress, now)
        if name not in self._published:
            self._published[name] = float("-inf")

    def _publish(self, known: dict[tuple[str, str], M], pod: Object, heard: M | None, now: float) -> None:
        name = _name(pod)
        due = now - self._published.get(name, float("-inf")) >= PUBLISH_SECONDS
        if heard is not None and due and known.get(name) != heard:
            known[name], self._published[name] = heard, now
            self._controller.wake(pod)


def _answering(pod: Mapping[str, Any]) -> bool:
    status = pod.get("status", {})
    return status.get("phase") == "Running" and "podIP" in status and not deleting(pod)


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
