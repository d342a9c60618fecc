"""The operator against the real API server: what a user applies, and what then happens."""

import copy

from subterra_operator.decide.decision import parse_time
from subterra_operator.labels import HEARTBEAT_NAME
from subterra_operator.settings import Settings
from subterra_testkit.cluster.kubernetes_objects import TRAVEL, TRAVEL_AGENT, edited, scores
from subterra_testkit.cluster.operator_namespace import ClusterNamespace, condition, running_operator
from subterra_testkit.worst_procedures import worst_procedures

SECOND = edited("You are a very helpful travel booking assistant.")


async def compiled(world: ClusterNamespace, **promotion: object) -> str:
    """Applies the travel example, waits until it serves, returns the version."""
    agent = copy.deepcopy(TRAVEL_AGENT)
    if promotion:
        agent["spec"]["promotion"] = promotion
    await world.put(TRAVEL)
    await world.put(agent)
    served = await world.condition("CompiledAgent", "travel", "UpToDate", "True")
    version: str = served["status"]["serving"]["version"]
    return version


async def test_a_procedure_and_an_agent_end_in_a_served_version(world: ClusterNamespace) -> None:
    version = await compiled(world)
    [run] = await world.all("CompileRun")
    name = run["metadata"]["name"]
    assert await world.names("Job") == [f"{name}-evaluate-1", f"{name}-generate-1", f"{name}-train-1"]
    assert await world.names("Deployment") == [f"travel-{version}"]
    service = await world.get("Service", "travel")
    assert service
    assert service["spec"]["selector"]["subterra.dev/version"] == version
    assert run["status"]["verdict"]["result"] == "Pass"
    claim = await world.get("PersistentVolumeClaim", "subterra-store")
    assert claim
    assert "ownerReferences" not in claim["metadata"]


async def test_the_status_tells_the_story(world: ClusterNamespace) -> None:
    version = await compiled(world)
    agent = await world.condition("CompiledAgent", "travel", "Ready", "True", "Serving")
    status = agent["status"]
    assert (condition(agent, "Reconciling")["status"], condition(agent, "Stalled")["status"]) == ("False", "False")
    assert (status["phase"], status["stage"], status["serving"]["version"]) == ("Serving", "serving", version)
    assert "scripted teacher" in status["banner"].lower()
    assert [item["version"] for item in status["history"]] == [version]


async def test_a_rejected_candidate_never_touches_what_serves(world: ClusterNamespace) -> None:
    version = await compiled(world)
    world.kubelet.scores = scores(mean=2.0, failures=0.6)
    await world.put(SECOND)
    agent = await world.condition("CompiledAgent", "travel", "UpToDate", "False", "GateFailed")
    assert "taskSuccess: mean 2.00" in condition(agent, "UpToDate")["message"]
    assert condition(agent, "Ready")["status"] == "True"
    assert condition(agent, "Stalled")["status"] == "False"
    assert agent["status"]["candidate"]["verdict"]["result"] == "Fail"
    assert await world.names("Deployment") == [f"travel-{version}"]


async def test_a_first_candidate_that_is_rejected_leaves_nothing_served(world: ClusterNamespace) -> None:
    world.kubelet.scores = scores(mean=2.0)
    await world.put(TRAVEL)
    await world.put(TRAVEL_AGENT)
    agent = await world.condition("CompiledAgent", "travel", "Stalled", "True", "GateFailed")
    assert condition(agent, "Ready")["status"] == "False"
    assert await world.names("Deployment") == []


async def test_a_new_version_takes_over_when_it_is_ready_and_the_old_one_stays_warm(world: ClusterNamespace) -> None:
    old = await compiled(world)
    world.kubelet.serving_ready = False
    await world.put(SECOND)
    agent = await world.condition("CompiledAgent", "travel", "UpToDate", "False", "Starting")
    assert agent["status"]["serving"]["version"] == old
    world.kubelet.serving_ready = True
    agent = await world.condition("CompiledAgent", "travel", "UpToDate", "True")
    new = agent["status"]["serving"]["version"]
    assert new != old
    warm = await world.get("Deployment", f"travel-{old}")
    assert warm
    assert warm["spec"]["replicas"] == 1
    assert [item["version"] for item in agent["status"]["history"]] == [new, old]


async def test_a_finished_stage_never_runs_again_because_its_job_is_gone(world: ClusterNamespace) -> None:
    await compiled(world)
    [run] = await world.all("CompileRun")
    name = run["metadata"]["name"]
    assert await world.get("Job", f"{name}-generate-1")
    await world.delete("Job", f"{name}-generate-1")
    # A policy that nobody can meet is judged anew from the report: by then the run has been looked at again.
    await world.put({**TRAVEL_AGENT, "spec": {**TRAVEL_AGENT["spec"], "promotion": {"gate": {"minScore": 4.9}}}})
    await world.condition("CompileRun", name, "Promotable", "False", "GateFailed")
    assert await world.names("Job") == [f"{name}-evaluate-1", f"{name}-train-1"]


async def test_a_broken_procedure_is_refused_with_node_and_cure(world: ClusterNamespace) -> None:
    spec = copy.deepcopy(TRAVEL["spec"])
    spec["nodes"][0]["next"] = [{"to": "nowhere"}]
    await world.put({**TRAVEL, "spec": spec})
    await world.put(TRAVEL_AGENT)
    procedure = await world.condition("Procedure", "travel", "Accepted", "False", "InvalidProcedure")
    message = condition(procedure, "Accepted")["message"]
    assert "edge greet → nowhere: there is no node 'nowhere'; add that node or correct the edge" in message
    await world.condition("CompiledAgent", "travel", "Stalled", "True", "InvalidProcedure")
    assert await world.names("CompileRun") == []


async def test_an_edit_supersedes_the_run_at_work_and_the_way_back_resumes_it(world: ClusterNamespace) -> None:
    world.kubelet.held = {"train"}
    await world.put(TRAVEL)
    await world.put(TRAVEL_AGENT)
    [first] = await world.until(lambda: world.names("CompileRun"), "a run exists")
    await world.until(lambda: world.get("Job", f"{first}-train-1"), "the first run trains")
    await world.put(SECOND)
    await world.condition("CompileRun", first, "Succeeded", "Unknown", "Superseded")

    async def suspended() -> bool:
        job = await world.get("Job", f"{first}-train-1")
        return bool(job and job["spec"].get("suspend"))

    await world.until(suspended, "its Job is suspended")
    assert len(await world.names("CompileRun")) == 2
    await world.put(TRAVEL)
    world.kubelet.held = set()
    agent = await world.condition("CompiledAgent", "travel", "UpToDate", "True")
    assert agent["status"]["currentRun"] == first
    assert f"{first}-train-2" not in await world.names("Job")


async def test_bad_input_is_final_until_a_person_asks_again(world: ClusterNamespace) -> None:
    world.kubelet.exits = {"train": [(10, "the learning rate is not a number; set training.learningRate")]}
    await world.put(TRAVEL)
    await world.put(TRAVEL_AGENT)
    agent = await world.condition("CompiledAgent", "travel", "Stalled", "True", "CompileFailed")
    assert "set training.learningRate" in condition(agent, "Stalled")["message"]
    [name] = await world.names("CompileRun")
    assert f"{name}-train-2" not in await world.names("Job")
    asked = {"name": "travel", "annotations": {"subterra.dev/retry-at": "2026-11-20T12:00:00Z"}}
    await world.put({**TRAVEL_AGENT, "metadata": asked})
    await world.condition("CompiledAgent", "travel", "UpToDate", "True")
    assert f"{name}-train-2" in await world.names("Job")


async def test_the_next_stage_starts_within_two_seconds(world: ClusterNamespace) -> None:
    await compiled(world)
    [run] = await world.all("CompileRun")
    jobs = [job["metadata"] for job in await world.all("Job")]
    created = {job["labels"]["subterra.dev/stage"]: job["creationTimestamp"] for job in jobs}
    ends = {stage["name"]: stage.get("finishedAt") for stage in run["status"]["stages"]}
    assert seconds(ends["generate"], created["train"]) <= 2
    assert seconds(ends["train"], created["evaluate"]) <= 2


def seconds(early: str, late: str) -> float:
    """Seconds between two times."""
    return (parse_time(late) - parse_time(early)).total_seconds()


async def test_a_procedure_with_the_heartbeats_name_is_read_like_any_other(world: ClusterNamespace) -> None:
    await world.put({**TRAVEL, "metadata": {"name": HEARTBEAT_NAME}})
    await world.condition("Procedure", HEARTBEAT_NAME, "Accepted", "True")


async def test_three_procedures_of_half_a_megabyte_delay_the_procedures_of_others_by_seconds(quiet: ClusterNamespace) -> None:
    """With a single worker, so that nothing but turns keeps them apart."""
    calm = ClusterNamespace(quiet.api, f"{quiet.namespace}-calm")
    await calm.prepare([])
    namespaces = (quiet.namespace, calm.namespace)
    largest = dict(worst_procedures())
    async with running_operator(Settings(watch_namespaces=namespaces, namespace=quiet.namespace, workers=1)):
        await calm.put({**TRAVEL, "metadata": {"name": "before"}})
        await calm.condition("Procedure", "before", "Accepted", "True")
        for shape in ("knot", "chain", "mentions"):
            await quiet.put({**TRAVEL, "metadata": {"name": shape}, "spec": largest[shape]})
        await calm.put(TRAVEL)
        told = await calm.condition("Procedure", "travel", "Accepted", "True")
        since, then = told["metadata"]["creationTimestamp"], condition(told, "Accepted")["lastTransitionTime"]
        seconds = (parse_time(then) - parse_time(since)).total_seconds()
        print(f"a small procedure next to three large ones was accepted after {seconds:.0f} s")
        assert seconds <= await calm.allowance(10)
        for shape in ("knot", "chain", "mentions"):
            await quiet.until(lambda shape=shape: judged(quiet, shape), f"{shape} is judged", 120)


async def judged(world: ClusterNamespace, name: str) -> bool:
    found = await world.get("Procedure", name)
    return bool(found and found.get("status", {}).get("conditions"))
