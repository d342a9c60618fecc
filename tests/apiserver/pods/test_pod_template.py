"""The API server takes the pods of the example with every setting of a pod, checked strictly, and the agent that asks for them."""

import subprocess

import pytest
import yaml

from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec
from subterra_cluster.kubernetes.control_plane import ControlPlane
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.specs.deployment import ServingTarget, deployment
from subterra_operator.specs.stage_job import Attempt, stage_job
from subterra_operator.specs.vllm_container import Model
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster.operator_namespace import ClusterNamespace
from subterra_testkit.repository import ROOT

EXAMPLE = yaml.safe_load((ROOT / "examples/scheduling/agent.yaml").read_text())
SPEC = CompiledAgentSpec.model_validate(EXAMPLE["spec"])


def train_job() -> Object:
    assert SPEC.compile
    return stage_job(make.run(), SPEC.compile.template.execution, Attempt("train", 1), Settings())


def served() -> Object:
    target = ServingTarget(Model("models/abc", "travel", "scratch"), "sha256:" + "a" * 64)
    return deployment(make.agent(), SPEC, target, Settings(), make.NOW)


def dry_run(plane: ControlPlane, namespace: str, obj: Object) -> str:
    """What the API server would store, or why it would not; unknown fields are errors."""
    metadata = {key: value for key, value in obj["metadata"].items() if key != "ownerReferences"} | {"namespace": namespace}
    command = [plane.kubectl, "--kubeconfig", plane.kubeconfig, "create", "--dry-run=server", "--validate=strict", "--output=yaml"]
    text = yaml.safe_dump({**obj, "metadata": metadata})
    done = subprocess.run([*command, "--filename=-"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("made", [train_job, served, lambda: EXAMPLE], ids=["stage", "serving", "agent"])
def test_the_api_server_takes_every_setting(plane: ControlPlane, quiet: ClusterNamespace, made: object) -> None:
    obj: Object = made()  # type: ignore[operator]
    stored = yaml.safe_load(dry_run(plane, quiet.namespace, obj))
    if obj is EXAMPLE:
        assert stored["spec"] == EXAMPLE["spec"]
        return
    wanted, kept = obj["spec"]["template"]["spec"], stored["spec"]["template"]["spec"]
    settings = ("affinity", "topologySpreadConstraints", "priorityClassName", "runtimeClassName", "serviceAccountName")
    assert {name: kept[name] for name in settings if name in wanted} == {name: wanted[name] for name in settings if name in wanted}


def test_the_rules_on_variables_are_the_api_servers_too(plane: ControlPlane, quiet: ClusterNamespace) -> None:
    for variable, words in [({"name": "SUBTERRA_RUN", "value": "x"}, "choose another name"), ({"name": "A"}, "exactly one of")]:
        agent = {**EXAMPLE, "spec": {**EXAMPLE["spec"], "serving": {"podTemplate": {"env": [variable]}}}}
        with pytest.raises(AssertionError, match=words):
            dry_run(plane, quiet.namespace, agent)
