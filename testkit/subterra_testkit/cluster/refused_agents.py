"""For tests of refused writes on a real API server: agents, obstacles, and what run and agent must say about them in time."""

import copy
from contextlib import suppress
from typing import Any

from subterra_operator.decide.decision import parse_time
from subterra_operator.kube.api_client import ApiError, NotFoundError
from subterra_operator.resources import KINDS, Object
from subterra_testkit.cluster.kubernetes_objects import TRAVEL_AGENT
from subterra_testkit.cluster.operator_namespace import ClusterNamespace, condition

POLICY = "ValidatingAdmissionPolicy"
PROMISED_SECONDS = 5.0
"""Within this after `kubectl apply`, run and agent name what was refused."""


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


async def quota(world: ClusterNamespace, **hard: str) -> Object:
    """A ResourceQuota that is in force; in names ``_`` stands for a dot and ``__`` for a slash."""
    spec = {"hard": {name.replace("__", "/").replace("_", "."): value for name, value in hard.items()}}
    await world.put({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}, "spec": spec})

    async def computed() -> Object | None:
        found = await world.get("ResourceQuota", "small")
        return found if found and found.get("status", {}).get("hard") == spec["hard"] else None

    found: Object = await world.until(computed, "the quota is computed", 60)
    return found


async def demand_label(world: ClusterNamespace, probe: Object) -> str:
    """Has a policy refuse new objects of the probe's kind without the label `team`, in this namespace; the name of the policy."""
    kind, name = KINDS[probe["kind"]], f"{KINDS[probe['kind']].plural}-need-a-team-{world.namespace}"
    rules = [{"apiGroups": [kind.group], "apiVersions": [kind.version], "operations": ["CREATE"], "resources": [kind.plural]}]
    wanted = {"expression": "'team' in object.metadata.labels", "message": f"{kind.plural} need the label team"}
    spec: Object = {"matchConstraints": {"resourceRules": rules}, "validations": [wanted]}
    head = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    await world.put({**head, "kind": POLICY, "spec": spec}, namespaced=False)
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}}}
    binding = {"policyName": name, "validationActions": ["Deny"], "matchResources": here}
    await world.put({**head, "kind": f"{POLICY}Binding", "spec": binding}, namespaced=False)
    await world.until(lambda: _is_denied(world, probe), "the policy is in force", 60)
    return name


async def demand_nothing(world: ClusterNamespace, policy: str) -> None:
    """Deletes a policy, unless that is done."""
    for kind in (f"{POLICY}Binding", POLICY):
        with suppress(NotFoundError):
            await world.api._call("DELETE", KINDS[kind].path(None, policy))


async def _is_denied(world: ClusterNamespace, probe: Object) -> bool:
    try:
        await world.api._call("POST", KINDS[probe["kind"]].path(world.namespace), probe, query={"dryRun": "All"})
    except ApiError as error:
        return "need the label team" in error.message
    return False


async def stalled_agent(world: ClusterNamespace, reason: str, *words: str) -> Object:
    """Waits until the agent is Stalled for that reason, checks its message, its REASON column and the time it took."""
    found = await world.condition("CompiledAgent", "travel", "Stalled", "True", reason)
    _says(found, words)
    assert found["status"]["phase"] == "Blocked"
    assert condition(found, "Reconciling")["status"] == "False"
    assert condition(found, "UpToDate")["reason"] == reason
    assert await world.column("CompiledAgent", "travel", "Reason") == reason
    await _in_time(world, found, found)
    return found


async def refused(world: ClusterNamespace, reason: str, *words: str) -> Object:
    """Waits until run and agent are Stalled for that reason, checks both as above and that no attempt counts; returns the run."""
    found = await stalled_agent(world, reason, *words)
    [run] = await world.all("CompileRun")
    name = run["metadata"]["name"]
    run = await world.condition("CompileRun", name, "Stalled", "True", reason)
    _says(run, words)
    assert run["status"]["phase"] == "Blocked"
    assert condition(run, "Succeeded")["status"] == "Unknown", "the run has not ended"
    assert condition(run, "Reconciling")["status"] == "False"
    assert await world.column("CompileRun", name, "Reason") == reason
    await _in_time(world, run, found)
    assert all(stage["attempt"] == 0 for stage in run["status"]["stages"]), "no attempt at a Job that never was"
    assert await world.names("Job") == []
    return run


async def starts(world: ClusterNamespace) -> None:
    """Waits until the agent is served; each stage took its first attempt."""
    await world.up_to_date()
    [run] = await world.all("CompileRun")
    assert [stage["attempt"] for stage in run["status"]["stages"]] == [1, 1, 1, 0]
    assert condition(run, "Stalled")["status"] == "False"


def _says(obj: Object, words: tuple[str, ...]) -> None:
    message = condition(obj, "Stalled")["message"]
    assert all(word in message for word in words), f"{obj['kind']}: {message}"


async def _in_time(world: ClusterNamespace, obj: Object, applied: Object) -> None:
    """Compares the operator's clock with the API server's, both to the second: how slow the test itself is does not matter."""
    told, made = condition(obj, "Stalled")["lastTransitionTime"], applied["metadata"]["creationTimestamp"]
    seconds = (parse_time(told) - parse_time(made)).total_seconds()
    print(f"{obj['kind']} was Stalled {seconds:.0f} s after the agent was applied")
    assert seconds <= await world.allowance(PROMISED_SECONDS)
