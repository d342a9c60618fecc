"""The chart refuses values that it does not have and those of another type; the operator takes what the chart takes."""

import copy
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from subterra_cli.files.chart_files import described_values, files, leaves, schema
from subterra_cli.files.chart_values import ChartValues
from subterra_cluster import binaries
from subterra_cluster.config import default_cache
from subterra_core.node_pools import Placement
from subterra_operator.settings import Settings
from subterra_operator.specs.pod import PodParts, pod_spec
from subterra_operator.specs.traffic.network_policy import network_policies
from subterra_testkit.repository import ROOT
from subterra_testkit.yaml_reader import read_documents, read_yaml

CHART = ROOT / "charts/subterra"
TEXT = (CHART / "values.yaml").read_text()
DEFAULTS = read_yaml(TEXT)
SCHEMA = schema(TEXT)
LEAVES = [value.steps for value, _ in leaves(SCHEMA, DEFAULTS)]
USER = ("runAsUser", "runAsGroup")
WRONG = {str: 123, bool: "yes", int: "four", list: {"a": 1}, dict: ["a"]}

each_value = pytest.mark.parametrize("steps", LEAVES, ids=".".join)


def changed(steps: tuple[str, ...], value: Any) -> dict[str, Any]:
    """The default values with another one at `steps`."""
    values = copy.deepcopy(DEFAULTS)
    inner = values
    for step in steps[:-1]:
        inner = inner[step]
    inner[steps[-1]] = value
    return values


def at(steps: tuple[str, ...]) -> Any:
    value = DEFAULTS
    for step in steps:
        value = value[step]
    return value


def problems(values: dict[str, Any]) -> list[str]:
    return [error.json_path for error in Draft7Validator(SCHEMA).iter_errors(values)]


def test_the_schema_and_the_page_are_those_of_the_values() -> None:
    assert [str(path) for path, text in files(ROOT).items() if (ROOT / path).read_text() != text] == []


def test_the_defaults_are_valid_and_every_value_has_a_default_and_a_description() -> None:
    assert problems(DEFAULTS) == []
    assert ChartValues.model_validate(DEFAULTS)
    described = {value.steps for value in described_values(TEXT)}
    assert [steps for steps in LEAVES if steps not in described] == []


@each_value
def test_a_misspelt_value_is_refused(steps: tuple[str, ...]) -> None:
    misspelt = (*steps[:-1], steps[-1] + "s")
    assert problems(changed(misspelt, at(steps))) == [".".join(["$", *steps[:-1]])]


@each_value
def test_a_value_of_another_type_is_refused(steps: tuple[str, ...]) -> None:
    wrong = {"a": 1} if steps == ("store", "size") else WRONG[type(at(steps))]
    assert {*problems(changed(steps, wrong))} == {".".join(["$", *steps])}


@pytest.mark.parametrize(
    "values",
    [
        {"pools": {"h200": {"nodeSelectors": {}}}},
        {"pools": {"H200": {}}},
        {"pools": {"h200": {"tolerations": [{"operator": "Exist"}]}}},
        {"pools": {"h200": {"tolerations": [{"value": "a"}]}}},
        {"pools": {"h200": {"tolerations": [{"key": "a", "efect": "NoSchedule"}]}}},
        {"pools": {"h200": {"usdPerHour": 3.5}}},
        {"defaults": {"resources": {"train": {"requests": {"cpus": "1"}}}}},
        {"defaults": {"resources": {"train": {"requests": {"memory": "3 GiB"}}}}},
        {"openai": {"endpoints": [{"baseUrl": "http://teacher"}]}},
        {"openai": {"endpoints": [{"baseURL": "teacher:8000"}]}},
        {"prices": {"gpt": {"input": 1.5, "output": "2"}}},
        {"networkPolicies": {"hubCidrs": ["hub.example"]}},
        {"networkPolicies": {"ports": [0]}},
        {"networkPolicies": {"dnsPorts": []}},
        {"podSecurity": {"runAsUser": 1000}},
        {"images": {"operator": ""}},
        {"images": {"jobs": "registry.example/jobs :1"}},
        {"watchNamespaces": ["Team_A"]},
        {"operator": {"replicas": -1}},
        {"tracing": {"endpoint": "otel-collector:4318"}},
        {"tracing": {"callRatio": 1.5}},
        {"budgets": {"maxUSDPerNamespacePer30Days": "$500"}},
        {"budgets": {"maxUSDPerRun": "1234567890"}},
        {"budgets": {"maxUSDPer30DaysByNamespace": {"team-a": ""}}},
        {"budgets": {"maxUSDPer30DaysByNamespace": {"Team_A": "500"}}},
    ],
    ids=json.dumps,
)
def test_what_would_end_the_operator_or_be_ignored_is_refused(values: dict[str, Any]) -> None:
    assert problems(values)


GIVEN: list[dict[str, Any]] = [
    {"store": {"storageClass": "123", "size": 20, "claim": "1"}},
    {"watchNamespaces": ["1", "team-a"]},
    {"networkPolicies": {"prometheusNamespace": "007", "hubCidrs": ["fd00::/8"]}},
    {"defaults": {"resources": {"train": {"limits": {"cpu": None}}}}},
    {"images": {"operator": f"registry.example/operator@sha256:{'0' * 64}", "jobs": "true", "pullSecrets": ["1"]}},
    {"pools": {"h200": {"gpuType": "H200-141", "usdPerHour": "3.50", "tolerations": [{"operator": "Exists"}]}}},
    {"prices": {"gpt": {"input": "1", "output": "2"}}, "hub": {"endpoint": "https://hub.example"}},
    {"budgets": {"maxUSDPerNamespacePer30Days": "500", "maxUSDPer30DaysByNamespace": {"team-a": "2000.50", "007": "0"}}},
    {"tracing": {"endpoint": "http://otel-collector.observability:4318", "namespace": "007", "callRatio": 0.05}},
    {"tracing": {"namespace": "observability"}},
    {"global": {"anything": 1}},
]


@pytest.fixture(scope="module")
def helm() -> Path:
    built = binaries.cached(default_cache())
    if built is None:
        pytest.skip("the binaries are not built: make test builds them")
    return built / "helm"


def rendered(helm: Path, values: dict[str, Any], folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    return subprocess.run([helm, *command, CHART, "--values", file], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("values", GIVEN, ids=json.dumps)
def test_what_the_chart_takes_the_operator_reads(helm: Path, tmp_path: Path, values: dict[str, Any]) -> None:
    done = rendered(helm, values, tmp_path, "template", "123", "--namespace", "456")
    assert done.returncode == 0, done.stderr
    objects = read_documents(done.stdout)
    assert all(isinstance(text, str) for obj in objects for text in names_in(obj))
    [settings] = [obj for obj in objects if obj["metadata"]["name"] == "123-settings"]
    assert Settings.model_validate(read_yaml(settings["data"]["settings.yaml"]))


def names_in(node: Any) -> Iterator[Any]:
    """What is written where Kubernetes demands strings: names, namespaces and label values."""
    if isinstance(node, list):
        for item in node:
            yield from names_in(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in ("labels", "annotations", "matchLabels") and isinstance(value, dict) and "type" not in value:
                yield from value.values()
            elif key in ("name", "namespace", "image", "serviceAccountName") and not isinstance(value, dict):
                yield value
            else:
                yield from names_in(value)


def test_helm_names_the_value_and_its_type(helm: Path, tmp_path: Path) -> None:
    done = rendered(helm, {"store": {"storageClass": 123}, "operater": {}}, tmp_path, "lint")
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "'/store/storageClass': got number, want string" in said
    assert "additional properties 'operater' not allowed" in said


@pytest.mark.parametrize("ports", [None, [8443], [443, 16443]])
def test_the_operator_may_reach_an_api_server_at_any_port(helm: Path, tmp_path: Path, ports: list[int] | None) -> None:
    values = {"networkPolicies": {"apiServerPorts": ports}} if ports else {}
    objects = read_documents(rendered(helm, values, tmp_path, "template", "first").stdout)
    [policy] = [obj for obj in objects if obj["kind"] == "NetworkPolicy"]
    assert {"ports": [{"port": port} for port in ports or (443, 6443)]} in policy["spec"]["egress"]


def test_on_openshift_no_pod_names_its_user_and_all_may_ask_the_dns_there(helm: Path, tmp_path: Path) -> None:
    values = {"podSecurity": {"fixedUser": False}, "networkPolicies": {"dnsPorts": [5353]}}
    for given, fixed, port in ((values, False, 5353), ({}, True, 53)):
        objects = read_documents(rendered(helm, given, tmp_path, "template", "first").stdout)
        [operator] = [obj["spec"]["template"]["spec"] for obj in objects if obj["kind"] == "Deployment"]
        [policy] = [obj for obj in objects if obj["kind"] == "NetworkPolicy"]
        [made] = [obj for obj in objects if obj["metadata"]["name"] == "first-settings"]
        settings = Settings.model_validate(read_yaml(made["data"]["settings.yaml"]))
        pod = pod_spec(settings, PodParts([], [], []), Placement())
        users = [security.get(name) for security in (operator["securityContext"], pod["securityContext"]) for name in USER]
        assert users == [65532] * 4 if fixed else users == [None] * 4
        assert pod["securityContext"].get("fsGroup") == (65532 if fixed else None)
        [default] = [each for each in network_policies("agents", settings) if each["metadata"]["name"] == "subterra-default"]
        asked = [{(each["port"], each["protocol"]) for each in obj["spec"]["egress"][0]["ports"]} for obj in (policy, default)]
        assert asked == [{(port, "UDP"), (port, "TCP")}] * 2


def test_the_notes_say_the_next_command(helm: Path, tmp_path: Path) -> None:
    values = {"watchNamespaces": ["team-a"], "images": {"operator": "registry.example/operator:1"}}
    done = rendered(helm, values, tmp_path, "install", "first", "--dry-run=client", "--namespace", "system")
    notes = done.stdout.partition("NOTES:")[2]
    assert "kubectl rollout status --namespace system deployment/first" in notes
    assert "kubectl apply --namespace team-a --filename first.yaml" in notes
    assert "set store.accessMode to ReadWriteOnce" in notes
    assert "WARNING" not in notes
