"""Each right of the operator taken away in turn, on the real API server: something fails, and says which right is missing."""

import asyncio
import json
import os
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

from subterra_cluster.kubernetes.control_plane import ControlPlane
from subterra_operator.decide.agent import rollout
from subterra_operator.resources import KINDS, Kind, Object
from subterra_operator.settings import Settings
from subterra_testkit.cluster.kubernetes_objects import TRAVEL, TRAVEL_AGENT, edited
from subterra_testkit.cluster.operator_namespace import ClusterNamespace, running_operator
from subterra_testkit.cluster.operator_rights import HEARTBEAT, LEASE, USED, Right

ALL = [*dict.fromkeys([*USED, *HEARTBEAT, *LEASE])]
RARE = {
    Right("batch", "jobs", "get"): "tests/faults/test_crashes.py: a Job exists that the operator does not know",
    Right("", "services", "get"): "tests/faults/test_crashes.py: a Service exists that the operator does not know",
    Right("", "configmaps", "get"): "tests/unit/operator/kube/test_heartbeat.py: a standby reads the leader's beat",
    Right("", "events", "list"): "tests/apiserver/test_pods.py: a pod that cannot be made",
    Right("events.k8s.io", "events", "patch"): "tests/apiserver/test_events.py: the same Event again",
    Right("subterra.dev", "compileruns", "delete"): "tests/unit/operator/test_decide_agent.py: runs beyond the history limit",
    Right("subterra.dev", "compileruns/finalizers", "update"): "asked for by an admission plugin that is off by default",
    Right("subterra.dev", "compiledagents/finalizers", "update"): "asked for by an admission plugin that is off by default",
}
"""What one compilation and one edit do not need, and where it is needed."""
SOME = {Right("", "pods", "list"), Right("apps", "deployments", "get"), Right("networking.k8s.io", "networkpolicies", "get")}
RBAC = ("rbac.authorization.k8s.io", "v1")
PATIENCE_SECONDS = 60


def role_of(rights: Iterable[Right], namespace: str) -> list[Object]:
    """ServiceAccount, Role and RoleBinding of an operator with these rights in its only namespace."""
    verbs = defaultdict[tuple[str, str], list[str]](list)
    for right in rights:
        verbs[right.group, right.resource].append(right.verb)
    rules = [{"apiGroups": [group], "resources": [name], "verbs": sorted(set(found))} for (group, name), found in verbs.items()]
    reference = {"apiGroup": RBAC[0], "kind": "Role", "name": "limited"}
    subject = {"kind": "ServiceAccount", "name": "limited", "namespace": namespace}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "limited"}},
        {"apiVersion": "/".join(RBAC), "kind": "Role", "metadata": {"name": "limited"}, "rules": rules},
        {
            "apiVersion": "/".join(RBAC),
            "kind": "RoleBinding",
            "metadata": {"name": "limited"},
            "roleRef": reference,
            "subjects": [subject],
        },
    ]


async def limited(world: ClusterNamespace, plane: ControlPlane, folder: Path, rights: Iterable[Right]) -> Path:
    """A kubeconfig with these rights and no others."""
    KINDS.update({kind: Kind(kind, *RBAC, f"{kind.lower()}s", ours=True) for kind in ("Role", "RoleBinding")})
    KINDS["ServiceAccount"] = Kind("ServiceAccount", "", "v1", "serviceaccounts", ours=True)
    for obj in role_of(rights, world.namespace):
        await world.put(obj)
    command = [plane.kubectl, "--kubeconfig", plane.kubeconfig, "create", "token", "limited", "--namespace", world.namespace]
    token = (await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)).stdout.strip()
    path = folder / "kubeconfig"
    view = [plane.kubectl, "--kubeconfig", plane.kubeconfig, "config", "view", "--raw", "--output=json"]
    config = json.loads((await asyncio.to_thread(subprocess.run, view, capture_output=True, text=True, check=True)).stdout)
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    path.write_text(json.dumps(config))
    return path


async def life(world: ClusterNamespace) -> None:
    """One compilation, an edit that supersedes a run at work, and a second version; ends when it cannot go on."""
    more = {"promotion": {"keepWarmSeconds": 0}, "serving": {"replicas": 2}}
    agent = {**TRAVEL_AGENT, "spec": {**TRAVEL_AGENT["spec"], **more}}
    await world.put(TRAVEL)
    await world.put(agent)
    await world.up_to_date()
    world.kubelet.held = {"train"}
    await world.put(edited("You sell trips."))
    await world.until(lambda: trains(world), "the second run trains")
    await world.put(edited("You plan trips."))
    world.kubelet.held = set()
    await world.up_to_date(procedure=edited("You plan trips."))


async def trains(world: ClusterNamespace) -> bool:
    return len([name for name in await world.names("Job") if "-train-" in name]) > 1


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "taken",
    [
        pytest.param(right, marks=() if right in SOME else pytest.mark.exhaustive, id="-".join(filter(None, right)))
        for right in ALL
        if right not in RARE
    ],
)
async def test_without_any_one_right_something_fails_and_names_it(
    *,
    quiet: ClusterNamespace,
    plane: ControlPlane,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    taken: Right,
) -> None:
    monkeypatch.setattr(rollout, "KEEP_SECONDS", 0.0)
    path = await limited(quiet, plane, tmp_path, [right for right in ALL if right != taken])
    monkeypatch.setitem(os.environ, "KUBECONFIG", str(path))
    words = f'cannot {taken.verb} resource "{taken.resource}"'

    async def named() -> bool:
        told = [await quiet.all(kind) for kind in ("CompiledAgent", "CompileRun", "Procedure")]
        text = json.dumps([obj.get("status", {}) for objects in told for obj in objects]).replace('\\"', '"')
        return words in text or words in caplog.text

    kubelet = asyncio.create_task(quiet.kubelet.run())
    async with running_operator(Settings(watch_namespaces=(quiet.namespace,), namespace=quiet.namespace)):
        lived = asyncio.create_task(life(quiet))
        await quiet.until(named, f"somebody says: {words}", PATIENCE_SECONDS)
        lived.cancel()
    kubelet.cancel()
    await asyncio.gather(lived, return_exceptions=True)


def test_every_right_is_tried_or_says_where_it_is_needed() -> None:
    assert RARE.keys() < set(ALL)
    assert SOME.isdisjoint(RARE)
