"""Autoscalers and an agent on the real API server: what they read and write, and the objects in examples/autoscaling."""

import contextlib

import pytest
import yaml
from tests.apiserver.pods.test_pod_template import dry_run
from tests.installed_crd import install, lost
from tests.tools import keda

from subterra_cluster.config import default_cache
from subterra_cluster.kubernetes.control_plane import ControlPlane
from subterra_operator.kube.api_client import ConflictError
from subterra_operator.resources import KINDS, Kind, Object
from subterra_testkit.cluster.kubernetes_objects import ROOT, TRAVEL, TRAVEL_AGENT
from subterra_testkit.cluster.operator_namespace import ClusterNamespace, condition

EXAMPLES = ROOT / "examples/autoscaling"


def example(name: str) -> Object:
    found: Object = yaml.safe_load((EXAMPLES / name).read_text())
    return found


def scale_path(world: ClusterNamespace) -> str:
    return KINDS["CompiledAgent"].path(world.namespace, "travel") + "/scale"


async def scale(world: ClusterNamespace, replicas: int) -> None:
    """What an autoscaler does: it reads the scale of its target and writes it back, again if the target has changed meanwhile."""
    written = False
    while not written:
        found = await world.api._call("GET", scale_path(world))
        with contextlib.suppress(ConflictError):
            await world.api._call("PUT", scale_path(world), {**found, "spec": {"replicas": replicas}})
            written = True


async def test_an_agent_that_leaves_its_replicas_out_goes_to_zero_and_back(world: ClusterNamespace) -> None:
    assert "serving" not in TRAVEL_AGENT["spec"]
    await world.put(TRAVEL)
    await world.put(TRAVEL_AGENT)
    version = (await world.up_to_date())["status"]["serving"]["version"]
    found = await world.api._call("GET", scale_path(world))
    assert (found["spec"]["replicas"], f"subterra.dev/version={version}" in found["status"]["selector"]) == (1, True)

    await scale(world, 0)
    asleep = await world.condition("CompiledAgent", "travel", "Ready", "True", "ScaledToZero")
    assert (asleep["status"]["phase"], condition(asleep, "Stalled")["status"]) == ("ScaledToZero", "False")

    await scale(world, 2)
    await world.condition("CompiledAgent", "travel", "Ready", "True", "Serving")
    await world.put(TRAVEL_AGENT)
    again = await world.up_to_date()
    assert again["spec"]["serving"]["replicas"] == 2, "applying the author's file again leaves the autoscaler's number alone"
    assert again["status"]["serving"]["version"] == version


def test_the_api_server_takes_the_autoscaler_of_kubernetes(plane: ControlPlane, quiet: ClusterNamespace) -> None:
    wanted = example("hpa.yaml")
    assert list(lost(wanted["spec"], yaml.safe_load(dry_run(plane, quiet.namespace, wanted))["spec"], "spec")) == []


@pytest.fixture
def scaled_objects() -> Object:
    """KEDA's CRD."""
    if not (path := keda.CRD.path(default_cache())).exists():
        pytest.skip("the CRD is not in the cache: make test-tools gets it")
    found: Object = yaml.safe_load(path.read_text())
    return found


async def test_kedas_schema_takes_its_autoscaler(
    plane: ControlPlane, quiet: ClusterNamespace, scaled_objects: Object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KINDS, "ScaledObject", Kind("ScaledObject", "keda.sh", "v1alpha1", "scaledobjects"))
    await install(quiet, scaled_objects)
    wanted = example("keda.yaml")
    assert list(lost(wanted["spec"], yaml.safe_load(dry_run(plane, quiet.namespace, wanted))["spec"], "spec")) == []
