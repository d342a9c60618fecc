"""Two operators from the start, of which one leads: whatever happens to it, the other takes over, and only one of them writes."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from tests.faults.conftest import TAKEOVERS, TALLY, Lives
from tests.faults.life import Life
from tests.faults.process import OperatorProcess
from tests.faults.proxy import Fault

from subterra_operator.resources import Key

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]
UNCLEAN_SECONDS, CLEAN_SECONDS = 20.0, 5.0
"""The promise: how soon the other operator may write after the leader died, or was shut down."""
PAST_THE_FENCE = 1
"""Writes that a stopped process had begun to send, at most: nothing can call them back."""
IN_HAND = [
    Fault("freeze", ("get",), "procedures"),
    Fault("freeze", ("get",), "compiledagents"),
    *(Fault("freeze", ("get",), "compileruns", nth=nth) for nth in (1, 2, 3)),
    Fault("freeze", ("get",), "deployments"),
]
"""Live checks just before a write: of a run's input, the run, its Jobs, the Service. The reply is there when the operator wakes."""


@asynccontextmanager
async def standby(life: Life) -> AsyncIterator[OperatorProcess]:
    """A second operator with a warm cache, while the life's own one leads."""
    await life.until(life.operator.leads, "the first operator leads")
    second = OperatorProcess(life.operator.settings.parent / "second", life.world.namespace)
    second.kubeconfig.write_text(life.plane.kubeconfig.read_text())
    async with second:
        await life.until(lambda: ready(second), "the second operator is ready")
        yield second


async def ready(operator: OperatorProcess) -> bool:
    """Whether its cache is complete: a standby must be ready, or no rollout would ever end."""
    return await operator.answers("readyz") == 200


async def taken_over(life: Life, second: OperatorProcess, why: str) -> float:
    """Seconds from now until the second operator may write; printed at the end of all tests."""
    started = time.monotonic()
    while not await second.leads():
        assert time.monotonic() - started < 3 * UNCLEAN_SECONDS, f"{life.name}: nobody took over; {second.log}"
        await asyncio.sleep(0.05)
    TAKEOVERS.append((why, time.monotonic() - started))
    return TAKEOVERS[-1][1]


async def holder(life: Life) -> str:
    """The pod in the Lease."""
    lease = await life.api.get(Key("Lease", life.world.namespace, "subterra-operator"))
    return str(lease["spec"]["holderIdentity"])


async def one(lives: Lives, name: str, way: Callable[[Life], Awaitable[None]]) -> None:
    """A life with one fault that the test itself makes."""
    TALLY.injected += 1
    await lives.live([(name, [])], way)
    TALLY.survived += 1


@pytest.mark.parametrize(
    ("number", "limit"), [(signal.SIGTERM, CLEAN_SECONDS), (signal.SIGKILL, UNCLEAN_SECONDS)], ids=["shut down", "killed"]
)
async def test_the_standby_takes_over_in_the_middle_of_a_run(lives: Lives, number: signal.Signals, limit: float) -> None:
    async def way(life: Life) -> None:
        life.kubelet.held = {"train"}
        async with life, standby(life) as second:
            done = asyncio.create_task(life.served())
            await life.until(lambda: training(life), "the run trains")
            assert not await second.leads()
            ending = asyncio.create_task(life.operator.end(number))
            assert await taken_over(life, second, f"after {number.name}") <= limit
            await ending
            life.kubelet.held = set()
            await done
            await life.same(lives.reference.states[0])
            await life.paid_once()
            assert await holder(life) == second.pod

    await one(lives, f"{number.name} to the leader", way)


async def training(life: Life) -> bool:
    return any("-train-" in name for name in await life.world.names("Job"))


async def test_a_leader_that_wakes_with_a_write_in_its_hand_is_refused(lives: Lives) -> None:
    refused = list[float]()

    async def way(life: Life) -> None:
        async with life, standby(life) as second:
            done = asyncio.create_task(life.served())

            async def frozen() -> bool:
                return life.operator.frozen

            await life.until(frozen, "the leader is stopped just before a write")
            await taken_over(life, second, "after SIGSTOP")
            sent = life.proxy.received
            life.operator.go_on()
            await life.until(lambda: awake(life.operator), "the first operator answers again")
            refused.append(await life.operator.metric("subterra_refused_writes_total") or 0)
            await done
            await life.stays(lives.reference.states[0])
            await life.paid_once()
            # A write may have passed the fence when the process was stopped: what becomes of it is in `test_two_operators.py`.
            assert life.proxy.received <= sent + PAST_THE_FENCE, f"{life.name}: the former leader went on writing"
            assert (await life.operator.leads(), life.operator.unhealthy) == (False, 0)

    await lives.live([(str(fault), [fault]) for fault in IN_HAND], way)
    print(f"writes that the fence refused: {refused}")
    assert len(refused) == len(IN_HAND)
    assert sum(refused) > 0, "no write was due when a leader woke up, so the fence was not tested"


async def awake(operator: OperatorProcess) -> bool:
    return await operator.metric("subterra_leader") == 0


async def test_a_leader_that_is_cut_off_stops_before_the_other_begins_and_stays_behind_it(lives: Lives) -> None:
    async def way(life: Life) -> None:
        async with life, standby(life) as second:
            done = asyncio.create_task(life.served())
            await life.until(lambda: training(life), "the run trains")
            cut_at = time.monotonic()
            life.proxy.part()
            took_over = asyncio.create_task(taken_over(life, second, "after a partition"))
            await life.until(lambda: awake(life.operator), "the leader that is cut off gives up")
            gave_up_after = time.monotonic() - cut_at
            assert not took_over.done(), "two operators could write"
            assert await took_over <= UNCLEAN_SECONDS
            print(f"a leader that was cut off gave up after {gave_up_after:.1f} s")
            sent = life.proxy.received
            await done
            life.proxy.join()
            await life.stays(lives.reference.states[0])
            await life.paid_once()
            assert (life.proxy.received, await holder(life)) == (sent, second.pod)
            assert life.operator.unhealthy == 0

    await one(lives, "the leader is cut off", way)


async def test_a_container_that_is_restarted_leads_again_at_once(lives: Lives) -> None:
    async def way(life: Life) -> None:
        async with life, standby(life) as second:
            life.operator.kill()
            started = time.monotonic()

            async def again() -> bool:
                return life.operator.starts == 2 and await life.operator.leads()

            await life.until(again, "the restarted container leads")
            TAKEOVERS.append(("by the restarted container of the same pod", time.monotonic() - started))
            assert not await second.leads()
            await life.served()
            await life.same(lives.reference.states[0])

    await one(lives, "the leader's container ends", way)
