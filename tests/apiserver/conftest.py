"""A real API server with its controllers, the operator in this process, and a kubelet that only pretends."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest

from subterra_api.crd import all_crds
from subterra_cluster.control_plane import ControlPlane
from subterra_operator.kube.client import Api
from subterra_operator.settings import Settings
from subterra_testkit.operator_namespace import World, operating

NUMBERS = itertools.count(1)


@pytest.fixture
async def quiet(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """A namespace with the CRDs and without an operator."""
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    api = Api()
    world = World(api, f"test-{next(NUMBERS)}")
    await world.prepare(all_crds())
    yield world
    await api.close()


@pytest.fixture
async def world(quiet: World) -> AsyncIterator[World]:
    """The namespace with an operator and the pretended kubelet."""
    settings = Settings(watch_namespaces=(quiet.namespace,), namespace=quiet.namespace)
    kubelet = asyncio.create_task(quiet.kubelet.run())
    async with operating(settings):
        yield quiet
        kubelet.cancel()
