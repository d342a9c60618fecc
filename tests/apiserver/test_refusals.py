"""What the API server refuses reaches the status of run and agent, with reason and fix, and goes on once the cause is gone."""

import copy
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from subterra_operator.kube.api_client import ApiError
from subterra_operator.resources import KINDS, Object
from subterra_testkit.cluster.kubernetes_objects import TRAVEL, TRAVEL_AGENT, edited
from subterra_testkit.cluster.operator_namespace import ClusterNamespace, condition


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subterra_operator.controller.REFUSED_RETRY_SECONDS", 2.0)


def agent(execution: Object | None = None, **spec: Any) -> Object:
    """The example's agent with other execution settings."""
    found = copy.deepcopy(TRAVEL_AGENT)
    if execution:
        found["spec"]["compile"].setdefault("template", {})["execution"] = execution
    found["spec"] |= spec
    return found


def of_a_model(**serving: Any) -> Object:
    """An agent that serves a finished model."""
    spec = {"model": {"uri": "pvc://models/abc", "digest": "sha256:" + "c" * 64}, "serving": serving}
    return {**TRAVEL_AGENT, "spec": spec}


async def refused(world: ClusterNamespace, reason: str, *words: str) -> Object:
    """Waits until run and agent are Stalled for that reason, checks their messages, returns the run."""
    found = await world.condition("CompiledAgent", "travel", "Stalled", "True", reason)
    [run] = await world.all("CompileRun")
    run = await world.condition("CompileRun", run["metadata"]["name"], "Stalled", "True", reason)
    for word in words:
        assert word in condition(run, "Stalled")["message"]
        assert word in condition(found, "Stalled")["message"]
    assert (run["status"]["phase"], found["status"]["phase"]) == ("Blocked", "Blocked")
    assert condition(run, "Succeeded")["status"] == "Unknown", "the run has not ended"
    assert condition(run, "Reconciling")["status"] == condition(found, "Reconciling")["status"] == "False"
    assert condition(found, "UpToDate")["reason"] == reason
    assert all(stage["attempt"] == 0 for stage in run["status"]["stages"]), "no attempt at a Job that never was"
    assert await world.names("Job") == []
    return run


async def starts(world: ClusterNamespace) -> None:
    """Waits until the agent is served; each stage took its first attempt."""
    await world.up_to_date()
    [run] = await world.all("CompileRun")
    assert [stage["attempt"] for stage in run["status"]["stages"]] == [1, 1, 1, 0]
    assert condition(run, "Stalled")["status"] == "False"


async def quota(world: ClusterNamespace, **hard: str) -> Object:
    """A ResourceQuota that is in force."""
    spec = {"hard": {name.replace("__", "/").replace("_", "."): value for name, value in hard.items()}}
    await world.put({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}, "spec": spec})

    async def computed() -> Object | None:
        found = await world.get("ResourceQuota", "small")
        return found if found and found.get("status", {}).get("hard") == spec["hard"] else None

    found: Object = await world.until(computed, "the quota is computed", 60)
    return found


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
    ids=["node selector", "GPU without a limit"],
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
    found = await world.condition("CompiledAgent", "travel", "Stalled", "True", "QuotaExceeded")
    assert "quota: small" in condition(found, "Stalled")["message"], (
        "exceeded, or of unknown use: the API server knows our kinds late"
    )
    assert "currentRun" not in found["status"]
    small = await world.get("ResourceQuota", "small")
    assert small
    await world.api.delete(small)
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


@pytest.fixture
async def policy(world: ClusterNamespace) -> AsyncIterator[str]:
    """A policy of the cluster that wants a label on Jobs, in force in this namespace; its name."""
    name = f"jobs-need-a-team-{world.namespace}"
    rules = [{"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}]
    wanted = {"expression": "'team' in object.metadata.labels", "message": "Jobs need the label team"}
    spec: Object = {"matchConstraints": {"resourceRules": rules}, "validations": [wanted]}
    head = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    await world.put({**head, "kind": "ValidatingAdmissionPolicy", "spec": spec}, namespaced=False)
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}}}
    binding = {"policyName": name, "validationActions": ["Deny"], "matchResources": here}
    await world.put({**head, "kind": "ValidatingAdmissionPolicyBinding", "spec": binding}, namespaced=False)
    await world.until(lambda: denied(world), "the policy is in force", 60)
    yield name
    await unbind(world, name)


async def denied(world: ClusterNamespace) -> bool:
    """Whether a Job without the label is refused."""
    container = {"name": "main", "image": "none"}
    template = {"metadata": {"labels": {}}, "spec": {"restartPolicy": "Never", "containers": [container]}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "probe", "labels": {}}, "spec": {"template": template}}
    try:
        await world.api._call("POST", KINDS["Job"].path(world.namespace), job, query={"dryRun": "All"})
    except ApiError:
        return True
    return False


async def unbind(world: ClusterNamespace, name: str) -> None:
    for kind in ("ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"):
        await world.api._call("DELETE", KINDS[kind].path(None, name))


async def test_a_policy_of_the_cluster_is_named_and_without_it_the_run_starts(world: ClusterNamespace, policy: str) -> None:
    await world.put(TRAVEL)
    await world.put(agent())
    where = f"kubectl get validatingadmissionpolicy {policy} -o yaml"
    await refused(world, "AdmissionDenied", "Jobs need the label team", where, "app.kubernetes.io/managed-by=subterra")
    await world.api._call("DELETE", KINDS["ValidatingAdmissionPolicyBinding"].path(None, policy))
    await starts(world)
    await world.put(
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": policy},
            "spec": {"policyName": policy, "validationActions": ["Deny"]},
        },
        namespaced=False,
    )


@pytest.mark.parametrize(
    ("serving", "field"),
    [({"nodeSelector": {"no such key!": "x"}}, "nodeSelector"), ({"resources": {"requests": {"nvidia.com/gpu": 1}}}, "resources")],
    ids=["node selector", "GPU without a limit"],
)
async def test_a_deployment_that_is_invalid_names_the_agents_field(world: ClusterNamespace, serving: Object, field: str) -> None:
    await world.put(of_a_model(**serving))
    found = await world.condition("CompiledAgent", "travel", "Stalled", "True", "Refused")
    assert f"correct spec.serving.{field} of CompiledAgent travel" in condition(found, "Stalled")["message"]
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
    found = await world.condition("CompiledAgent", "travel", "Stalled", "True", "NameTaken")
    message = condition(found, "Stalled")["message"]
    assert f"kubectl -n {world.namespace} delete compilerun {name}" in message
    assert "immutable" in message
    made = await world.get("CompileRun", name)
    assert made
    assert made["spec"]["inputs"] == other
    await world.api.delete(made)
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
    await world.api.delete(left)
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
