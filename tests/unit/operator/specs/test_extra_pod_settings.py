"""`podTemplate`: what an author adds reaches the pods, and what the operator needs of them stays."""

from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from subterra_api.digest import run_digest
from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec, ServingSettings
from subterra_api.v1alpha1.compilerun import ExecutionSettings
from subterra_api.v1alpha1.pod_template import PodTemplate
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.specs.compile_run import compile_run, inputs_of, run_name_for
from subterra_operator.specs.deployment import ServingTarget, deployment, version_of
from subterra_operator.specs.stage_job import Attempt, stage_job
from subterra_operator.specs.vllm_container import Model
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.repository import ROOT

EXAMPLE = yaml.safe_load((ROOT / "examples/scheduling/agent.yaml").read_text())
SPEC = CompiledAgentSpec.model_validate(EXAMPLE["spec"])
SETTINGS = Settings(image_pull_secrets=("chart",))
TARGET = ServingTarget(Model("models/abc", "travel", "scratch"), "sha256:" + "a" * 64)


def train_pod(execution: ExecutionSettings) -> Object:
    template: Object = stage_job(make.run(), execution, Attempt("train", 1), SETTINGS)["spec"]["template"]
    return template


def serving_pod(spec: CompiledAgentSpec) -> Object:
    template: Object = deployment(make.agent(), spec, TARGET, SETTINGS, make.NOW)["spec"]["template"]
    return template


def example_execution() -> ExecutionSettings:
    assert SPEC.compile
    return SPEC.compile.template.execution


def variables(pod: Object, container: str) -> dict[str, Any]:
    [found] = [each for each in pod["spec"]["containers"] if each["name"] == container]
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in found["env"]}


def test_every_setting_reaches_the_pod_of_a_stage() -> None:
    pod = train_pod(example_execution())
    spec = pod["spec"]
    assert pod["metadata"]["labels"].items() >= {"team": "assistants", "cost-center": "4711", "subterra.dev/stage": "train"}.items()
    assert pod["metadata"]["annotations"] == {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
    assert (spec["serviceAccountName"], spec["priorityClassName"], spec["schedulerName"]) == (
        "trainer",
        "batch",
        "default-scheduler",
    )
    assert spec["automountServiceAccountToken"] is False
    assert spec["imagePullSecrets"] == [{"name": "chart"}, {"name": "registry"}]
    assert next(each for each in spec["volumes"] if each["name"] == "shm")["emptyDir"]["sizeLimit"] == "2Gi"
    env = variables(pod, "main")
    assert env["HTTPS_PROXY"] == "http://proxy.example:3128"
    assert env["PROXY_PASSWORD"] == {"secretKeyRef": {"name": "proxy", "key": "password"}}


def test_every_setting_reaches_the_pods_that_serve() -> None:
    pod = serving_pod(SPEC)
    spec = pod["spec"]
    assert (spec["priorityClassName"], spec["runtimeClassName"]) == ("interactive", "runc")
    assert set(spec["affinity"]) == {"nodeAffinity", "podAntiAffinity"}
    assert spec["topologySpreadConstraints"][0]["topologyKey"] == "topology.kubernetes.io/zone"
    assert next(each for each in spec["volumes"] if each["name"] == "shm")["emptyDir"]["sizeLimit"] == "2Gi"


def test_the_operators_own_labels_and_variables_win() -> None:
    theirs = {
        "labels": {"subterra.dev/run": "x", "app.kubernetes.io/managed-by": "me"},
        "env": [{"name": "HOME", "value": "/root"}],
    }
    pod = train_pod(ExecutionSettings.model_validate({"train": {"podTemplate": theirs}}))
    assert pod["metadata"]["labels"] == train_pod(ExecutionSettings())["metadata"]["labels"]
    assert variables(pod, "main")["HOME"] == "/tmp"


def test_without_it_every_pod_is_as_before() -> None:
    empty = ExecutionSettings.model_validate({"train": {"podTemplate": {"labels": {}, "env": []}}})
    assert train_pod(empty) == train_pod(ExecutionSettings())
    assert "affinity" not in train_pod(ExecutionSettings())["spec"]
    assert version_of(TARGET, ServingSettings()) == version_of(TARGET, ServingSettings.model_validate({"podTemplate": {}}))


def test_it_changes_no_run_and_only_that_of_serving_a_version() -> None:
    assert SPEC.compile
    digest = make.procedure()["metadata"].get("digest", "sha256:" + "b" * 64)
    plain = CompiledAgentSpec.model_validate(
        {"compile": {**EXAMPLE["spec"]["compile"], "template": {"baseModel": EXAMPLE["spec"]["compile"]["template"]["baseModel"]}}}
    )
    assert plain.compile
    assert run_digest(digest, inputs_of(SPEC.compile, digest)) == run_digest(digest, inputs_of(plain.compile, digest))
    assert run_name_for("travel", SPEC.compile, digest) == run_name_for("travel", plain.compile, digest)
    assert version_of(TARGET, SPEC.serving) != version_of(TARGET, plain.serving)


def test_an_agents_settings_are_those_of_its_run() -> None:
    assert SPEC.compile
    run = compile_run(make.agent(), SPEC, SPEC.compile, "sha256:" + "b" * 64)
    written = EXAMPLE["spec"]["compile"]["template"]["execution"]["train"]
    assert run["spec"]["execution"]["train"] == written


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ({"env": [{"name": "SUBTERRA_RUN", "value": "x"}]}, "choose another name"),
        ({"env": [{"name": "A"}]}, "exactly one of value and valueFrom"),
        ({"env": [{"name": "A", "value": "x", "valueFrom": {}}]}, "exactly one of value and valueFrom"),
        ({"env": [{"name": "1A", "value": "x"}]}, "should match pattern"),
        ({"affinity": {"nodeAfinity": {}}}, "Extra inputs are not permitted"),
        ({"hostNetwork": True}, "Extra inputs are not permitted"),
    ],
)
def test_what_no_pod_can_have_or_would_open_the_host_is_refused(template: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        PodTemplate.model_validate(template)
