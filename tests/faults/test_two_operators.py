"""An operator is stopped when a write has left it, a second one takes over, and the write arrives although the first is no leader.

The Lease cannot stop such a write; names, UIDs and resourceVersions do. What has not been sent is in ``test_takeover.py``.
"""

import asyncio
import signal
from collections.abc import Sequence

import pytest
from tests.faults.conftest import Lives
from tests.faults.life import ACTS, Life, Reference
from tests.faults.process import OperatorProcess
from tests.faults.proxy import Fault

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]


def stops(reference: Reference) -> list[Fault]:
    """The operator is stopped with the write in its hand; one such fault for each write but the agent's status."""
    writes = [
        (request, before) for request, before in reference.writes if (request.verb, request.kind) != ("status", "compiledagents")
    ]
    return [Fault("freeze", (request.verb,), request.kind, request.name, nth=before + 1) for request, before in writes]


async def relieved(life: Life, reference: Reference) -> None:
    """A second operator finishes the act in which the first was stopped; then the first goes on, and nothing may change."""
    async with life:
        for act, state in zip(ACTS, reference.states, strict=True):
            await _relieved_act(life, act, state)
        await life.paid_once()


async def _relieved_act(life: Life, act: str, state: str) -> None:
    done = asyncio.create_task(getattr(life, act)())

    async def over() -> bool:
        return done.done() or life.operator.frozen

    await life.until(over, "the act is over or the operator is stopped")
    if life.operator.frozen:
        second = OperatorProcess(life.operator.settings.parent / "second", life.world.namespace)
        second.kubeconfig.write_text(life.plane.kubeconfig.read_text())
        async with second:
            await done
            await life.same(state)
            life.operator.go_on()
            await life.stays(state)
            await second.end(signal.SIGTERM)
    await done
    await life.same(state)


def some(faults: Sequence[Fault], step: int) -> list[tuple[str, Sequence[Fault]]]:
    """A life for every ``step``-th fault."""
    return [(str(fault), [fault]) for fault in faults[::step]]


@pytest.mark.parametrize("step", [pytest.param(6, id="some"), pytest.param(1, id="all", marks=pytest.mark.exhaustive)])
async def test_what_a_stopped_operator_still_wanted_to_write_changes_nothing(lives: Lives, reference: Reference, step: int) -> None:
    await lives.live(some(stops(reference), step), lambda life: relieved(life, reference))
