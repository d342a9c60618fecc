"""A whole life with every status of it: nothing is said and taken back, and where nothing happens nothing is written."""

import asyncio

import pytest

from subterra_operator.main import run_operator
from subterra_operator.resources import OPTIONAL, WATCHED, Object
from subterra_operator.settings import LeaseSettings, Settings
from subterra_testkit.cluster.kubernetes_objects import TRAVEL, TRAVEL_AGENT, edited, scores
from subterra_testkit.cluster.operator_namespace import ClusterNamespace
from subterra_testkit.cluster.status_recorder import Recorder, flaws


async def life(world: ClusterNamespace, recorder: Recorder) -> None:
    """Applied and served; edited and the second version served; edited and rejected; edited back."""
    await world.put(TRAVEL)
    await world.put(TRAVEL_AGENT)
    first = await world.condition("CompiledAgent", "travel", "UpToDate", "True")
    await recorder.mark()
    await world.put(edited("You are a very helpful travel booking assistant."))
    await world.condition("CompiledAgent", "travel", "UpToDate", "False")
    second = await world.condition("CompiledAgent", "travel", "UpToDate", "True")
    assert second["status"]["serving"]["version"] != first["status"]["serving"]["version"]
    await recorder.mark()
    world.kubelet.scores = scores(mean=2.0, failures=0.6)
    await world.put(edited("You are rude."))
    await world.condition("CompiledAgent", "travel", "UpToDate", "False", "GateFailed")
    await recorder.mark()
    await world.put(edited("You are a very helpful travel booking assistant."))
    await world.condition("CompiledAgent", "travel", "UpToDate", "True")


async def test_over_a_whole_life_no_condition_is_told_and_taken_back(world: ClusterNamespace) -> None:
    recorder = Recorder(world.api, world.namespace)
    async with recorder.recording():
        await life(world, recorder)
    assert {key.kind for key in recorder.versions} == {"Procedure", "CompileRun", "CompiledAgent"}
    assert not (found := recorder.flaws()), "\n".join(found)


async def versions(world: ClusterNamespace) -> dict[str, str]:
    """The resourceVersion of everything that the operator may write."""
    kinds = (*(kind for kind in WATCHED if kind not in OPTIONAL), "PersistentVolumeClaim", "NetworkPolicy")
    found = [obj for kind in kinds for obj in await world.all(kind) if not obj["metadata"]["name"].endswith("heartbeat")]
    return {f"{obj['kind']} {obj['metadata']['name']}": obj["metadata"]["resourceVersion"] for obj in found}


async def at_rest(world: ClusterNamespace) -> dict[str, str]:
    """Waits until nothing has changed for two seconds; says how everything is then."""

    async def met() -> dict[str, str] | None:
        before = await versions(world)
        await asyncio.sleep(2)
        return before if await versions(world) == before else None

    found: dict[str, str] = await world.until(met, "everything is at rest")
    return found


async def test_applying_the_same_files_again_changes_nothing(world: ClusterNamespace) -> None:
    await world.put(TRAVEL)
    await world.put(TRAVEL_AGENT)
    await world.condition("CompiledAgent", "travel", "UpToDate", "True")
    before = await at_rest(world)
    await world.put(TRAVEL)
    await world.put(TRAVEL_AGENT)
    assert await at_rest(world) == before


async def test_a_restarted_operator_writes_nothing(world: ClusterNamespace) -> None:
    await world.put(TRAVEL)
    await world.put(TRAVEL_AGENT)
    await world.condition("CompiledAgent", "travel", "UpToDate", "True")
    before, stop = await at_rest(world), asyncio.Event()
    own_lease = LeaseSettings(name="second")  # with the first one's it would only stand by
    settings = Settings(watch_namespaces=(world.namespace,), namespace=world.namespace, port=0, lease=own_lease)
    second = asyncio.create_task(run_operator(settings, stop))
    assert await at_rest(world) == before
    stop.set()
    await second


def told(status: str, reason: str, message: str = "", since: str = "2026-11-20T12:00:00Z", generation: int = 1) -> Object:
    """A version of an object with one condition."""
    ready = {"type": "Ready", "status": status, "reason": reason, "message": message, "lastTransitionTime": since}
    return {"act": 0, "status": {"observedGeneration": generation, "conditions": [ready]}}


LATER = "2026-11-20T12:00:09Z"
FLAPS = {
    "says ('False', 'Compiling') again": [told("False", "Compiling"), told("False", "Starting"), told("False", "Compiling")],
    "says ('False', 'Compiling', 'a') again": [told("False", "Compiling", word) for word in "aba"],
    "moved one without the other": [told("False", "Compiling"), told("False", "Compiling", since=LATER)],
    "went back": [told("True", "Serving", generation=2), told("True", "Serving", generation=1)],
    "cannot stay": [told("False", "Compiling"), told("False", "Compiling", "began at 2026-11-20T12:00:00Z")],
}


def test_what_was_so_when_a_person_acted_may_be_so_after_it() -> None:
    before, still, after, back = (
        told("True", "UpToDate"),
        told("True", "UpToDate"),
        told("False", "Starting"),
        told("True", "UpToDate"),
    )
    still["act"] = after["act"] = back["act"] = 1
    ends = {**back["status"]["conditions"][0], "lastTransitionTime": LATER}
    back["status"]["conditions"], after["status"]["conditions"][0]["lastTransitionTime"] = [ends], "2026-11-20T12:00:05Z"
    assert not list(flaws([before, still, after, back]))


@pytest.mark.parametrize("flaw", FLAPS)
def test_the_recorder_sees_what_flaps(flaw: str) -> None:
    assert any(flaw in found for found in flaws(FLAPS[flaw]))
