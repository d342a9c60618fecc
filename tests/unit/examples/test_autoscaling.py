"""examples/autoscaling: the names in them are those of the agent, of vLLM and of the chart's PodMonitor."""

import re
from typing import Any

import pytest
import yaml

from subterra_api.crd import compiledagents
from subterra_core.monitoring.serving_metrics import OTHERS_METRICS
from subterra_testkit.repository import ROOT

FOLDER = ROOT / "examples/autoscaling"
TEXTS = {path.name: path.read_text() for path in FOLDER.iterdir()}


def read(name: str) -> Any:
    return yaml.safe_load(TEXTS[name])


@pytest.mark.parametrize("name", ["hpa.yaml", "keda.yaml"])
def test_the_target_is_the_travel_agent_by_its_scale(name: str) -> None:
    agent = yaml.safe_load((ROOT / "examples/travel/agent.yaml").read_text())
    target = read(name)["spec"]["scaleTargetRef"]
    assert target == {"apiVersion": agent["apiVersion"], "kind": agent["kind"], "name": agent["metadata"]["name"]}
    assert "serving" not in agent["spec"], "or each apply would set the autoscaler's number back"
    assert "scale" in compiledagents()["spec"]["versions"][0]["subresources"]


def test_every_metric_is_one_of_vllm_with_labels_that_are_there() -> None:
    exported = {metric.name for metric in OTHERS_METRICS}
    monitor = (ROOT / "charts/subterra/templates/monitoring/scraping.yaml").read_text()
    given = {"namespace", "pod", *re.findall(r"targetLabel: (\w+)", monitor)}
    found = [match for text in TEXTS.values() for match in re.finditer(r"(vllm:\w+)\{([^}]*)\}", text)]
    assert {match[1] for match in found} == {"vllm:num_requests_waiting", "vllm:num_requests_running"} <= exported
    assert {label for match in found for label in re.findall(r"(\w+)!?=", match[2])} <= given


def test_the_autoscaler_asks_for_the_metric_that_the_adapter_makes() -> None:
    [rule] = read("prometheus-adapter.yaml")["rules"]["custom"]
    [metric] = read("hpa.yaml")["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]


def test_what_goes_to_zero_has_something_else_that_wakes_it() -> None:
    """Without replicas no series of vLLM exists, so a trigger on one alone would never start the agent again."""
    spec = read("keda.yaml")["spec"]
    assert spec["minReplicaCount"] == 0
    kinds = [trigger["type"] for trigger in spec["triggers"]]
    assert kinds == ["cron", "prometheus"]
    assert all(isinstance(value, str) for trigger in spec["triggers"] for value in trigger["metadata"].values())
