"""What only the leader does: decide, write, poll pods and report resources. Whoever stands by is ready and silent."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from subterra_operator.controller import Controller
from subterra_operator.kube.heartbeat import Heartbeat
from subterra_operator.monitoring import metrics, pod_poller
from subterra_operator.resources import Key, Object
from subterra_operator.settings import Settings
from subterra_testkit.cluster import kubernetes_objects as make

AGENT = Key("CompiledAgent", make.NAMESPACE, "travel")


class Server:
    """An API server that accepts every write."""

    def __init__(self) -> None:
        self.writes: list[Object] = []

    async def patch(self, obj: Object, subresource: str = "") -> Object:
        self.writes.append(obj)
        version = str(1000 + len(self.writes))
        stored = {"uid": "1", "generation": 1, "creationTimestamp": "2026-11-20T12:00:00Z", "resourceVersion": version}
        return {**make.agent(), **obj, "metadata": {**make.agent()["metadata"], **stored}}


class Terms:
    """Stands in for the lease: begins and ends terms as the test says."""

    holds = False

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        self.work = work
        await asyncio.Event().wait()

    async def begin(self) -> None:
        """Begins a term, and returns when its decisions are made."""
        before, self.term = decided(), asyncio.ensure_future(self.work())
        for _ in range(100):
            await asyncio.sleep(0)
        assert decided() > before

    async def end(self) -> None:
        self.term.cancel()
        with suppress(asyncio.CancelledError):
            await self.term


def decided() -> float:
    return metrics.REGISTRY.get_sample_value("subterra_reconcile_total", {"kind": "CompiledAgent", "result": "ok"}) or 0.0


def reported() -> list[str]:
    """Conditions of the agent that /metrics has."""
    samples = [sample for family in metrics.REGISTRY.collect() for sample in family.samples]
    found = [sample.labels for sample in samples if sample.name == "subterra_compiledagent_condition"]
    return sorted(labels["condition"] for labels in found if labels["agent"] == "travel")


@pytest.fixture
def polls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []

    async def get(_: Any, url: str, __: Any) -> None:
        found.append(url)

    monkeypatch.setattr(pod_poller, "_get", get)
    return found


async def test_a_standby_is_ready_and_does_nothing_and_a_new_leader_does_all(polls: list[str]) -> None:
    metrics.remove_all()  # what other tests of this process have reported
    server, lease, settings = Server(), Terms(), Settings()
    heartbeat = Heartbeat(server, "system", lambda _: None, lambda: False)  # type: ignore[arg-type]
    controller = Controller(settings, server, heartbeat, lease)  # type: ignore[arg-type]
    running = asyncio.ensure_future(controller.run())
    pod = make.pod_of({"metadata": {"name": "p", "uid": "p", "labels": {}}}, running={})
    controller.handle_event("ADDED", {**pod, "status": {**pod["status"], "podIP": "10.0.0.1"}})
    controller.handle_event("ADDED", make.stored(make.agent()))
    controller.begin()
    for _ in range(20):
        await asyncio.sleep(0)
    assert controller.ready
    assert (server.writes, polls, reported()) == ([], [], [])

    await lease.begin()
    assert (len(server.writes), len(polls) > 0) == (1, True)
    assert "Ready" in reported()

    await lease.end()
    assert reported() == []
    writes = len(server.writes)
    await lease.begin()
    assert len(server.writes) == writes, "nothing has changed"
    assert "Ready" in reported(), "all is decided again, so all is reported again"
    await lease.end()
    running.cancel()
