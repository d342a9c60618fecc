"""The undisturbed life, and the count of faults that were injected and survived."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.faults.life import ACTS, Life, Reference, lived, undisturbed
from tests.faults.proxy import Fault

from subterra_cluster.kubernetes.control_plane import ControlPlane
from subterra_operator.kube.api_client import KubernetesApi

AT_ONCE = 4
"""Lives that go on side by side; most of their time is waiting."""


@dataclass
class Tally:
    """What was injected, and how much of it was survived."""

    injected: int = 0
    survived: int = 0


TALLY = Tally()
TAKEOVERS: list[tuple[str, float]] = []
"""Why another operator took over, and seconds until it might write."""


def pytest_unconfigure() -> None:
    """The last lines of all."""
    for why, seconds in TAKEOVERS:
        print(f"takeover {why}: {seconds:.1f} s")
    if TALLY.injected:
        print(f"injected {TALLY.injected} survived {TALLY.survived}")


@pytest.fixture(scope="session")
def reference(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reference]:
    """The undisturbed life."""
    before = os.environ.get("KUBECONFIG")
    os.environ["KUBECONFIG"] = str(plane.kubeconfig)
    yield asyncio.run(_undisturbed(plane, tmp_path_factory.mktemp("undisturbed")))
    os.environ.pop("KUBECONFIG") if before is None else os.environ.update(KUBECONFIG=before)


async def _undisturbed(plane: ControlPlane, folder: Path) -> Reference:
    api = KubernetesApi()
    try:
        return await undisturbed(Life(plane, api, folder))
    finally:
        await api.close()


@dataclass
class Lives:
    """Many lives, some at once, each with its faults."""

    plane: ControlPlane
    folder: Path
    reference: Reference

    async def survive(self, plans: Sequence[tuple[str, Sequence[Fault]]], acts: Sequence[str] = ACTS) -> list[Fault]:
        """Lives each plan; all must end as the undisturbed life. Returns the faults that happened."""
        return await self.live(plans, lambda life: lived(life, self.reference, acts))

    async def live(self, plans: Sequence[tuple[str, Sequence[Fault]]], way: Callable[[Life], Awaitable[object]]) -> list[Fault]:
        """Lives each plan this way, some at once; counts what was injected and survived. Returns the faults that happened."""
        api, slots, failures = KubernetesApi(), asyncio.Semaphore(AT_ONCE), list[str]()

        async def one(name: str, plan: Sequence[Fault]) -> list[Fault]:
            async with slots:
                life = Life(self.plane, api, self.folder, plan, name)
                try:
                    await way(life)
                    TALLY.survived += len(life.past())
                except Exception as error:
                    failures.append(str(error) if isinstance(error, AssertionError) else f"{name}: {error!r}")
                TALLY.injected += len(life.past())
                return life.past()

        found = await asyncio.gather(*(one(name, plan) for name, plan in plans))
        await api.close()
        assert not failures, "\n\n".join(failures)
        return [fault for past in found for fault in past]


@pytest.fixture
def lives(plane: ControlPlane, tmp_path: Path, reference: Reference) -> Lives:
    """To live with faults."""
    return Lives(plane, tmp_path, reference)
