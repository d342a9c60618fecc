"""One table of metrics: whatever is exported, queried or documented is in it."""

import json
import re
from collections.abc import Iterator
from decimal import Decimal

import pytest
import yaml

from subterra_api.job_contract.messages import ServedWork
from subterra_core.monitoring.alerts import ALERTS
from subterra_core.monitoring.dashboards import DASHBOARDS
from subterra_core.monitoring.generated_files import CHART_FILES, files
from subterra_core.monitoring.grafana import Dashboard
from subterra_core.monitoring.metric import Metric
from subterra_core.monitoring.metric_table import METRICS, SERIES, metric, metrics_of
from subterra_core.monitoring.recording_rules import RECORDING_RULES
from subterra_jobs.exporter.exported_metrics import families
from subterra_operator.monitoring import metrics as operator_metrics
from subterra_testkit.repository import ROOT

OTHERS = ("vllm:", "http_requests_total", "up", "ALERTS")
NAME = re.compile(r"\b(?:subterra[_:][\w:]+|vllm:\w+|http_requests_total|ALERTS\b|up\b)")
RECORDED = {rule.name for rule in RECORDING_RULES}


def used(expr: str) -> set[str]:
    """Names of series in a query."""
    return set(NAME.findall(re.sub(r'"[^"]*"', '""', expr)))


def queries() -> Iterator[tuple[str, str]]:
    """All queries of rules and dashboards, with where they are."""
    yield from ((rule.name, rule.expr) for rule in RECORDING_RULES)
    yield from ((alert.name, alert.expr) for alert in ALERTS)
    for board in DASHBOARDS:
        for panel in board.panels:
            yield from ((f"{board.uid}: {panel.title}", query.expr) for query in panel.queries)


def test_the_operator_exports_its_part_of_the_table_and_nothing_else() -> None:
    exported = {family.name for family in operator_metrics.REGISTRY.collect() if not family.name.startswith("process_")}
    assert exported == {each.name.removesuffix("_total") for each in metrics_of("operator")}


def test_the_exporter_exports_its_part_of_the_table_and_nothing_else() -> None:
    exported = {family.name for family in families(ServedWork(), Decimal("2.50"), "sha256:a", vllm_up=True)}
    assert exported == {each.name.removesuffix("_total") for each in metrics_of("exporter")}


def test_no_series_is_created_past_the_table() -> None:
    pattern = re.compile(r"\b(?:Gauge|Counter|Histogram|Summary)\w*\(\s*f?\"subterra")
    sources = [file for folder in ("operator", "jobs") for file in (ROOT / folder).rglob("*.py")]
    assert [str(file.relative_to(ROOT)) for file in sources if pattern.search(file.read_text())] == []
    with pytest.raises(KeyError):
        metric("no_such_metric")


@pytest.mark.parametrize("found", METRICS.values(), ids=METRICS)
def test_names_follow_the_conventions(found: Metric) -> None:
    assert found.name.startswith(("subterra_", *OTHERS))
    assert (found.kind == "counter") == found.name.endswith("_total")
    assert found.help.endswith(".")
    assert len(set(found.labels)) == len(found.labels)


@pytest.mark.parametrize(("where", "expr"), [*queries()], ids=lambda text: text if len(text) < 60 else "")
def test_queries_name_only_metrics_of_the_table(where: str, expr: str) -> None:
    names = used(expr)
    assert names
    assert names - set(SERIES) - RECORDED == set()


def test_every_metric_of_ours_is_looked_at_by_a_rule_or_a_dashboard() -> None:
    """One that nobody looks at is not worth its memory."""
    seen = {SERIES[name].name for _, expr in queries() for name in used(expr) if name in SERIES}
    ours = {each.name for each in METRICS.values() if each.name.startswith("subterra_")}
    on_the_page_only = {
        "subterra_serving_usd_per_hour",
        "subterra_serving_usd_total",
        "subterra_serving_request_phase_seconds_total",
        "subterra_serving_usd_per_conversation",
        "subterra_serving_usd_per_conversation_with_idle",
        "subterra_serving_usd_per_million_tokens",
        "subterra_compiledagent_conversations",
        "subterra_compiledagent_status_timestamp_seconds",
        *(name for name in ours if name.startswith("subterra_serving_monitored_")),  # the condition Drifting is looked at
    }
    assert ours - seen == on_the_page_only


def test_generated_files_are_up_to_date() -> None:
    assert [str(path) for path, text in files(ROOT).items() if (ROOT / path).read_text() != text] == []


def test_every_alert_has_a_runbook_that_says_what_it_means_what_to_look_at_and_what_to_do() -> None:
    page = (ROOT / "docs/guides/runbooks.md").read_text()
    sections = {section.split("\n", 1)[0]: section for section in page.split("\n## ")[1:]}
    assert list(sections) == [alert.name for alert in ALERTS]
    for name, section in sections.items():
        for part in ("**Means**", "**Look at**", "**Do**"):
            assert part in section, f"{name}: {part}"


def test_alerts_link_to_their_runbooks() -> None:
    groups = yaml.safe_load((ROOT / CHART_FILES / "rules.yaml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    assert {rule["alert"]: rule["annotations"]["runbook_url"].partition("#")[2] for rule in rules} == {
        alert.name: alert.name.lower() for alert in ALERTS
    }
    assert {rule["labels"]["severity"] for rule in rules} == {"critical", "warning", "info"}


@pytest.mark.parametrize("board", DASHBOARDS, ids=lambda board: board.uid)
def test_dashboards_are_complete_and_do_not_overlap(board: Dashboard) -> None:
    found = json.loads((ROOT / CHART_FILES / "dashboards" / f"{board.uid}.json").read_text())
    cells = [
        (x, y)
        for panel in found["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert all(panel["targets"] for panel in found["panels"])
