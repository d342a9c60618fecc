"""What is written, and what is left alone."""

from typing import Any

import pytest

from subterra_operator.decide.decision import Decision, Write
from subterra_operator.kube.api_client import ApiError, ConflictError, NotFoundError
from subterra_operator.kube.apply import Applier, RefusedError, contains
from subterra_operator.kube.cache import ObjectCache
from subterra_operator.resources import Key, Object
from subterra_operator.settings import Settings
from subterra_operator.specs.traffic.disruption_budget import disruption_budget
from subterra_operator.specs.volume_claim import store_claim
from subterra_testkit.cluster import kubernetes_objects as make


class Server:
    """An API server that applies, and counts."""

    def __init__(self) -> None:
        self.writes = 0

    async def apply(self, obj: Object) -> Object:
        self.writes += 1
        return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.writes)}}

    async def patch(self, obj: Object, subresource: str) -> Object:
        return await self.apply({**make.agent(), "status": obj["status"]})


async def applied(server: Any, cache: ObjectCache, run: Object) -> None:
    await Applier(server, cache, lambda _: None).apply(make.agent(), Decision(writes=(Write("apply", run),)))


def run(**execution: Any) -> Object:
    return make.run(execution=execution)


async def test_what_is_there_is_not_applied_again_not_even_by_the_next_operator() -> None:
    server, cache = Server(), ObjectCache()
    await applied(server, cache, run(maxUSD="5"))
    await applied(server, cache, run(maxUSD="5"))
    assert server.writes == 1


async def test_what_is_reported_is_what_was_written_and_not_what_was_there_already() -> None:
    server, cache = Server(), ObjectCache()
    applier, wanted = Applier(server, cache, lambda _: None), Write("apply", run(maxUSD="5"))  # type: ignore[arg-type]
    assert await applier.apply(make.agent(), Decision(writes=(wanted,))) == ["apply CompileRun travel-12345678"]
    changed = Decision(writes=(wanted,), status={"phase": "Compiling"})
    assert await applier.apply(make.agent(), changed) == ["status"]


async def test_what_is_no_longer_wanted_is_taken_away() -> None:
    server, cache = Server(), ObjectCache()
    await applied(server, cache, run(maxUSD="5"))
    await applied(server, cache, run())
    assert server.writes == 2, "all of it is there, and something more of ours"


async def test_what_somebody_changed_is_put_right() -> None:
    server, cache = Server(), ObjectCache()
    await applied(server, cache, run(maxUSD="5"))
    await applied(server, cache, run(maxUSD="5"))
    changed = run(maxUSD="500")
    [key] = cache.keys("CompileRun")
    seen = cache.get(key)
    assert seen
    cache.upsert({**seen, "spec": changed["spec"], "metadata": {**seen["metadata"], "resourceVersion": "9"}})
    await applied(server, cache, run(maxUSD="5"))
    assert server.writes == 2


SECOND_CONTROLLER = ApiError(422, "Invalid", "metadata.ownerReferences: Only one reference can have Controller set to true")


class Occupied(Server):
    """An API server that has the object of an earlier owner, and refuses another controller for it."""

    def __init__(self, existing: Object) -> None:
        super().__init__()
        self.existing = existing

    async def apply(self, obj: Object) -> Object:
        raise SECOND_CONTROLLER

    async def get(self, key: Key) -> Object:
        return self.existing


def owned(obj: Object, name: str, uid: str) -> Object:
    owner = {"apiVersion": "subterra.dev/v1alpha1", "kind": "CompiledAgent", "name": name, "uid": uid, "controller": True}
    return {**obj, "metadata": {**obj["metadata"], "ownerReferences": [owner]}}


@pytest.mark.parametrize("wanted", [make.run(), disruption_budget(make.agent(), "12345678")])
async def test_an_object_of_a_deleted_agent_of_the_same_name_is_waited_for_and_not_reported_as_refused(wanted: Object) -> None:
    ours = owned(wanted, "travel", "new")
    with pytest.raises(ConflictError, match="of a deleted owner of the same name is still being deleted"):
        await applied(Occupied(owned(wanted, "travel", "old")), ObjectCache(), ours)
    with pytest.raises(RefusedError):
        await applied(Occupied(owned(wanted, "other", "old")), ObjectCache(), ours)
    with pytest.raises(RefusedError):
        await applied(Occupied(ours), ObjectCache(), ours)


def test_what_others_added_does_not_matter() -> None:
    assert contains({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 1}, "d": [1]})
    assert not contains({"a": {"b": 1}}, {"a": {"b": 2}})
    assert not contains({"a": None}, {"b": 1})


class Claims:
    """An API server with claims; counts how many were created."""

    def __init__(self) -> None:
        self.present: dict[str, Object] = {}
        self.created = 0

    async def get(self, key: Key) -> Object:
        if key.name not in self.present:
            raise NotFoundError(404, "NotFound", key.name)
        return self.present[key.name]

    async def create(self, obj: Object) -> Object:
        self.created += 1
        self.present[obj["metadata"]["name"]] = obj
        return obj


async def test_a_claim_that_was_deleted_is_made_again_and_one_that_is_there_is_left_alone() -> None:
    server: Any = Claims()
    applier = Applier(server, ObjectCache(), lambda _: None)
    decision = Decision(writes=(Write("create", store_claim("demo", Settings())),))
    assert await applier.apply(make.agent(), decision) == ["create PersistentVolumeClaim subterra-store"]
    assert await applier.apply(make.agent(), decision) == []
    server.present.clear()
    assert await applier.apply(make.agent(), decision)
    assert server.created == 2
