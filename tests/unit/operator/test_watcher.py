"""Watches and polls: what a thousand agents would make expensive is done once, or not at all."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from subterra_api.job_contract.messages import Calls, Progress
from subterra_api.v1alpha1.compiledagent import Price
from subterra_operator import watcher
from subterra_operator.controller import Controller
from subterra_operator.kube.api_client import ApiError, Page
from subterra_operator.kube.cache import ObjectCache
from subterra_operator.kube.leader_lease import LeaderLease
from subterra_operator.labels import COMPONENT_LABEL, RUN_LABEL, STAGE_LABEL
from subterra_operator.monitoring import metrics, pod_poller
from subterra_operator.monitoring.pod_poller import PodPoller
from subterra_operator.resources import Key, Kind, Object
from subterra_operator.settings import Settings
from subterra_operator.watcher import watch_all
from subterra_testkit.cluster import kubernetes_objects as make


class Scripted:
    """An API server whose streams are written down; the last one lasts."""

    def __init__(self, *streams: list[Object] | ApiError) -> None:
        self.streams, self.since = list(streams), list[str]()
        self.there: list[Object] = []

    async def pages(self, *_: Any) -> AsyncIterator[Page]:
        yield Page(self.there, "10")

    async def watch(self, kind: Kind, _: Any, version: str) -> AsyncIterator[Object]:
        if kind.name != "Procedure" or not self.streams:
            await asyncio.Event().wait()
        self.since.append(version)
        if isinstance(stream := self.streams.pop(0), ApiError):
            raise stream
        for event in stream:
            yield event


async def watched(api: Scripted, monkeypatch: pytest.MonkeyPatch) -> Controller:
    """A controller after all streams."""
    monkeypatch.setattr(watcher, "FIRST_BACKOFF", 0.0)
    monkeypatch.setattr(watcher, "PAUSE_SECONDS", 0.0)
    lease = LeaderLease(api, Settings().lease, "default")  # type: ignore[arg-type]
    controller = Controller(Settings(), api, lease)  # type: ignore[arg-type]
    task = asyncio.create_task(watch_all(controller, api))  # type: ignore[arg-type]
    while api.streams or not controller.ready:
        assert not task.done(), task
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    task.cancel()
    return controller


@pytest.mark.parametrize("code", [0, 401, 403, 404, 409, 410, 422, 429, 500])
async def test_no_answer_ends_a_watch(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {**make.procedure(), "metadata": {**make.procedure()["metadata"], "resourceVersion": "12"}}
    broken = {"type": "ERROR", "object": {"code": code, "message": "no"}}
    api = Scripted(ApiError(code, "", "no"), [broken], [{"type": "ADDED", "object": found}])
    controller = await watched(api, monkeypatch)
    assert controller.cache.get(Key("Procedure", make.NAMESPACE, "travel"))
    assert api.since == ["10", "10", "10"]


async def test_a_stream_goes_on_where_the_last_one_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "17"}}}
    api = Scripted([bookmark], [])
    await watched(api, monkeypatch)
    assert api.since == ["10", "17"]


def running(component: str) -> Object:
    """A pod that may be asked."""
    pod = make.pod_of({"metadata": {"name": component, "uid": component, "labels": {COMPONENT_LABEL: component}}}, running={})
    return {**pod, "status": {**pod["status"], "podIP": "10.0.0.1"}}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What pods were asked for."""
    found: list[str] = []
    answers = {"price": Price(conversations=3), "progress": Progress(stage="train", percent=42)}

    async def get(_: Any, url: str, __: Any) -> Any:
        found.append(url.rpartition("/")[2])
        return answers[found[-1]]

    monkeypatch.setattr(pod_poller, "_get", get)
    return found


async def test_before_the_first_decision_everybody_has_been_asked(asked: list[str]) -> None:
    cache = ObjectCache()
    for component in ("serving", "job"):
        cache.upsert(running(component))
    await PodPoller(cache, lambda _: None).poll_once()
    assert sorted(asked) == ["price", "progress"]
    assert ([price.conversations for price in cache.prices.values()], len(cache.progress)) == ([3], 1)


async def test_prices_are_asked_for_less_often_than_progress(asked: list[str]) -> None:
    cache = ObjectCache()
    for component in ("serving", "job"):
        cache.upsert(running(component))
    poller = PodPoller(cache, lambda _: None)
    await poller.poll_once()
    await poller.poll_once()
    assert sorted(asked) == ["price", "progress", "progress"]


def generating(name: str = "travel-1-generate-1") -> Object:
    pod = running("job")
    marks = {COMPONENT_LABEL: "generate", RUN_LABEL: "travel-1", STAGE_LABEL: "generate"}
    return {**pod, "metadata": {**pod["metadata"], "name": name, "uid": name, "labels": marks}}


def sample(name: str) -> float | None:
    labels = {"namespace": make.NAMESPACE, "run": "travel-1", "stage": "generate"}
    return metrics.REGISTRY.get_sample_value(f"subterra_compilerun_stage_{name}", labels)


async def test_a_runs_metrics_say_what_its_pod_says_until_the_run_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(answered=900, per_minute=3950.0, limit=4000.0, max_usd="20")
    heard = Progress(stage="generate", done=120, planned=500, unit="conversations", usd="1.2", tokens=648000, eta_seconds=95)

    async def get(*_: Any) -> Any:
        return heard.model_copy(update={"calls": calls})

    monkeypatch.setattr(pod_poller, "_get", get)
    cache, pod = ObjectCache(), generating()
    run = make.stored(make.run(name="travel-1"))
    poller = PodPoller(cache, lambda _: None)
    cache.upsert(pod)
    await poller.poll_once()
    assert sample("done") is None, "a run that does not exist any more gets no metrics"
    cache.upsert(run)
    await poller.poll_once()
    told = {"done": 120, "planned": 500, "usd": 1.2, "tokens": 648000, "calls": 900, "max_usd": 20}
    now = {"eta_seconds": 95, "calls_per_minute": 3950, "calls_per_minute_limit": 4000}
    assert {name: sample(name) for name in (told | now)} == told | now
    cache.remove(pod)
    await poller.poll_once()
    assert {name: sample(name) for name in (told | now)} == told | dict.fromkeys(now)
    metrics.remove(Key("CompileRun", make.NAMESPACE, "travel-1"))
    assert {sample(name) for name in told} == {None}


async def test_what_a_stage_does_not_tell_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Key("CompileRun", make.NAMESPACE, "travel-1")
    metrics.record_progress(run, Progress(stage="generate", done=1, planned=2, calls=Calls(max_usd="0")))
    assert (sample("max_usd"), sample("eta_seconds")) == (0, None)
    metrics.record_progress(run, Progress(stage="generate", done=2, planned=2))
    assert (sample("max_usd"), sample("calls"), sample("done")) == (None, None, 2)
    metrics.remove(run)
