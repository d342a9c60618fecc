"""A real API server with its controllers, the operator in this process, and a kubelet that only pretends."""

import asyncio
import itertools
from collections.abc import AsyncIterator

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
    settings = Settings(watch_namespaces=(quiet.namespace,), namespace=quiet.namespace)
    kubelet = asyncio.create_task(quiet.kubelet.run())
    async with running_operator(settings):
        yield quiet
        kubelet.cancel()
