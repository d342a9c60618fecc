"""Kinds of other projects, which the API server gets and loses during a test."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from subterra_operator.kube.api_client import NotFoundError
from subterra_operator.resources import KINDS, Object
from subterra_testkit.cluster.operator_namespace import ClusterNamespace


async def remove(world: ClusterNamespace, crd: Object) -> None:
    """Removes a CRD with all of its objects, whoever wanted to finalize them."""
    path, kind = KINDS["CustomResourceDefinition"].path(None, crd["metadata"]["name"]), crd["spec"]["names"]["kind"]

    async def gone() -> bool:
        try:
            await world.api._call("GET", path)
        except NotFoundError:
            return not await world.listed(kind)
        return False

    for found in await world.all(kind) if await world.listed(kind) else ():
        if found["metadata"].get("finalizers"):
            await world.change(
                {key: found[key] for key in ("apiVersion", "kind")}
                | {"metadata": {"name": found["metadata"]["name"], "finalizers": None}}
            )
    with suppress(NotFoundError):
        await world.api._call("DELETE", path)  # once: each time it is changed, and its controller begins again
    await world.until(gone, f"there are no objects of kind {kind}", 90)


async def install(world: ClusterNamespace, crd: Object) -> None:
    """Applies a CRD, and waits until its kind is served."""
    await world.api.apply(crd)
    await world.until(lambda: world.listed(crd["spec"]["names"]["kind"]), f"{crd['metadata']['name']} is served")


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
