"""Kubernetes Events on a real API server: a whole life as `kubectl describe` shows it, and refusals that are survived."""

import asyncio
import subprocess

import pytest

from subterra_cluster.kubernetes.control_plane import ControlPlane
from subterra_operator.kube.event_recorder import REPORTER, EventRecorder
from subterra_operator.main import run_operator
from subterra_operator.resources import KINDS, Object
from subterra_operator.settings import LeaseSettings, Settings
from subterra_testkit.cluster.kubernetes_objects import CREATED, TRAVEL, TRAVEL_AGENT, edited, scores
from subterra_testkit.cluster.operator_namespace import ClusterNamespace

STAGE = ("StageStarted", "StageSucceeded")
SERVED = ["RunCreated", "GatePassed", "Starting"]
BACKOFF = 60.0
"""Seconds within which a stage that failed in passing succeeds."""


async def events(world: ClusterNamespace) -> list[Object]:
    """The operator's Events in the namespace, in the order of their names."""
    page = await world.api._call("GET", KINDS["Event"].path(world.namespace))
    found = [item for item in page["items"] if item["reportingController"] == REPORTER]
    return sorted(found, key=lambda item: str(item["metadata"]["name"]))


async def told(world: ClusterNamespace, kind: str, name: str, expected: list[str], patience: float = 30.0) -> None:
    """Waits until a resource has as many Events as expected, and compares their reasons."""

    async def met() -> list[str] | None:
        regarding = [(event["reason"], event["regarding"]) for event in await events(world)]
        found = [reason for reason, obj in regarding if (obj["kind"], obj["name"]) == (kind, name)]
        return found if len(found) >= len(expected) else None

    assert await world.until(met, f"{kind} {name} has the Events {expected}", patience) == expected


def described(plane: ControlPlane, world: ClusterNamespace, kind: str, name: str) -> list[str]:
    """Reasons of the Events that `kubectl describe` lists, from top to bottom."""
    command = [plane.kubectl, "--kubeconfig", plane.kubeconfig, "describe", kind, name, "--namespace", world.namespace]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout.partition("\nEvents:")[2]
    rows = [line.split() for line in text.splitlines()]
    return [row[1] for row in rows if row and row[0] in ("Normal", "Warning")]


async def test_a_whole_life_reads_well_in_order(world: ClusterNamespace, plane: ControlPlane) -> None:
    world.kubelet.exits = {"train": [(14, "the disk is full")]}
    await world.put(TRAVEL)
    await world.put(TRAVEL_AGENT)
    life = [*SERVED, "Serving", "UpToDate"]
    await told(world, "CompiledAgent", "travel", life, BACKOFF)
    [run] = await world.names("CompileRun")
    retried = ("StageStarted", "Infrastructure", "StageRetried", "StageSucceeded")
    of_run = ["Created", *STAGE, *retried, *STAGE, "GatePassed", "Succeeded"]
    await told(world, "CompileRun", run, of_run)
    await world.put(edited("You are a very helpful travel booking assistant."))
    life += [*SERVED, "TrafficMoved", "UpToDate"]
    await told(world, "CompiledAgent", "travel", life)
    world.kubelet.scores = scores(mean=2.0, failures=0.6)
    await world.put(edited("You are rude."))
    life += ["RunCreated", "GateFailed"]
    await told(world, "CompiledAgent", "travel", life)
    await told(world, "Procedure", "travel", ["Valid"] * 3)
    assert described(plane, world, "compiledagent", "travel") == life
    assert described(plane, world, "compilerun", run) == of_run


async def test_a_restarted_operator_posts_nothing_again(world: ClusterNamespace) -> None:
    await world.put(TRAVEL)
    await world.put(TRAVEL_AGENT)
    await told(world, "CompiledAgent", "travel", [*SERVED, "Serving", "UpToDate"])
    before, stop = [event["metadata"] for event in await events(world)], asyncio.Event()
    own_lease = LeaseSettings(name="second")  # with the first one's it would only stand by
    settings = Settings(watch_namespaces=(world.namespace,), namespace=world.namespace, port=0, lease=own_lease)
    second = asyncio.create_task(run_operator(settings, stop))
    await world.until(lambda: world.get("Lease", "second"), "the second operator leads")
    await asyncio.sleep(4)  # more than it takes to list, poll and reconcile everything once
    assert [event["metadata"] for event in await events(world)] == before
    stop.set()
    await second


def accepted(digest: str) -> Object:
    """The status of a Procedure that is fine."""
    condition = {"type": "Accepted", "status": "True", "reason": "Valid", "message": "fine", "lastTransitionTime": CREATED}
    return {"conditions": [condition], "digest": digest}


async def test_the_api_server_takes_a_repetition_as_a_series(quiet: ClusterNamespace) -> None:
    procedure, recorder = await quiet.put(TRAVEL), EventRecorder(quiet.api)
    for digest in ("sha256:a", "sha256:b", "sha256:a", "sha256:b"):
        recorder.status_written(procedure, accepted(digest))
        await recorder.post_next()
    assert [event["series"]["count"] for event in await events(quiet)] == [2, 2]


async def test_what_happens_in_a_namespace_that_is_being_deleted_is_dropped(
    quiet: ClusterNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    procedure = await quiet.put({**TRAVEL, "metadata": {"name": "travel", "finalizers": ["example.com/wait"]}})
    await quiet.api._call("DELETE", f"/api/v1/namespaces/{quiet.namespace}", {})
    recorder = EventRecorder(quiet.api)
    for digest in ("sha256:a", "sha256:b"):
        recorder.status_written(procedure, accepted(digest))
        await recorder.post_next()
    await quiet.change({**TRAVEL, "metadata": {"name": "travel", "finalizers": None}})
    [record] = [record for record in caplog.records if "Events cannot be written" in record.getMessage()]
    assert "403" in record.getMessage() and "being terminated" in record.getMessage()
