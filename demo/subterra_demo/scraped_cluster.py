"""Watches the demo's cluster with a Prometheus of its own while customers call, and draws the dashboards. See `make dashboards`."""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from tests.tools import prometheus

from subterra_cli.agents.dashboards.draw import draw
from subterra_cli.agents.dashboards.queries import Scope
from subterra_cli.chat.chat_session import ChatSession
from subterra_cli.cluster import ClusterAccessError, ClusterTarget, port_forward
from subterra_cli.errors import CommandError
from subterra_cluster.config import default_cache
from subterra_core.monitoring.dashboards import DASHBOARDS
from subterra_demo import customers
from subterra_demo.steps import AGENT, KUBECONFIG, NAMESPACE, ROOT, SYSTEM_NAMESPACE, DemoCluster, StepError, run, tools_on_path

PAGE = ROOT / "out" / "dashboards.html"
INTERVAL_SECONDS = 5
_AGENT_LABELS = {"agent": "subterra.dev/agent", "version": "subterra.dev/version"}


def main() -> int:
    """0 if the page was drawn."""
    parser = argparse.ArgumentParser(prog="make dashboards", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=3, help="how long customers call (default: %(default)s)")
    arguments, console = parser.parse_args(), Console(highlight=False)
    tools_on_path()
    try:
        jobs = scrape_jobs(pods(DemoCluster()))
        program = built()
        with (
            TemporaryDirectory(prefix="prometheus-") as folder,
            prometheus.scraping(program, Path(folder), jobs, INTERVAL_SECONDS) as url,
        ):
            began = time.time()
            console.print(f"customers call for {arguments.minutes:g} minutes; Prometheus is at {url}")
            calls = _call(arguments.minutes * 60)
            time.sleep(3 * INTERVAL_SECONDS)  # the last conversations are to be seen
            text, empty = draw([board.uid for board in DASHBOARDS], url, Scope(began, time.time()))
    except (StepError, ClusterAccessError, CommandError) as error:
        console.print(str(error), markup=False)
        return 1
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(text, encoding="utf-8")
    shown = f"{PAGE.relative_to(ROOT)}: {calls} conversations"
    console.print(f"{shown}; panels without data: {', '.join(empty) or 'none'}", markup=False)
    return 0


def pods(cluster: DemoCluster) -> list[dict[str, Any]]:
    """The pods of operator and agents. Raises StepError."""
    found: list[dict[str, Any]] = []
    for namespace in (SYSTEM_NAMESPACE, NAMESPACE):
        found += json.loads(run(cluster.kubectl("get", "pods", "--namespace", namespace, "-o", "json"), quiet=True))["items"]
    return found


def scrape_jobs(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Prometheus' jobs for these pods, with the labels that the chart's PodMonitor sets. Raises StepError if no agent serves."""
    jobs = scrape_targets(found)
    if "agents" not in jobs:
        raise StepError("no agent serves in the demo's cluster; run make demo first")
    return [{"job_name": name, "honor_labels": True, "static_configs": targets} for name, targets in jobs.items()]


def scrape_targets(found: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Targets by the job that scrapes them: operator, agents."""
    jobs: dict[str, list[dict[str, Any]]] = {}
    for pod in found:
        address, labels = pod.get("status", {}).get("podIP"), pod["metadata"].get("labels", {})
        if not address:
            continue
        serves = labels.get("app.kubernetes.io/component") == "serving"
        for port in _ports(pod):
            if not serves and (pod["metadata"]["namespace"] != SYSTEM_NAMESPACE or port["name"] != "http"):
                continue
            of_pod = {"namespace": pod["metadata"]["namespace"], "pod": pod["metadata"]["name"]}
            of_agent = {name: labels.get(label, "") for name, label in _AGENT_LABELS.items()} if serves else {}
            target = {"targets": [f"{address}:{port['containerPort']}"], "labels": of_pod | of_agent}
            jobs.setdefault("agents" if serves else "operator", []).append(target)
    return jobs


def _ports(pod: dict[str, Any]) -> Iterator[dict[str, Any]]:
    containers = [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]
    yield from (port for each in containers for port in each.get("ports", []) if port.get("name") in ("http", "metrics"))


def built() -> Path:
    """The Prometheus that tests build. Raises StepError."""
    program = prometheus.path_of("prometheus", default_cache())
    if not program.exists():
        raise StepError("Prometheus is not built; run make dashboards, which builds it")
    return program


def _call(seconds: float) -> int:
    """Plays the demo's customers in turn for `seconds`; returns the number of conversations. Raises ClusterAccessError."""
    end, count = time.monotonic() + seconds, 0
    with port_forward(ClusterTarget(NAMESPACE, str(KUBECONFIG), None), AGENT, 8000) as url:
        while time.monotonic() < end:
            for customer in customers.load_customers():
                customers.converse(customer, ChatSession(url, AGENT))
                count += 1
    return count


if __name__ == "__main__":
    sys.exit(main())
