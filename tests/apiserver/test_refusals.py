"""What the API server refuses reaches the status of run and agent, with reason and fix, and goes on once the cause is gone."""

from contextlib import suppress

import pytest

from subterra_operator.kube.api_client import ApiError
from subterra_operator.resources import KINDS, Object
from subterra_testkit.cluster.kubernetes_objects import TRAVEL, edited
from subterra_testkit.cluster.operator_namespace import ClusterNamespace, condition
from subterra_testkit.cluster.refused_agents import (
    agent,
    demand_label,
    demand_nothing,
    of_a_model,
    quota,
    refused,
    stalled_agent,
    starts,
)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subterra_operator.controller.REFUSED_RETRY_SECONDS", 2.0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"nodeSelector": {"no such key!": "x"}},
            ("no such key!", "correct spec.compile.template.execution.generate.nodeSelector of CompiledAgent travel"),
        ),
        (
            {"resources": {"requests": {"nvidia.com/gpu": 1}}},
            ("Limit must be set", "correct spec.compile.template.execution.generate.resources of CompiledAgent travel"),
        ),
    ],
    ids=["node selector", "huge pages without a limit"],
)
async def test_a_job_that_is_invalid_names_the_agents_field_and_an_edit_is_tried_at_once(
    world: ClusterNamespace, monkeypatch: pytest.MonkeyPatch, settings: Object, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr("subterra_operator.controller.REFUSED_RETRY_SECONDS", 600.0)
    await world.put(TRAVEL)
    await world.put(agent({"generate": settings}))
    await refused(world, "Refused", *words)
    await world.change(agent({"generate": dict.fromkeys(settings)}))
    await starts(world)


async def test_a_run_made_by_hand_names_its_own_field(world: ClusterNamespace) -> None:
    inputs, execution = {"procedureRef": {"name": "travel"}}, {"generate": {"nodeSelector": {"no such key!": "x"}}}
    spec = {"inputs": inputs, "execution": execution}
    await world.put(TRAVEL)
    await world.put({"apiVersion": "subterra.dev/v1alpha1", "kind": "CompileRun", "metadata": {"name": "by-hand"}, "spec": spec})
    run = await world.condition("CompileRun", "by-hand", "Stalled", "True", "Refused")
    assert "correct spec.execution.generate.nodeSelector of CompileRun by-hand" in condition(run, "Stalled")["message"]


@pytest.mark.parametrize("what", ["count__jobs_batch", "persistentvolumeclaims"])
async def test_a_quota_is_named_and_when_it_is_raised_the_run_starts(world: ClusterNamespace, what: str) -> None:
    await quota(world, **{what: "0"})
    await world.put(TRAVEL)
    await world.put(agent())
    where = f"kubectl -n {world.namespace} describe resourcequota small"
    await refused(world, "QuotaExceeded", "exceeded quota: small", "raise ResourceQuota small", where)
    await quota(world, **{what: "10"})
    await starts(world)


async def test_an_agent_without_a_run_tells_of_the_quota_of_runs_itself(world: ClusterNamespace) -> None:
    await quota(world, count__compileruns_subterra_dev="0")
    await world.put(TRAVEL)
    await world.put(agent())
    found = await stalled_agent(world, "QuotaExceeded", "quota: small")  # exceeded, or of unknown use: it learns our kinds late
    assert "currentRun" not in found["status"]
    await world.delete("ResourceQuota", "small")
    await starts(world)


async def test_a_claim_that_exists_needs_no_room_in_the_quota(world: ClusterNamespace) -> None:
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    labels = {"app.kubernetes.io/managed-by": "subterra"}
    store = {"name": "subterra-store", "labels": labels}
    await world.put({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": store, "spec": claim})
    await quota(world, persistentvolumeclaims="1")
    await world.put(TRAVEL)
    await world.put(agent())
    await starts(world)


CONTAINER = {"name": "main", "image": "none"}
TEMPLATE = {"metadata": {"labels": {}}, "spec": {"restartPolicy": "Never", "containers": [CONTAINER]}}
JOB = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "probe", "labels": {}}, "spec": {"template": TEMPLATE}}


async def test_a_policy_of_the_cluster_is_named_and_without_it_the_run_starts(world: ClusterNamespace) -> None:
    policy = await demand_label(world, JOB)
    await world.put(TRAVEL)
    await world.put(agent())
    where = f"kubectl get validatingadmissionpolicy {policy} -o yaml"
    await refused(world, "AdmissionDenied", "jobs need the label team", where, "app.kubernetes.io/managed-by=subterra")
    await demand_nothing(world, policy)
    await starts(world)


@pytest.mark.parametrize(
    ("serving", "field"),
    [
        ({"nodeSelector": {"no such key!": "x"}}, "nodeSelector"),
        ({"resources": {"requests": {"hugepages-2Mi": "4Mi"}}}, "resources"),
    ],
    ids=["node selector", "huge pages without a limit"],
)
async def test_a_deployment_that_is_invalid_names_the_agents_field(world: ClusterNamespace, serving: Object, field: str) -> None:
    await world.put(of_a_model(**serving))
    await stalled_agent(world, "Refused", f"correct spec.serving.{field} of CompiledAgent travel")
    await world.change(of_a_model(**{field: None}))
    await world.up_to_date()


async def test_a_claim_that_the_administrator_made_is_used_once_it_is_handed_over(world: ClusterNamespace) -> None:
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    store = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "subterra-store"}, "spec": claim}
    await world.put(store)
    await world.put(TRAVEL)
    await world.put(agent())
    label = f"kubectl -n {world.namespace} label pvc subterra-store app.kubernetes.io/managed-by=subterra"
    await refused(world, "NameTaken", "exists and is not managed by Subterra", label)
    labels = {"app.kubernetes.io/managed-by": "subterra"}
    await world.change({**store, "metadata": {"name": "subterra-store", "labels": labels}})
    await starts(world)


async def test_a_run_of_the_wanted_name_with_other_inputs_is_named(quiet: ClusterNamespace, world: ClusterNamespace) -> None:
    await world.put(TRAVEL)
    await world.put(agent())
    [run] = await world.until(lambda: world.all("CompileRun"), "a run exists")
    name = run["metadata"]["name"]
    await world.delete("CompiledAgent", "travel")
    await world.until(lambda: gone(world, name), "the run is deleted")
    other = {"procedureRef": {"name": "other"}}
    spec = {"inputs": other, "execution": {"suspend": True}}
    theirs = {"apiVersion": "subterra.dev/v1alpha1", "kind": "CompileRun", "metadata": {"name": name}, "spec": spec}
    await world.put(theirs)
    await world.put(agent())
    await stalled_agent(world, "NameTaken", f"kubectl -n {world.namespace} delete compilerun {name}", "immutable")
    made = await world.get("CompileRun", name)
    assert made
    assert made["spec"]["inputs"] == other
    await world.delete("CompileRun", name)
    await starts(world)


async def gone(world: ClusterNamespace, run: str) -> bool:
    return await world.get("CompileRun", run) is None


async def test_a_network_policy_of_somebody_else_is_left_alone(world: ClusterNamespace) -> None:
    spec: Object = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    metadata = {"name": "subterra-default", "labels": {"team": "security"}}
    theirs = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}
    await world.put(theirs)
    await world.put(TRAVEL)
    await world.put(agent())
    await refused(world, "NameTaken", f"NetworkPolicy {world.namespace}/subterra-default exists")
    left = await world.get("NetworkPolicy", "subterra-default")
    assert left
    assert left["spec"] == spec
    await world.delete("NetworkPolicy", "subterra-default")
    await starts(world)


async def test_while_a_version_serves_a_refused_run_shows_in_up_to_date_and_scaling_goes_on(world: ClusterNamespace) -> None:
    await world.put(TRAVEL)
    await world.put(agent())
    served = await world.up_to_date()
    await quota(world, count__compileruns_subterra_dev="1")
    await world.put(edited("You are a very helpful travel booking assistant."))
    await world.condition("CompiledAgent", "travel", "UpToDate", "False", "QuotaExceeded")
    await world.change(agent(serving={"replicas": 2}))

    async def scaled() -> bool:
        deployment = await world.get("Deployment", f"travel-{served['status']['serving']['version']}")
        return bool(deployment and deployment["spec"]["replicas"] == 2)

    await world.until(scaled, "the serving version is scaled")
    found = await world.condition("CompiledAgent", "travel", "UpToDate", "False", "QuotaExceeded")
    assert (condition(found, "Ready")["status"], condition(found, "Stalled")["status"]) == ("True", "False")
    assert found["status"]["currentRun"] == served["status"]["currentRun"], "the run that was not created is not named"
    assert found["status"]["phase"] == "Blocked"


async def test_a_namespace_that_is_being_deleted_takes_run_and_agent_with_it(world: ClusterNamespace) -> None:
    world.kubelet.held = {"generate"}
    await world.put(TRAVEL)
    await world.put(agent())
    await world.until(lambda: world.names("Job"), "it generates")
    await world.api._call("DELETE", KINDS["Namespace"].path(None, world.namespace))
    with suppress(ApiError):
        await world.change(agent({"train": {"nodeSelector": {"pool": "other"}}}))

    async def empty() -> bool:
        return not [name for kind in ("CompiledAgent", "CompileRun", "Job") for name in await world.names(kind)]

    await world.until(empty, "everything is gone", 60)
