"""Polls of pods: what a thousand agents would make expensive is done once, or not at all."""

from typing import Any

import pytest
from tests.unit.operator.work.loop_rounds import counted_rounds

from subterra_api.job_contract.messages import Calls, PodPrice, Progress, ServedWork
from subterra_operator.kube.cache import ObjectCache
from subterra_operator.kube.running_pod import RunningPod
from subterra_operator.labels import AGENT_LABEL, COMPONENT_LABEL, RUN_LABEL, STAGE_LABEL, VERSION_LABEL
from subterra_operator.monitoring import metrics, pod_poller, run_metrics
from subterra_operator.monitoring.pod_poller import PodPoller
from subterra_operator.resources import Key, Object
from subterra_testkit.cluster import kubernetes_objects as make


def running(component: str) -> Object:
    """A pod that may be asked."""
    pod = make.pod_of({"metadata": {"name": component, "uid": component, "labels": {COMPONENT_LABEL: component}}}, running={})
    return {**pod, "status": {**pod["status"], "podIP": "10.0.0.1"}}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What pods were asked for."""
    found: list[str] = []
    answers = {"price": PodPrice(conversations=3), "progress": Progress(stage="train", percent=42)}

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


async def test_no_two_prices_are_taken_over_in_one_round_of_the_event_loop(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, taken_over_in = ObjectCache(), list[int]()
    for number in range(4):
        pod = running("serving")
        cache.upsert({**pod, "metadata": {**pod["metadata"], "name": f"pod-{number}", "uid": f"pod-{number}"}})
    poller = PodPoller(cache, lambda _: None)
    async with counted_rounds() as rounds:
        monkeypatch.setattr(poller, "_publish_price", lambda *_: taken_over_in.append(rounds.number))
        await poller.poll_once()
    assert len(set(taken_over_in)) == 4


async def test_prices_are_asked_for_less_often_than_progress(asked: list[str]) -> None:
    cache = ObjectCache()
    for component in ("serving", "job"):
        cache.upsert(running(component))
    poller = PodPoller(cache, lambda _: None)
    await poller.poll_once()
    await poller.poll_once()
    assert sorted(asked) == ["price", "progress", "progress"]


class Clock:
    """The poller's clock."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


async def test_a_pod_without_traffic_is_asked_half_as_often(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock, cache = Clock(), ObjectCache()
    monkeypatch.setattr(pod_poller, "time", clock)
    cache.upsert(running("serving"))
    poller, polled = PodPoller(cache, lambda _: None), []
    for clock.now in range(0, 200, 5):
        before = len(asked)
        await poller.poll_once()
        polled += [clock.now] * (len(asked) - before)
    assert polled == [0, 30, 90, 150], "the first answer is news, the same one again is not"


@pytest.mark.parametrize("component", ["serving", "job"])
async def test_a_thousand_pods_are_polled_ten_times_a_second_together(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, component: str
) -> None:
    clock, cache = Clock(), ObjectCache()
    monkeypatch.setattr(pod_poller, "time", clock)
    for number in range(1000):
        pod = running(component)
        pod["metadata"] |= {"name": f"pod-{number}", "uid": f"pod-{number}"}
        cache.upsert(pod)
    poller, polled = PodPoller(cache, lambda _: None), list[tuple[int, int]]()
    for clock.now in range(0, 220, 5):
        before = len(asked)
        await poller.poll_once()
        polled += [(clock.now, len(asked) - before)] if len(asked) > before else []
    assert polled == [(0, 1000), (100, 1000), (200, 1000)]


def served(cache: ObjectCache, usd_per_hour: str = "3.60", version: str = "10") -> RunningPod:
    """An agent with a version that has traffic, in the cache; its pod."""
    agent = make.agent(cost={"usdPerHour": usd_per_hour})
    agent["metadata"]["resourceVersion"] = version
    labels = {AGENT_LABEL: "travel", VERSION_LABEL: "v1", COMPONENT_LABEL: "serving"}
    owner = {"kind": "CompiledAgent", "name": "travel", "uid": agent["metadata"]["uid"], "controller": True}
    service = make.resource("Service", "travel", {"selector": labels}, ownerReferences=[owner])
    pod = running("serving")
    pod["metadata"]["labels"] = labels
    for obj in (agent, {**service, "apiVersion": "v1"}, pod):
        cache.upsert(obj)
    [found] = cache.running_pods()
    return found


def usd_per_conversation() -> float | None:
    labels = {"namespace": make.NAMESPACE, "agent": "travel", "version": "v1"}
    return metrics.REGISTRY.get_sample_value("subterra_compiledagent_usd_per_conversation", labels)


def test_a_price_reads_no_object_that_has_not_changed_and_sees_each_change_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cache, reads = ObjectCache(), list[Key]()
    pod = served(cache)
    poller = PodPoller(cache, lambda _: None)
    unpack = cache.agent_snapshot
    monkeypatch.setattr(cache, "agent_snapshot", lambda key: reads.append(key) or unpack(key))
    for seconds in (100, 200, 300):
        poller._publish_price(pod, PodPrice(work=ServedWork(busy_seconds=10, seconds=seconds, conversations=2)))
    assert (len(reads), usd_per_conversation()) == (1, 0.005)
    served(cache, usd_per_hour="7.20", version="11")
    poller._publish_price(pod, PodPrice(work=ServedWork(busy_seconds=10, seconds=400, conversations=2)))
    assert (len(reads), usd_per_conversation()) == (2, 0.01)
    metrics.remove(pod.owner)


async def test_what_is_remembered_of_an_agent_goes_with_its_pods(asked: list[str]) -> None:
    cache = ObjectCache()
    pod = served(cache)
    poller = PodPoller(cache, lambda _: None)
    await poller.poll_once()
    assert list(poller._terms) == [pod.owner]
    cache.remove({**running("serving"), "metadata": {**running("serving")["metadata"], "resourceVersion": "99"}})
    await poller.poll_once()
    assert not poller._terms
    metrics.remove(pod.owner)


def generating(name: str = "travel-1-generate-1") -> Object:
    pod = running("job")
    marks = {COMPONENT_LABEL: "generate", RUN_LABEL: "travel-1", STAGE_LABEL: "generate", AGENT_LABEL: "travel"}
    return {**pod, "metadata": {**pod["metadata"], "name": name, "uid": name, "labels": marks}}


def sample(name: str) -> float | None:
    labels = {"namespace": make.NAMESPACE, "agent": "travel", "run": "travel-1", "stage": "generate"}
    return metrics.REGISTRY.get_sample_value(f"subterra_compilerun_stage_{name}", labels)


async def test_a_runs_metrics_say_what_its_pod_says_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
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
    told = {"done": 120, "planned": 500, "usd": 1.2, "tokens": 648000, "calls": 900, "eta_seconds": 95}
    told |= {"calls_per_second": 3950 / 60, "calls_limit_per_second": 4000 / 60}
    assert {name: sample(name) for name in told} == told
    cache.remove(pod)
    await poller.poll_once()
    assert {sample(name) for name in told} == {None}, "the last figures of a stage that ended would mislead"


async def test_what_a_stage_does_not_tell_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Key("CompileRun", make.NAMESPACE, "travel-1")
    run_metrics.record_progress(run, "travel", Progress(stage="generate", done=1, planned=2, calls=Calls(answered=0)))
    assert (sample("calls"), sample("eta_seconds")) == (0, None)
    run_metrics.record_progress(run, "travel", Progress(stage="generate", done=2, planned=2))
    assert (sample("calls"), sample("done")) == (None, 2)
    metrics.remove(run)
