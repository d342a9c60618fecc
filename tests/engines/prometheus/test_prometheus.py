"""A real Prometheus scrapes what the operator and a pod's exporter say, and answers every query of the dashboards."""

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, start_http_server
from tests.tools import prometheus

from subterra_api.job_contract.messages import Calls, Progress, ServedWork
from subterra_cli.agents.dashboards.draw import draw
from subterra_cli.agents.dashboards.queries import Scope
from subterra_cluster.config import default_cache
from subterra_core.monitoring.dashboards import DASHBOARDS
from subterra_core.serving_costs.conversation_costs import Compared, ConversationCosts
from subterra_jobs.exporter.exported_metrics import families
from subterra_operator.monitoring import agent_metrics, metrics, run_metrics
from subterra_operator.monitoring.series import REGISTRY
from subterra_operator.resources import Key, Object
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster.kubernetes_objects import NAMESPACE, NOW
from subterra_testkit.repository import ROOT
from subterra_testkit.servers.local_server import free_port

RUN, AGENT = Key("CompileRun", NAMESPACE, "travel-2"), Key("CompiledAgent", NAMESPACE, "travel")
SCRAPES = 4
PATIENCE_SECONDS = 60.0
OF_VLLM = {"Answers with 5xx", "Answers slower than 10 s", "First token, 95th percentile", "Requests"}
OF_A_DAY = {"Conversations a day", "Breaks even after days"}
"""Recorded over a day, and by rules that run once a minute."""
OF_TROUBLE = {"Firing alerts"}
RECORDED = {"Times the compiled price", "Paid to providers within 30 days"}


class BusyPod:
    """A price exporter that serves two conversations between two scrapes."""

    def __init__(self) -> None:
        self.scrapes = 0

    def collect(self) -> Any:
        self.scrapes += 1
        done = float(self.scrapes)
        work = ServedWork(
            busy_seconds=done / 2,
            seconds=done,
            conversations=2 * done,
            prompt_tokens=int(900 * done),
            generation_tokens=int(90 * done),
            prefill_seconds=done / 4,
            decode_seconds=done / 4,
        )
        return families(work, Decimal("2.50"), "sha256:abc", vllm_up=True)


def stage(name: str, state: str, **more: object) -> Object:
    return {"name": name, "state": state, "attempt": 1, "startedAt": "2026-11-20T12:00:00Z", **more}


def reconcile() -> None:
    """What a reconcile leaves in the metrics."""
    metrics.record_api_request("PATCH", 200)
    metrics.RECONCILES.labels("CompileRun", "ok").inc()
    metrics.RECONCILE_SECONDS.labels("CompileRun").observe(0.02)


def report_resources() -> None:
    """An agent that serves while its second run is generated."""
    run = make.stored(make.run(name="travel-2"))
    run["metadata"]["ownerReferences"] = [{"kind": "CompiledAgent", "name": "travel", "controller": True}]
    run["spec"]["execution"] = {"maxUSD": "40"}
    stages = [stage("generate", "Running", usd="3.00")]
    metrics.record_status(RUN, {"phase": "Generating", "stages": stages, "usd": "3"}, run, NOW)
    ended = [stage("generate", "Failed", finishedAt="2026-11-20T13:00:00Z", reason="BudgetExceeded", usd="9.00")]
    metrics.record_status(RUN, {"phase": "Generating", "stages": [*ended, *stages], "usd": "9"}, run, NOW)
    judged = Key("CompileRun", NAMESPACE, "travel-1")
    metrics.record_status(judged, {"phase": "Succeeded", "usd": "12", "verdict": {"result": "Pass"}}, run, NOW)
    calls = Calls(answered=99, per_minute=60, limit=600)
    run_metrics.record_progress(
        RUN, "travel", Progress(stage="generate", done=10, planned=40, tokens=9000, eta_seconds=90, calls=calls)
    )
    ready = {"type": "Ready", "status": "True", "reason": "Serving", "lastTransitionTime": "2026-11-20T12:00:00Z"}
    behind = ready | {"type": "UpToDate", "status": "False", "reason": "Compiling"}
    serving = {"version": "abc", "modelDigest": "sha256:abc", "modelPath": "models/abc", "run": "travel-1"}
    candidate = {"run": "travel-2", "verdict": {"result": "Pass"}}
    status = {"conditions": [ready, behind], "phase": "Serving", "serving": serving, "replicas": 1, "candidate": candidate}
    metrics.record_status(AGENT, status, make.stored(make.agent()), NOW)
    work = ServedWork(
        busy_seconds=60,
        seconds=600,
        conversations=90,
        prompt_tokens=9000,
        generation_tokens=900,
        prefill_seconds=20,
        decode_seconds=40,
    )
    compared = (Compared("InContext", "claude-sonnet-5-5", Decimal("0.05")),)
    agent_metrics.record_costs(AGENT, "abc", ConversationCosts(work, Decimal("2.50"), Decimal(12), compared))


@dataclass(frozen=True)
class Prometheus:
    """A running server."""

    url: str

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer. Raises AssertionError for a query that it refuses."""
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=20).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def values(self, expr: str) -> list[Any]:
        """What an instant query finds now."""
        found: list[Any] = self.get("query", query=expr)["result"]
        return found


@contextmanager
def running(program: Path, folder: Path, targets: dict[str, int]) -> Iterator[Prometheus]:
    """A server that has our rules and scrapes these ports each second."""
    labels = {"operator": {}, "pod": {"namespace": NAMESPACE, "agent": "travel"}}
    jobs = [
        {"job_name": job, "honor_labels": True, "static_configs": [{"targets": [f"127.0.0.1:{port}"], "labels": labels[job]}]}
        for job, port in targets.items()
    ]
    with prometheus.scraping(program, folder, jobs, 1) as url:
        yield Prometheus(url)


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A server that has seen some scrapes of both."""
    if not (program := prometheus.path_of("prometheus", default_cache())).exists():
        pytest.skip("Prometheus is not built: make test builds it")
    pod, registry = BusyPod(), CollectorRegistry()
    registry.register(pod)
    report_resources()
    reconcile()
    with ExitStack() as stack:
        targets = {"operator": free_port(), "pod": free_port()}
        for port, exported in zip(targets.values(), (REGISTRY, registry), strict=True):
            server, thread = start_http_server(port, "127.0.0.1", exported)
            stack.callback(thread.join)
            stack.callback(server.shutdown)
        server_of_metrics = stack.enter_context(running(program, tmp_path_factory.mktemp("prometheus"), targets))
        _until_scraped(server_of_metrics, 1)
        reconcile()
        _until_scraped(server_of_metrics, SCRAPES)
        yield server_of_metrics
        metrics.remove_all()


def _until_scraped(server: Prometheus, times: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        counts = [float(each["value"][1]) for each in server.values("count_over_time(up[1m])")]
        if len(counts) == 2 and min(counts) >= times:
            return
        time.sleep(0.2)
    raise AssertionError(f"Prometheus has not scraped both targets {times} times within {PATIENCE_SECONDS:.0f} s")


def lately(expr: str) -> str:
    """A query for what a panel shows of the last minutes: a series that has just ended is still drawn."""
    return f"last_over_time(({plain(expr)})[5m:1s])"


def plain(expr: str) -> str:
    """A query as Grafana sends it with all namespaces and agents chosen."""
    return re.sub(r"\$__rate_interval", "1m", re.sub(r"\$(namespace|agent)", ".*", expr))


def test_every_panel_has_something_to_show_once_an_agent_serves_and_a_run_is_under_way(scraped: Prometheus) -> None:
    panels = [panel for board in DASHBOARDS for panel in board.panels]
    empty = {panel.title for panel in panels if not any(scraped.values(lately(query.expr)) for query in panel.queries)}
    assert empty - OF_VLLM - OF_A_DAY - RECORDED - OF_TROUBLE == set()


def test_the_page_of_dashboards_shows_what_the_server_knows(scraped: Prometheus) -> None:
    now = time.time()
    text, empty = draw([board.uid for board in DASHBOARDS], scraped.url, Scope(now - 600, now))
    assert set(empty) - OF_VLLM - OF_A_DAY - RECORDED - OF_TROUBLE == set()
    assert "<polyline" in text or "<circle" in text
    (ROOT / "out/tests").mkdir(parents=True, exist_ok=True)
    (ROOT / "out/tests/dashboards.html").write_text(text)


def test_the_busy_share_and_the_tokens_are_those_of_the_pod(scraped: Prometheus) -> None:
    queries = {panel.title: plain(panel.queries[0].expr) for board in DASHBOARDS for panel in board.panels}
    [busy] = scraped.values(queries["Busy share"])
    assert float(busy["value"][1]) == pytest.approx(0.5, abs=0.01)
    tokens = {each["metric"]["kind"]: float(each["value"][1]) for each in scraped.values(queries["Tokens per second"])}
    assert tokens["prompt"] / tokens["generation"] == pytest.approx(10, rel=0.01)


def test_our_rules_are_loaded_and_none_fails(scraped: Prometheus) -> None:
    rules = [rule for group in scraped.get("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 20
    assert {rule["name"]: rule.get("lastError", "") for rule in rules if rule["health"] == "err"} == {}
