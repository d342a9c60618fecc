"""Polls running job pods for their progress and serving pods for their price. Best effort: no decision depends on it."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import aiohttp
from pydantic import ValidationError

from subterra_api.job_contract.environment import EXPORTER_PORT, PROGRESS_PORT
from subterra_api.job_contract.messages import PodPrice, Progress
from subterra_api.v1alpha1.base import ApiModel
from subterra_core.node_pools import Pools
from subterra_core.pricing import ModelPrice
from subterra_operator.decide.agent.price import conversation_costs, has_moved
from subterra_operator.kube.cache import ObjectCache
from subterra_operator.labels import AGENT_LABEL, COMPONENT_LABEL, RUN_LABEL, labels_of
from subterra_operator.monitoring import agent_metrics, run_metrics
from subterra_operator.resources import Key, Object

log = logging.getLogger("subterra")

POLL_SECONDS = 5.0
PRICE_SECONDS = 30.0
"""Interval at which a serving pod is polled: there may be a thousand of them, and prices change slowly."""
MAX_CONCURRENT_POLLS = 100
PUBLISH_SECONDS = 15.0
"""Minimum time between two reconciles of a resource for new progress alone."""
TIMEOUT = aiohttp.ClientTimeout(total=5, connect=2)
"""A pod that keeps its CPU busy may need seconds to respond; one that is gone does not even connect."""
MAX_RESPONSE_BYTES = 8192
M = TypeVar("M", bound=ApiModel)
PodName = tuple[str, str]
"""Namespace and name."""


class PodPoller:
    """Keeps the cache's progress and prices up to date; calls ``enqueue`` with pods whose values changed."""

    def __init__(
        self,
        cache: ObjectCache,
        enqueue: Callable[[Object], None],
        pools: Pools | None = None,
        prices: Mapping[str, ModelPrice] | None = None,
    ) -> None:
        self._cache, self._enqueue, self._pools = cache, enqueue, pools or {}
        self._list_prices = {name: price.to_token_price() for name, price in (prices or {}).items()}
        self._published: dict[PodName, float] = {}
        self._next_price: dict[PodName, float] = {}
        self._measured: dict[PodName, Key] = {}
        """The run of each pod whose progress is in the metrics."""
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_POLLS)

    async def poll_once(self) -> None:
        """Polls all pods once, briefly: without it the first decisions would remove progress and prices from every status."""
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS), _session() as session:
                await self._poll_all(session)

    async def run(self) -> None:
        """Polls until cancelled."""
        async with _session() as session:
            while True:
                await self._poll_all(session)
                await asyncio.sleep(POLL_SECONDS)

    async def _poll_all(self, session: aiohttp.ClientSession) -> None:
        now, pods = time.monotonic(), {_name(pod): pod for pod in self._cache.running_pods()}
        self._published = {name: when for name, when in self._published.items() if name in pods}
        self._next_price = {name: when for name, when in self._next_price.items() if name in pods}
        for name in self._measured.keys() - pods.keys():
            run_metrics.forget_progress(self._measured.pop(name))
        due = (pod for name, pod in pods.items() if now >= self._next_price.get(name, now))
        await asyncio.gather(*(self._poll(session, pod) for pod in due))

    async def _poll(self, session: aiohttp.ClientSession, pod: Object) -> None:
        async with self._slots:
            now = time.monotonic()
            if labels_of(pod).get(COMPONENT_LABEL) == "serving":
                self._next_price[_name(pod)] = now + PRICE_SECONDS
                price = await _get(session, _url(pod, EXPORTER_PORT, "price"), PodPrice)
                self._publish_price(pod, price)
            else:
                progress = await _get(session, _url(pod, PROGRESS_PORT, "progress"), Progress)
                self._publish(self._cache.progress, pod, progress, now)
                self._record_metrics(pod, progress)

    def _record_metrics(self, pod: Object, progress: Progress | None) -> None:
        """Sets the run's metrics at every poll, more often than its status is written."""
        run = Key("CompileRun", pod["metadata"]["namespace"], labels_of(pod).get(RUN_LABEL, ""))
        if progress is not None and self._cache.get(run) is not None:
            self._measured[_name(pod)] = run
            run_metrics.record_progress(run, labels_of(pod).get(AGENT_LABEL, ""), progress)

    def _publish_price(self, pod: Object, price: PodPrice | None) -> None:
        """Stores a price and sets its agent's metrics; enqueues the pod only if there were conversations since the last one."""
        if price is None:
            return
        before = self._cache.record_price(pod, price)
        key = Key("CompiledAgent", pod["metadata"]["namespace"], labels_of(pod).get(AGENT_LABEL, ""))
        snapshot = self._cache.agent_snapshot(key)
        if snapshot and (costs := conversation_costs(snapshot, self._list_prices, self._pools)):
            agent_metrics.record_costs(key, snapshot.active_version or "", costs)
        if before is None or has_moved(before, price):
            self._enqueue(pod)

    def _publish(self, published: dict[PodName, M], pod: Object, value: M | None, now: float) -> None:
        """Stores a changed value in the cache, at most once per `PUBLISH_SECONDS`."""
        name = _name(pod)
        due = now - self._published.get(name, float("-inf")) >= PUBLISH_SECONDS
        if value is not None and due and published.get(name) != value:
            published[name], self._published[name] = value, now
            self._enqueue(pod)


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=TIMEOUT, trust_env=False)


def _name(pod: Mapping[str, Any]) -> PodName:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]


def _url(pod: Mapping[str, Any], port: int, path: str) -> str:
    address = pod["status"]["podIP"]
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}:{port}/{path}"


async def _get(session: aiohttp.ClientSession, url: str, model: type[M]) -> M | None:
    """A pod's response, or `None` if it is missing, too long or invalid."""
    try:
        async with session.get(url, allow_redirects=False) as response:
            text = await response.content.read(MAX_RESPONSE_BYTES + 1)
            if response.status != 200 or len(text) > MAX_RESPONSE_BYTES:
                return None
        return model.model_validate_json(text)
    except (aiohttp.ClientError, TimeoutError, OSError, ValidationError) as error:
        log.debug("%s: %s", url, error)
        return None
