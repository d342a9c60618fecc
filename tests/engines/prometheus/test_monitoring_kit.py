"""What the chart installs for monitoring, with the Prometheus operator's kinds and without them."""

import json
import subprocess
from collections.abc import Callable

import pytest
import yaml

from subterra_cluster import binaries as cluster_binaries
from subterra_cluster.config import default_cache
from subterra_core.monitoring.generated_files import CHART_FILES
from subterra_operator.resources import Object
from subterra_testkit.repository import ROOT

KINDS = "--api-versions=monitoring.coreos.com/v1"
Render = Callable[..., dict[tuple[str, str], Object]]


@pytest.fixture(scope="module")
def render() -> Render:
    """The chart's objects by kind and name."""
    folder = cluster_binaries.cached(default_cache())
    if folder is None:
        pytest.skip("the binaries are not built: make test builds them")

    def rendered(*options: str) -> dict[tuple[str, str], Object]:
        command = [folder / "helm", "template", "sub", ROOT / "charts/subterra", "--namespace=system", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        objects = [each for each in yaml.safe_load_all(done.stdout) if each]
        return {(each["kind"], each["metadata"]["name"]): each for each in objects}

    return rendered


def test_with_the_prometheus_operator_monitors_and_rules_are_installed(render: Render) -> None:
    found = render(KINDS, "--set=monitoring.runbooks=https://runbooks.example/", "--set=monitoring.labels.release=prom")
    monitor, pods = found["ServiceMonitor", "sub"], found["PodMonitor", "sub-agents"]
    assert monitor["spec"]["endpoints"][0]["honorLabels"] is True
    assert monitor["metadata"]["labels"]["release"] == pods["metadata"]["labels"]["release"] == "prom"
    service = found["Service", "sub-metrics"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert service["metadata"].get("annotations") is None
    assert {each["port"] for each in pods["spec"]["podMetricsEndpoints"]} == {"metrics", "http"}
    plain = (ROOT / CHART_FILES / "rules.yaml").read_text().replace("docs/guides/runbooks.md", "https://runbooks.example/")
    assert found["PrometheusRule", "sub"]["spec"] == yaml.safe_load(plain)


def test_without_it_annotations_name_the_operators_port(render: Render) -> None:
    found = render()
    assert {kind for kind, _ in found} & {"ServiceMonitor", "PodMonitor", "PrometheusRule"} == set()
    annotations = found["Service", "sub-metrics"]["metadata"]["annotations"]
    assert (annotations["prometheus.io/scrape"], annotations["prometheus.io/port"]) == ("true", "8080")


def test_dashboards_come_with_the_label_of_grafanas_sidecar(render: Render) -> None:
    found = {name: each for (kind, name), each in render().items() if kind == "ConfigMap" and "dashboard" in name}
    assert sorted(found) == ["sub-dashboard-agent", "sub-dashboard-fleet", "sub-dashboard-runs"]
    for each in found.values():
        assert each["metadata"]["labels"]["grafana_dashboard"] == "1"
        [(file, text)] = each["data"].items()
        assert json.loads(text) == json.loads((ROOT / CHART_FILES / "dashboards" / file).read_text())


def test_monitoring_can_be_left_out(render: Render) -> None:
    found = render(KINDS, "--set=monitoring.enabled=false")
    assert {kind for kind, _ in found} & {"ServiceMonitor", "PodMonitor", "PrometheusRule", "Service"} == set()


def test_a_release_for_one_namespace_watches_pods_there_only(render: Render) -> None:
    found = render(KINDS, "--set=watchNamespaces={demo}")
    assert found["PodMonitor", "sub-agents"]["spec"]["namespaceSelector"] == {"matchNames": ["demo"]}
