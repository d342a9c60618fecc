"""What kopf alone would not notice: a deletion behind a 410, a kind that discovery leaves out, watches that answer 404 for long."""

import time
from collections.abc import Awaitable, Callable, Sequence

import pytest
from tests.faults.conftest import TALLY, Lives
from tests.faults.life import RECOVERY_SECONDS, Life
from tests.faults.proxy import Fault

from subterra_testkit.cluster.kubernetes_objects import TRAVEL, TRAVEL_AGENT

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
EXHAUSTIVE = pytest.mark.exhaustive
OURS = ("procedures", "compileruns", "compiledagents")
GROUP = "subterra.dev/v1alpha1"
GAP_SECONDS = 8.0
"""Within this the deletion must happen, also on a busy machine."""
MOST_LIVES = 10
"""With the shortest pauses that chance gives: half of 0.25, 0.5, 1, 2, 4 and then 8 s each."""
RESTART = "starting all watches again"
MARKER = "kopf.zalando.org/KopfFinalizerMarker"


def restarts(life: Life) -> int:
    """How often the operator has begun a fresh life within its process."""
    return life.operator.log.read_text().count(RESTART)


@pytest.mark.parametrize(("kind", "plural"), [pytest.param("Deployment", "deployments", marks=EXHAUSTIVE), ("Service", "services")])
async def test_what_is_deleted_while_a_watch_has_expired_is_noticed(lives: Lives, kind: str, plural: str) -> None:
    """The Service is the last of its kind: the list after the 410 is empty, and says nothing to kopf."""

    async def gap(life: Life) -> None:
        async with life:
            await life.served()
            await life.same(lives.reference.states[0])
            down = Fault("answer", ("watch",), plural, seconds=GAP_SECONDS, code=500)
            life.proxy.arm(down, Fault("gone", ("watch",), plural))
            life.proxy.sever(plural)
            await life.until(_fired(life, down), "the watch is down")
            [name] = await life.world.names(kind)
            await life.world.delete(kind, name)
            began = time.monotonic()
            await life.same(lives.reference.states[0])
            assert time.monotonic() - began < RECOVERY_SECONDS
            assert f"{kind} {life.world.namespace}/{name} was deleted while it was not watched" in life.operator.log.read_text()
            assert restarts(life) == 0

    await lives.live([(f"a {kind} deleted behind a 410", [])], gap)


def _fired(life: Life, fault: Fault) -> Callable[[], Awaitable[bool]]:
    async def fired() -> bool:
        return any(armed.fired for armed in life.proxy.armed if armed.fault is fault)

    return fired


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param([Fault("answer", ("discover",), GROUP, code=404)], id="our kinds"),
        pytest.param([Fault("answer", ("discover",), "batch/v1", code=404)], id="jobs", marks=EXHAUSTIVE),
        pytest.param([Fault("answer", ("discover",), "v1", code=404)], id="the core kinds and namespaces", marks=EXHAUSTIVE),
        pytest.param(
            [
                Fault("answer", ("discover",), GROUP, code=404, seconds=30.0),
                *(Fault("answer", ("list", "watch"), kind, code=404, seconds=8.0) for kind in OURS),
            ],
            id="as if the CRDs were installed later",
        ),
    ],
)
async def test_a_kind_that_was_not_discovered_is_watched_within_two_minutes(lives: Lives, plan: Sequence[Fault]) -> None:
    async def later(life: Life) -> None:
        async with life:
            began = time.monotonic()
            await life.served()
            await life.same(lives.reference.states[0])
            assert time.monotonic() - began < RECOVERY_SECONDS
            assert restarts(life) >= 1
            assert life.operator.starts == 1, "the process itself went on"

    await lives.live([("discovery", plan)], later)


async def test_watches_that_answer_404_for_25_seconds_cost_few_lives(lives: Lives) -> None:
    async def refused(life: Life) -> None:
        async with life:
            await life.served()
            await life.same(lives.reference.states[0])
            assert 1 <= restarts(life) <= MOST_LIVES
            assert (life.operator.starts, life.operator.unhealthy) == (1, 0)

    await lives.live([("404 for watches", [Fault("answer", ("watch",), code=404, seconds=25.0)])], refused)


async def test_kopf_writes_nothing_and_leaves_another_operators_finalizer_alone(lives: Lives) -> None:
    async def marked(life: Life) -> None:
        async with life:
            for obj in (TRAVEL, TRAVEL_AGENT):
                await life.world.put({**obj, "metadata": {**obj["metadata"], "finalizers": [MARKER]}})
            await life.told(TRAVEL, UpToDate="True", Ready="True")
            await life.settled()
            for obj in (TRAVEL, TRAVEL_AGENT):
                found = await life.world.get(obj["kind"], obj["metadata"]["name"])
                assert found
                assert found["metadata"]["finalizers"] == [MARKER]
                assert not [name for name in found["metadata"].get("annotations", {}) if "kopf" in name]
                await life.world.change({**obj, "metadata": {"name": "travel", "finalizers": None}})
            assert life.proxy.written
            assert life.proxy.unsigned == []

    await lives.live([("a foreign finalizer", [])], marked)
    TALLY.injected += 1
    TALLY.survived += 1
