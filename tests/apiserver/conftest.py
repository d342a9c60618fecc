"""A real API server with its controllers, the operator in this process, and a kubelet that only pretends."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from subterra_api.crd import all_crds
from subterra_cluster.kubernetes.control_plane import ControlPlane
from subterra_operator.kube.api_client import KubernetesApi
from subterra_operator.settings import Settings
from subterra_testkit.cluster.operator_namespace import ClusterNamespace, running_operator

NUMBERS = itertools.count(1)


@pytest.fixture
async def quiet(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ClusterNamespace]:
    """A namespace with the CRDs and without an operator."""
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    api = KubernetesApi()
    world = ClusterNamespace(api, f"test-{next(NUMBERS)}")
    await world.prepare(all_crds())
    yield world
    await api.close()


@pytest.fixture
async def world(quiet: ClusterNamespace) -> AsyncIterator[ClusterNamespace]:
    """The namespace with an operator and the pretended kubelet."""
    async with _operated([quiet]):
        yield quiet


@pytest.fixture
async def three_worlds(quiet: ClusterNamespace) -> AsyncIterator[list[ClusterNamespace]]:
    """Three namespaces with one operator."""
    worlds = [quiet, *(ClusterNamespace(quiet.api, f"{quiet.namespace}-{number}") for number in (2, 3))]
    for world in worlds[1:]:
        await world.prepare(())
    async with _operated(worlds):
        yield worlds


@asynccontextmanager
async def _operated(worlds: Sequence[ClusterNamespace]) -> AsyncIterator[None]:
    """Runs an operator, which goes by the clock of the first namespace, and a pretended kubelet in each."""
    settings = Settings(watch_namespaces=tuple(world.namespace for world in worlds), namespace=worlds[0].namespace)
    kubelets = [asyncio.create_task(world.kubelet.run()) for world in worlds]
    try:
        async with running_operator(settings, worlds[0].clock):
            yield
    finally:
        for kubelet in kubelets:
            kubelet.cancel()
