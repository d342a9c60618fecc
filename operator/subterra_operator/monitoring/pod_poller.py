"""Polls running job pods for their progress and serving pods for their price. Best effort: no decision depends on it."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeVar

import aiohttp
from pydantic import ValidationError

from subterra_api.job_contract.environment import EXPORTER_PORT, PROGRESS_PORT
from subterra_api.job_contract.messages import PodPrice, Progress
from subterra_api.v1alpha1.base import ApiModel
from subterra_core.node_pools import Pools
from subterra_core.pricing import ModelPrice
from subterra_operator.decide.agent.price import CostTerms, conversation_costs, cost_terms, has_moved
from subterra_operator.kube.cache import ObjectCache
from subterra_operator.kube.running_pod import PodName, RunningPod
from subterra_operator.monitoring import agent_metrics, run_metrics
from subterra_operator.resources import Key, Version
from subterra_operator.work.turns import Turns

log = logging.getLogger("subterra")

POLL_SECONDS = 5.0
PRICE_SECONDS = 30.0
"""Interval at which a serving pod with traffic is polled: there may be a thousand of them, and prices change slowly."""
QUIET_PRICE_SECONDS = 60.0
"""The same for a pod that has had no conversation since the last poll."""
POLLS_PER_SECOND = 10.0
"""Most polls of all serving pods together, and as many of all pods of Jobs: each takes a millisecond of processor time. Where there
are hundreds of them, each is polled less often.
"""
MAX_CONCURRENT_POLLS = 100
PUBLISH_SECONDS = 15.0
"""Minimum time between two reconciles of a resource for new progress alone."""
TIMEOUT = aiohttp.ClientTimeout(total=5, connect=2)
"""A pod that keeps its CPU busy may need seconds to respond; one that is gone does not even connect."""
MAX_RESPONSE_BYTES = 8192
M = TypeVar("M", bound=ApiModel)


class PodPoller:
    """Keeps the cache's progress and prices up to date; calls ``enqueue`` with what pods belong to whose values changed."""

    def __init__(
        self,
        cache: ObjectCache,
        enqueue: Callable[[Key], None],
        pools: Pools | None = None,
        prices: Mapping[str, ModelPrice] | None = None,
        turns: Turns | None = None,
    ) -> None:
        self._cache, self._enqueue, self._pools, self._turns = cache, enqueue, pools or {}, turns or Turns()
        self._list_prices = {name: price.to_token_price() for name, price in (prices or {}).items()}
        self._published: dict[PodName, float] = {}
        self._next_poll: dict[PodName, float] = {}
        self._serving = self._working = 0
        """Pods of either kind."""
        self._measured: dict[PodName, Key] = {}
        """The run of each pod whose progress is in the metrics."""
        self._terms: dict[Key, tuple[tuple[Version, ...], CostTerms | None]] = {}
        """By agent, with the versions of the objects that they were read from."""
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
        now, pods = time.monotonic(), {pod.id: pod for pod in self._cache.running_pods()}
        self._forget_all_but(pods)
        self._serving = sum(_serves(pod) for pod in pods.values())
        self._working = len(pods) - self._serving
        due = (pod for name, pod in pods.items() if now >= self._next_poll.get(name, now))
        await asyncio.gather(*(self._poll(session, pod) for pod in due))

    def _forget_all_but(self, pods: Mapping[PodName, RunningPod]) -> None:
        self._published = {name: when for name, when in self._published.items() if name in pods}
        self._next_poll = {name: when for name, when in self._next_poll.items() if name in pods}
        for name in self._measured.keys() - pods.keys():
            run_metrics.forget_progress(self._measured.pop(name))
        for agent in self._terms.keys() - {pod.owner for pod in pods.values()}:
            del self._terms[agent]

    async def _poll(self, session: aiohttp.ClientSession, pod: RunningPod) -> None:
        async with self._slots:
            now = time.monotonic()
            if _serves(pod):
                self._next_poll[pod.id] = now + max(PRICE_SECONDS, self._serving / POLLS_PER_SECOND)
                price = await _get(session, _url(pod, EXPORTER_PORT, "price"), PodPrice)
                async with self._turns.turn():
                    moved = price is None or self._publish_price(pod, price)
                if not moved:
                    self._next_poll[pod.id] = now + max(QUIET_PRICE_SECONDS, self._serving / POLLS_PER_SECOND)
            else:
                if (interval := self._working / POLLS_PER_SECOND) > POLL_SECONDS:
                    self._next_poll[pod.id] = now + interval
                progress = await _get(session, _url(pod, PROGRESS_PORT, "progress"), Progress)
                self._publish(self._cache.progress, pod, progress, now)
                self._record_metrics(pod, progress)

    def _record_metrics(self, pod: RunningPod, progress: Progress | None) -> None:
        """Sets the run's metrics at every poll, more often than its status is written."""
        if progress is not None and self._cache.has(pod.owner):
            self._measured[pod.id] = pod.owner
            run_metrics.record_progress(pod.owner, pod.agent, progress)

    def _publish_price(self, pod: RunningPod, price: PodPrice) -> bool:
        """Stores a price and sets its agent's metrics; returns whether there were conversations since the last one.

        Only then is the agent enqueued.
        """
        before = self._cache.record_price(pod, price)
        terms = self._terms_of(pod.owner)
        if terms and (costs := conversation_costs(self._cache.prices_of(pod.owner, terms.version), terms)):
            agent_metrics.record_costs(pod.owner, terms.version, costs)
        moved = before is None or has_moved(before, price) or before.sample != price.sample or _failures(before) != _failures(price)
        if moved:
            self._enqueue(pod.owner)
        return moved

    def _terms_of(self, agent: Key) -> CostTerms | None:
        """The terms of an agent's costs, read again only when an object has changed."""
        versions = self._cache.agent_versions(agent)
        known = self._terms.get(agent)
        if known is None or known[0] != versions:
            snapshot = self._cache.agent_snapshot(agent)
            terms = cost_terms(snapshot, self._list_prices, self._pools) if snapshot else None
            self._terms[agent] = known = (versions, terms)
        return known[1]

    def _publish(self, published: dict[PodName, M], pod: RunningPod, value: M | None, now: float) -> None:
        """Stores a changed value in the cache, at most once per `PUBLISH_SECONDS`."""
        due = now - self._published.get(pod.id, float("-inf")) >= PUBLISH_SECONDS
        if value is not None and due and published.get(pod.id) != value:
            published[pod.id], self._published[pod.id] = value, now
            self._enqueue(pod.owner)


def _failures(price: PodPrice) -> float:
    """Requests that a pod has failed: they are no conversations."""
    return price.work.failed_requests if price.work else 0.0


def _serves(pod: RunningPod) -> bool:
    return pod.component == "serving"


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=TIMEOUT, trust_env=False)


def _url(pod: RunningPod, port: int, path: str) -> str:
    host = f"[{pod.address}]" if ":" in pod.address else pod.address
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
