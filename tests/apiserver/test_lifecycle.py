"""Lives of agents and runs on the real API server: edits, pins, retries, deletions, upgrades."""

import asyncio
import copy
import json
from typing import Any

import pytest

from subterra_api.digest import procedure_digest
from subterra_api.job_contract.defaults import resolve
from subterra_api.v1alpha1 import API_VERSION, REEVALUATE_AT
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_testkit.cluster.kubernetes_objects import TRAVEL, TRAVEL_AGENT, edited, scores
from subterra_testkit.cluster.operator_namespace import ClusterNamespace, condition, running_operator


def agent(name: str = "travel", compile: Object | None = None, **spec: Any) -> Object:
    """The example's agent with other settings."""
    found = copy.deepcopy(TRAVEL_AGENT)
    found["metadata"]["name"] = name
    found["spec"]["compile"] |= compile or {}
    found["spec"] |= spec
    return found


def numbered(number: int = 1) -> Object:
    """One of many edits of the travel procedure."""
    return edited(f"You are travel booking assistant number {number}.")


async def served(world: ClusterNamespace, **spec: Any) -> Object:
    """Two versions one after the other; the second one serves."""
    await world.put(TRAVEL)
    await world.put(agent(**spec))
    await world.up_to_date()
    await world.put(numbered())
    return await world.up_to_date(procedure=numbered())


async def serving(world: ClusterNamespace, model: str) -> Object:
    """Waits until the agent serves a model."""

    async def met() -> Object | None:
        found = await world.get("CompiledAgent", "travel")
        return found if found and found["status"].get("serving", {}).get("modelDigest") == model else None

    found: Object = await world.until(met, f"{model} serves")
    return found


async def test_a_pin_goes_back_to_the_version_before_and_its_removal_goes_forward(world: ClusterNamespace) -> None:
    status = (await served(world))["status"]
    new, old = (item["modelDigest"] for item in status["history"])
    await world.change(agent(promotion={"pin": old}))
    back = await serving(world, old)
    assert condition(await world.condition("CompiledAgent", "travel", "UpToDate", "False", "Pinned"), "Ready")["status"] == "True"
    assert [item["modelDigest"] for item in back["status"]["history"]] == [old, new]
    await world.change(agent(promotion={"pin": None}))
    assert (await serving(world, new))["status"]["phase"]
    assert len(await world.names("CompileRun")) == 2


async def test_a_run_is_compared_with_what_served_when_it_was_made_also_when_it_serves_itself(world: ClusterNamespace) -> None:
    status = (await served(world))["status"]
    new, old = (item["modelDigest"] for item in status["history"])
    run = await world.get("CompileRun", status["serving"]["run"])
    assert run
    assert [(each["role"], each["modelDigest"]) for each in run["spec"]["references"]] == [("Serving", old)]
    await world.change(agent(promotion={"anchor": old}))
    await world.put(numbered(2))
    status = (await world.up_to_date(procedure=numbered(2)))["status"]
    later = await world.get("CompileRun", status["serving"]["run"])
    assert later
    assert [(each["role"], each["modelDigest"]) for each in later["spec"]["references"]] == [("Serving", new), ("Anchor", old)]
    assert (await world.get("CompileRun", run["metadata"]["name"]))["spec"]["references"] == run["spec"]["references"]  # type: ignore[index]


async def test_an_edit_that_wants_the_same_run_or_goes_back_to_the_defaults_is_not_refused(world: ClusterNamespace) -> None:
    await world.put(TRAVEL)
    await world.put(agent(promotion={"gate": {"minScore": 3.6}}))
    await world.up_to_date()
    [run] = await world.names("CompileRun")
    await world.change(agent(compile={"template": {"evaluation": {"trials": 1}}}))  # a default, spelled out
    await world.up_to_date()
    await world.put(TRAVEL | {"metadata": {"name": "journey"}})
    await world.change(agent(compile={"procedureRef": {"name": "journey"}}))
    await world.up_to_date()
    for gate in ({"minScore": None, "minPhrasings": None}, {"minScore": 3.7}, {"minScore": None}):
        await world.change(agent(promotion={"gate": gate}))
        await world.up_to_date()
    assert await world.names("CompileRun") == [run]
    found = await world.get("CompileRun", run)
    assert found
    assert not found["spec"]["execution"].get("gate")


async def test_what_serves_is_evaluated_again_and_the_result_is_in_its_history(world: ClusterNamespace) -> None:
    await world.put(TRAVEL)
    await world.put(agent())
    before = await world.up_to_date()
    service = await world.get("Service", "travel")
    world.kubelet.scores, world.kubelet.paid = scores(mean=2.0, failures=0.6), {"evaluate": "1.25"}
    since = before["status"]["serving"]["since"]
    await world.change(
        {"apiVersion": API_VERSION, "kind": "CompiledAgent", "metadata": {"name": "travel", "annotations": {REEVALUATE_AT: since}}}
    )
    found = await world.condition("CompiledAgent", "travel", "Reevaluated", "True", "VerdictWorsened")
    [result] = found["status"]["history"][0]["reevaluations"]
    assert (result["at"], result["verdict"], result["scenarios"], result["usd"]) == (since, "Fail", 200, "1.25")
    assert condition(found, "Ready")["status"] == condition(found, "UpToDate")["status"] == "True"
    assert found["status"]["serving"] == before["status"]["serving"]
    assert (await world.get("Service", "travel"))["spec"] == service["spec"]  # type: ignore[index]
    first, again = sorted(await world.all("CompileRun"), key=lambda run: "reevaluates" in run["spec"])
    assert again["spec"]["reevaluates"] == first["metadata"]["name"]
    assert again["status"]["artifacts"]["reportPath"] != first["status"]["artifacts"]["reportPath"]
    jobs = [name for name in await world.names("Job") if name.startswith(again["metadata"]["name"])]
    assert jobs == [f"{again['metadata']['name']}-evaluate-1"]


async def test_in_manual_mode_traffic_follows_only_the_pin(world: ClusterNamespace) -> None:
    await world.put(TRAVEL)
    await world.put(agent(promotion={"mode": "Manual"}))
    waiting = await world.condition("CompiledAgent", "travel", "UpToDate", "False", "AwaitingApproval")
    assert await world.names("Deployment") == []
    model = waiting["status"]["candidate"]["modelDigest"]
    assert f"set spec.promotion.pin to {model}" in condition(waiting, "UpToDate")["message"]
    await world.change(agent(promotion={"mode": "Manual", "pin": model}))
    assert (await world.up_to_date())["status"]["serving"]["modelDigest"] == model


async def test_old_runs_go_and_those_that_served_stay(world: ClusterNamespace) -> None:
    await served(world, promotion={"historyLimit": 1})
    world.kubelet.scores = scores(mean=2.0, failures=0.6)
    for number in (2, 3, 4):
        await world.put(numbered(number))
        await rejected(world, numbered(number))
        runs = await world.names("CompileRun")
        current = (await world.get("CompiledAgent", "travel") or {})["status"]["currentRun"]
        assert current in runs
    # remembered: the one that serves and the one that is warm; the wanted one; and one other
    await world.until(lambda: _fewer(world, 5), "old runs are deleted")
    status = (await world.condition("CompiledAgent", "travel", "Ready", "True"))["status"]
    assert {status["serving"]["run"], status["currentRun"]} <= set(await world.names("CompileRun"))


async def rejected(world: ClusterNamespace, procedure: Object) -> None:
    """Waits until the agent says that what was compiled of this procedure is rejected."""
    digest = procedure_digest(ProcedureSpec.model_validate(procedure["spec"]))

    async def met() -> bool:
        found = await world.condition("CompiledAgent", "travel", "UpToDate", "False", "GateFailed")
        return bool(found["status"]["procedureDigest"] == digest)

    await world.until(met, "the edit is rejected")


async def _fewer(world: ClusterNamespace, limit: int) -> bool:
    return len(await world.names("CompileRun")) < limit


async def test_a_suspended_agent_stops_its_job_and_goes_on_with_it(world: ClusterNamespace) -> None:
    world.kubelet.held = {"train"}
    await world.put(TRAVEL)
    await world.put(agent())
    [run] = await world.until(lambda: world.names("CompileRun"), "a run exists")
    await world.until(lambda: world.get("Job", f"{run}-train-1"), "it trains")
    await world.change(agent(compile={"suspend": True}))
    await world.condition("CompileRun", run, "Succeeded", "Unknown", "Suspended")
    assert (await world.condition("CompiledAgent", "travel", "UpToDate", "False", "Suspended"))["status"]["phase"] == "Suspended"
    world.kubelet.held = set()
    await world.change(agent(compile={"suspend": False}))
    await world.up_to_date()
    assert await world.names("Job") == [f"{run}-evaluate-1", f"{run}-generate-1", f"{run}-train-1"]


async def test_one_commit_that_edits_procedure_and_agent_makes_one_run(world: ClusterNamespace) -> None:
    await world.put(TRAVEL)
    await world.put(agent())
    await world.up_to_date()
    await world.change(agent(compile={"settleSeconds": 60, "template": {"training": {"epochs": 3}}}))
    waiting = await world.condition("CompiledAgent", "travel", "UpToDate", "False", "Compiling")
    first = waiting["status"]["settling"]["run"]
    await world.put(numbered())

    async def other() -> bool:
        found = await world.get("CompiledAgent", "travel")
        return bool(found and found["status"].get("settling", {}).get("run") not in (None, first))

    await world.until(other, "the agent has seen the procedure's edit, and waits for the next")
    with world.clock.ahead(60):
        await world.touch("CompiledAgent", "travel")
        await world.up_to_date(procedure=numbered())
    assert len(await world.names("CompileRun")) == 2


async def test_two_agents_of_one_procedure_have_a_run_and_a_version_each(world: ClusterNamespace) -> None:
    await world.put(TRAVEL)
    for name in ("first", "second"):
        await world.put(agent(name))
    made = [(await world.up_to_date(name))["status"] for name in ("first", "second")]
    assert made[0]["serving"]["modelPath"] == made[1]["serving"]["modelPath"], "they share the artifact"
    assert len({status["currentRun"] for status in made}) == 2
    assert {(await world.get("Service", name) or {})["metadata"]["name"] for name in ("first", "second")} == {"first", "second"}


async def test_a_run_that_somebody_deletes_is_made_again(world: ClusterNamespace) -> None:
    world.kubelet.exits = {"generate": [(10, "no")]}
    await world.put(TRAVEL)
    await world.put(agent())
    await world.condition("CompiledAgent", "travel", "Stalled", "True", "CompileFailed")
    [run] = await world.all("CompileRun")
    await world.delete("CompileRun", run["metadata"]["name"])
    await world.up_to_date()
    [again] = await world.all("CompileRun")
    assert again["metadata"]["uid"] != run["metadata"]["uid"]


async def test_a_run_by_hand_pays_for_itself_although_its_label_names_an_agent(world: ClusterNamespace) -> None:
    await world.put(TRAVEL)
    label = {"subterra.dev/agent": "travel", "app.kubernetes.io/managed-by": "subterra"}
    head = {"apiVersion": "subterra.dev/v1alpha1", "kind": "CompileRun", "metadata": {"name": "by-hand", "labels": label}}
    await world.put({**head, "spec": {"inputs": {"procedureRef": {"name": "travel"}}}})
    config = await world.until(lambda: world.get("ConfigMap", "by-hand-input"), "the input is frozen")
    identity = json.loads(config["data"]["input.json"])["run"]
    assert (identity["name"], identity.get("agent")) == ("by-hand", None)


async def test_a_deleted_agent_takes_everything_with_it_but_the_store(world: ClusterNamespace) -> None:
    await served(world)
    await world.delete("CompiledAgent", "travel")
    for kind in ("CompileRun", "Job", "Deployment", "Service"):
        await world.until(lambda kind=kind: _none(world, kind), f"no {kind} is left")
    assert await world.get("PersistentVolumeClaim", "subterra-store")
    assert await world.get("Procedure", "travel")


async def _none(world: ClusterNamespace, kind: str) -> bool:
    return not await world.names(kind)


async def test_a_model_of_another_cluster_is_served_without_compiling(world: ClusterNamespace) -> None:
    digest = "sha256:" + "c" * 64
    spec = {**agent()["spec"], "model": {"uri": "pvc://models/abc", "digest": digest}}
    del spec["compile"]
    await world.put({**agent(), "spec": spec})
    found = await world.up_to_date()
    assert found["status"]["serving"]["modelDigest"] == digest
    assert await world.names("CompileRun") == []


async def test_a_name_that_somebody_else_has_is_told_and_taken_once_it_is_free(world: ClusterNamespace) -> None:
    ports = [{"port": 80}]
    labels = {"team": "other"}
    await world.put(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "travel", "labels": labels}, "spec": {"ports": ports}}
    )
    await world.put(TRAVEL)
    await world.put(agent())
    found = await world.condition("CompiledAgent", "travel", "Stalled", "True", "NameTaken")
    text = f"Service {world.namespace}/travel exists and is not managed by Subterra; delete or rename it"
    assert text in condition(found, "Stalled")["message"]
    await world.delete("Service", "travel")
    await world.up_to_date()


async def test_another_version_of_the_operator_starts_no_run_and_restarts_no_pod(
    quiet: ClusterNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(watch_namespaces=(quiet.namespace,), namespace=quiet.namespace, jobs_image="jobs:1")
    kubelet = asyncio.create_task(quiet.kubelet.run())
    async with running_operator(settings):
        await served(quiet)
        quiet.kubelet.held = {"train"}
        await quiet.put(numbered(2))
        await quiet.condition("CompiledAgent", "travel", "UpToDate", "False", "Compiling")
        await quiet.until(lambda: _training(quiet), "the third run trains")
    before = await _made(quiet)
    monkeypatch.setattr("subterra_operator.decide.run.run.resolve", _other_defaults)
    async with running_operator(settings.model_copy(update={"jobs_image": "jobs:2"})):
        await quiet.change({**agent(), "metadata": {"name": "travel", "labels": {"looked": "at"}}})
        quiet.kubelet.held = set()
        await quiet.up_to_date(procedure=numbered(2))
        assert before.items() <= (await _made(quiet)).items()
    jobs = {job["metadata"]["name"]: job["spec"]["template"]["spec"]["containers"][0]["image"] for job in await quiet.all("Job")}
    current = (await quiet.get("CompiledAgent", "travel") or {})["status"]["currentRun"]
    assert [jobs[f"{current}-{stage}-1"] for stage in ("generate", "train", "evaluate")] == ["jobs:1", "jobs:1", "jobs:2"]
    assert len(await quiet.names("CompileRun")) == 3
    kubelet.cancel()


def _other_defaults(*inputs: Any, **more: Any) -> Any:
    found = resolve(*inputs, **more)
    return found.model_copy(update={"training": found.training.model_copy(update={"epochs": 99})})


async def _training(world: ClusterNamespace) -> bool:
    return len([name for name in await world.names("Job") if "-train-" in name]) == 3


async def _made(world: ClusterNamespace) -> dict[tuple[str, str], str]:
    """UIDs of runs, inputs, Jobs, Deployments and serving pods, by kind and name."""
    kinds = ("CompileRun", "ConfigMap", "Job", "Deployment", "Service", "Pod")
    found = [obj for kind in kinds for obj in await world.all(kind)]
    return {
        (obj["kind"], obj["metadata"]["name"]): obj["metadata"]["uid"]
        for obj in found
        if "heartbeat" not in obj["metadata"]["name"]
    }
