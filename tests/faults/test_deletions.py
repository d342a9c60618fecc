"""What the operator made is deleted behind its back."""

from collections.abc import Awaitable, Callable

import pytest
from tests.faults.conftest import TALLY, Lives
from tests.faults.life import Life, Reference

from subterra_operator.resources import Object
from subterra_testkit.cluster.kubernetes_objects import TRAVEL
from subterra_testkit.cluster.operator_namespace import condition

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


async def deleted(life: Life, kind: str, name: str) -> None:
    """Deletes an object as a person would."""
    assert await life.world.get(kind, name), f"there is no {kind} {name}"
    await life.world.delete(kind, name)
    TALLY.injected += 1


async def the_run(life: Life) -> Object:
    """The only run, when there is one."""

    async def met() -> bool:
        return bool(await life.world.all("CompileRun"))

    await life.until(met, "there is a run")
    [run] = await life.world.all("CompileRun")
    return run


async def ends_as_if_nothing_had_been(lives: Lives, way: Callable[[Life, str], Awaitable[None]]) -> None:
    """Serves, then something is deleted, then all is as it was."""

    async def lived(life: Life) -> None:
        async with life:
            await life.served()
            await life.same(lives.reference.states[0])
            run = (await the_run(life))["metadata"]["name"]
            await way(life, run)
            await life.same(lives.reference.states[0])

    await lives.live([("a deletion", [])], lived)
    TALLY.survived += 1


async def test_the_serving_deployment_comes_back(lives: Lives, reference: Reference) -> None:
    async def way(life: Life, _: str) -> None:
        [name] = await life.world.names("Deployment")
        await deleted(life, "Deployment", name)

    await ends_as_if_nothing_had_been(lives, way)


async def test_the_service_comes_back(lives: Lives) -> None:
    async def way(life: Life, _: str) -> None:
        await deleted(life, "Service", "travel")

    await ends_as_if_nothing_had_been(lives, way)


async def test_a_frozen_input_comes_back_the_same(lives: Lives) -> None:
    async def way(life: Life, run: str) -> None:
        await deleted(life, "ConfigMap", f"{run}-input")

    await ends_as_if_nothing_had_been(lives, way)


async def test_a_job_that_is_deleted_at_work_is_tried_again(lives: Lives) -> None:
    async def lived(life: Life) -> None:
        async with life:
            life.kubelet.held = {"train"}
            await life.world.put(TRAVEL)
            await life.world.put(
                {
                    "apiVersion": "subterra.dev/v1alpha1",
                    "kind": "CompiledAgent",
                    "metadata": {"name": "travel"},
                    "spec": {"compile": {"procedureRef": {"name": "travel"}}},
                }
            )
            run = (await the_run(life))["metadata"]["name"]

            async def at_work() -> bool:
                stages = ((await the_run(life)).get("status") or {}).get("stages", [])
                return any(stage["name"] == "train" and stage["state"] == "Running" for stage in stages)

            await life.until(at_work, "the run trains")
            await deleted(life, "Job", f"{run}-train-1")
            life.kubelet.held = set()
            await life.told(TRAVEL, UpToDate="True")
            stages = {stage["name"]: stage for stage in (await the_run(life))["status"]["stages"]}
            assert (stages["train"]["attempt"], stages["generate"]["attempt"]) == (2, 1)
            assert condition(await the_run(life), "Succeeded")["status"] == "True"
            await life.paid_once()

    await lives.live([("a Job deleted at work", [])], lived)
    TALLY.survived += 1
