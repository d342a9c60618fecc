"""A CRD of another project that a test removes from the API server and installs, as an administrator may at any time."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import yaml
from tests.programs import ModuleCrd

from subterra_cluster.config import default_cache
from subterra_operator.kube.api_client import NotFoundError
from subterra_operator.resources import KINDS, Object
from subterra_testkit.cluster.operator_namespace import ClusterNamespace

DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
"""What kubectl asks for."""


@asynccontextmanager
async def absent(world: ClusterNamespace, crd: ModuleCrd) -> AsyncIterator[Object]:
    """Gives the CRD, which the API server does not have at the beginning of the block, and no longer after it."""
    if not (path := crd.path(default_cache())).exists():
        pytest.skip("the CRD is not in the cache: make test-tools gets it")
    found: Object = yaml.safe_load(path.read_text())
    await remove(world, found)
    yield found
    await remove(world, found)


async def remove(world: ClusterNamespace, crd: Object) -> None:
    """Removes the CRD with all of its objects, whoever wanted to finalize them."""
    path, kind = KINDS["CustomResourceDefinition"].path(None, crd["metadata"]["name"]), crd["spec"]["names"]["kind"]

    async def gone() -> bool:
        try:
            await world.api._call("GET", path)
        except NotFoundError:
            return not await world.listed(kind) and not await discovered(world, crd)
        return False

    for left in await world.all(kind) if await world.listed(kind) else ():
        if left["metadata"].get("finalizers"):
            named = {"name": left["metadata"]["name"], "finalizers": None}
            await world.change({"apiVersion": left["apiVersion"], "kind": kind, "metadata": named})
    with suppress(NotFoundError):
        await world.api._call("DELETE", path)  # once: each time it is changed, and its controller begins again
    await world.until(gone, f"there is no {kind}", 90)


async def install(world: ClusterNamespace, crd: Object) -> None:
    """Installs the CRD; afterwards the API server serves its objects, and kubectl knows the kind."""
    await world.api.apply(crd)
    kind = crd["spec"]["names"]["kind"]

    async def served() -> bool:
        return await discovered(world, crd) and await world.listed(kind)

    await world.until(served, f"objects of the kind {kind} are served", 90)


async def discovered(world: ClusterNamespace, crd: Object) -> bool:
    """Whether the API server's discovery lists the kind, which it does seconds before or after it serves its objects."""
    groups = (await world.api._call("GET", "/apis", accept=DISCOVERY))["items"]
    versions = [version for group in groups if group["metadata"]["name"] == crd["spec"]["group"] for version in group["versions"]]
    kinds = {resource["responseKind"]["kind"] for version in versions for resource in version.get("resources", ())}
    return crd["spec"]["names"]["kind"] in kinds


def lost(wanted: Any, kept: Any, path: str) -> Iterator[str]:
    """What the API server does not store as it was sent; defaults that it adds do not count."""
    if isinstance(wanted, dict) and isinstance(kept, dict):
        for name, value in wanted.items():
            yield from lost(value, kept.get(name), f"{path}.{name}")
    elif isinstance(wanted, list) and isinstance(kept, list) and len(wanted) == len(kept):
        for number, value in enumerate(wanted):
            yield from lost(value, kept[number], f"{path}[{number}]")
    elif wanted != kept:
        yield f"{path}: {wanted} became {kept}"
