"""A real etcd that goes back to a backup while the operator runs: what it remembers is newer than what exists."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from subterra_api.crd import all_crds
from subterra_cluster import binaries
from subterra_cluster.config import default_cache
from subterra_cluster.kubernetes.control_plane import ControlPlane
from subterra_operator.kube.api_client import KubernetesApi
from subterra_operator.labels import ATTEMPT_LABEL, RUN_LABEL, STAGE_LABEL, labels_of
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_testkit.cluster.kubernetes_objects import TRAVEL, TRAVEL_AGENT, edited
from subterra_testkit.cluster.operator_namespace import ClusterNamespace, running_operator

PATIENCE = 180.0
EDITED = edited("You are a very helpful travel booking assistant.")


@pytest.fixture
def own_plane(tmp_path: Path) -> Iterator[ControlPlane]:
    """A control plane that no other test has, since its data is set back."""
    if binaries.cached(default_cache()) is None:
        pytest.skip("the binaries are not built: make test builds them")
    with ControlPlane(tmp_path / "plane", controllers=True) as found:
        yield found


@pytest.fixture
async def world(own_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ClusterNamespace]:
    """A namespace there, with an operator in this process and a pretended kubelet."""
    monkeypatch.setenv("KUBECONFIG", str(own_plane.kubeconfig))
    api = KubernetesApi()
    found = ClusterNamespace(api, "restored")
    await found.prepare(all_crds())
    kubelet = asyncio.create_task(found.kubelet.run())
    async with running_operator(Settings(watch_namespaces=(found.namespace,), namespace=found.namespace)):
        yield found
    kubelet.cancel()
    await api.close()


def attempts(jobs: list[Object]) -> Counter[tuple[str, ...]]:
    """How many Jobs there are of each run, stage and attempt."""
    return Counter(tuple(labels_of(job)[label] for label in (RUN_LABEL, STAGE_LABEL, ATTEMPT_LABEL)) for job in jobs)


async def served(world: ClusterNamespace, procedure: Object) -> None:
    """Waits until the agent serves this version of the procedure, whose run took one attempt at each stage."""
    agent = await world.up_to_date(procedure=procedure, patience=PATIENCE)
    run = await world.get("CompileRun", agent["status"]["currentRun"])
    assert run and [stage["attempt"] for stage in run["status"]["stages"]] == [1, 1, 1, 0]
    assert set(attempts(await world.all("Job")).values()) == {1}


async def at_work(world: ClusterNamespace, stage: str) -> bool:
    """Whether the pod of a stage runs."""
    pods = [pod for pod in await world.all("Pod") if labels_of(pod).get(STAGE_LABEL) == stage]
    return any(pod["status"].get("phase") == "Running" for pod in pods)


@pytest.mark.exhaustive
async def test_the_operator_goes_on_from_a_restored_backup_and_makes_no_job_twice(
    own_plane: ControlPlane, world: ClusterNamespace, tmp_path: Path
) -> None:
    world.kubelet.held = {"train"}
    await world.put(TRAVEL)
    await world.put(TRAVEL_AGENT)
    await world.until(lambda: at_work(world, "train"), "it trains", PATIENCE)
    await asyncio.to_thread(own_plane.back_up, tmp_path / "backup")
    at_backup = {job["metadata"]["name"]: job["metadata"]["uid"] for job in await world.all("Job")}
    assert len(at_backup) == 2

    world.kubelet.held = set()
    await served(world, TRAVEL)
    await world.put(EDITED)
    await served(world, EDITED)
    assert len(await world.all("CompileRun")) == 2

    await asyncio.to_thread(own_plane.restore, tmp_path / "backup")
    assert len(await world.all("CompileRun")) == 1, "the operator has seen more than there is"
    await served(world, TRAVEL)
    uids = {job["metadata"]["name"]: job["metadata"]["uid"] for job in await world.all("Job")}
    assert uids.items() >= at_backup.items(), "the Jobs of the backup were followed, not replaced"
    assert len(uids) == 3

    await world.put(EDITED)
    await served(world, EDITED)
    assert len(await world.all("Job")) == 6, "an edit is seen although its resourceVersion has been seen before"
