"""Events are read on demand, seldom, and never stand in the way."""

from collections.abc import Sequence
from typing import Any

import pytest

from subterra_operator.kube.api_client import ApiError, KubernetesApi, NotFoundError
from subterra_operator.kube.cache import ObjectCache
from subterra_operator.kube.event_reader import EVERY_SECONDS, MAX_LISTS, WINDOW_SECONDS, EventReader
from subterra_operator.resources import Key, Kind, Object
from subterra_operator.snapshot import QueuedWorkload, Warned

JOB = Key("Job", "demo", "travel-1")


def event(message: str, **times: Any) -> Object:
    return {"metadata": {"creationTimestamp": "2026-11-20T12:00:00Z"}, "reason": "FailedCreate", "message": message, **times}


class Api(KubernetesApi):
    """An API server with these Events; counts the lists."""

    def __init__(self, *events: Object) -> None:
        super().__init__()
        self.events: Sequence[Object] = events
        self.asked: list[Key] = []
        self.error: ApiError | None = None

    async def warnings(self, about: Key) -> Sequence[Object]:
        self.asked.append(about)
        if self.error:
            raise self.error
        return self.events


class Kueue(Api):
    """An API server with Workloads in these versions of Kueue's API."""

    def __init__(self, **workloads: Sequence[Object]) -> None:
        super().__init__()
        self.workloads = workloads
        self.selectors: list[str] = []

    async def list(self, kind: Kind, namespace: str | None = None, selector: str = "") -> tuple[list[Object], str]:
        self.selectors.append(selector)
        if kind.version not in self.workloads:
            raise NotFoundError(404, "NotFound", "no such kind")
        return [{"apiVersion": kind.api_version, **each} for each in self.workloads[kind.version]], "1"


WORKLOAD = {
    "metadata": {"name": "job-travel-1", "creationTimestamp": "2026-11-20T12:00:00Z"},
    "spec": {"active": True},
    "status": {"conditions": [{"type": "QuotaReserved", "status": "False", "message": "no quota"}]},
}


@pytest.mark.parametrize("version", ["v1beta1", "v1beta2"])
async def test_what_kueue_says_is_found_by_the_uid_of_the_job_in_whichever_version_it_has(version: str, now: list[float]) -> None:
    api, cache = Kueue(**{version: [WORKLOAD]}), ObjectCache()
    key = Key("Workload", "demo", "uid-1")
    assert await EventReader(api, cache, lambda: now[0]).read((key,))
    assert cache.workloads["demo"] == {"uid-1": QueuedWorkload(True, "job-travel-1", f"kueue.x-k8s.io/{version}", True, "no quota")}
    assert set(api.selectors) == {"kueue.x-k8s.io/job-uid=uid-1"}


async def test_a_cluster_without_kueue_is_known_as_one(now: list[float]) -> None:
    cache = ObjectCache()
    assert await EventReader(Kueue(), cache, lambda: now[0]).read((Key("Workload", "demo", "uid-1"),))
    assert cache.workloads["demo"]["uid-1"].installed is False


@pytest.fixture
def now() -> list[float]:
    return [0.0]


async def test_the_newest_warning_comes_first_whichever_field_has_its_time(now: list[float]) -> None:
    api, cache = (
        Api(
            event("older", lastTimestamp="2026-11-20T12:00:05Z"),
            event("newest", eventTime="2026-11-20T12:00:01.5Z", series={"lastObservedTime": "2026-11-20T12:00:09.5Z"}),
            event("oldest"),
        ),
        ObjectCache(),
    )
    assert await EventReader(api, cache, lambda: now[0]).read((JOB,))
    assert [warned.message for warned in cache.events["demo"][JOB]] == ["newest", "older", "oldest"]


async def test_an_object_is_asked_about_once_in_a_while_and_only_news_is_news(now: list[float]) -> None:
    api, cache = Api(event("quota")), ObjectCache()
    reader = EventReader(api, cache, lambda: now[0])
    assert await reader.read((JOB, JOB))
    assert not await reader.read((JOB,))
    now[0] += EVERY_SECONDS
    assert not await reader.read((JOB,))
    assert len(api.asked) == 2
    now[0] += EVERY_SECONDS
    api.events = (event("limit range"),)
    assert await reader.read((JOB,))
    assert cache.events["demo"][JOB] == (Warned("FailedCreate", "limit range"),)


async def test_a_thousand_jobs_in_trouble_are_no_flood(now: list[float]) -> None:
    api = Api()
    reader = EventReader(api, ObjectCache(), lambda: now[0])
    for number in range(1000):
        await reader.read((Key("Job", "demo", f"job-{number}"),))
    assert len(api.asked) == MAX_LISTS
    now[0] += WINDOW_SECONDS
    await reader.read((Key("Job", "demo", "job-999"),))
    assert api.asked[-1].name == "job-999"


async def test_without_permission_nothing_is_known_and_nothing_fails(now: list[float]) -> None:
    api = Api()
    api.error = ApiError(403, "Forbidden", "events is forbidden")
    assert not await EventReader(api, ObjectCache(), lambda: now[0]).read((JOB,))
