"""What promtool thinks of our metrics, rules and queries. Each alert fires on its fault and resolves after it."""

import re
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from tests.engines.prometheus.alert_cases import CASES, AlertCase
from tests.tools import prometheus

from subterra_api.job_contract.messages import ServedWork
from subterra_cluster.config import default_cache
from subterra_core.monitoring.alerts import ALERTS
from subterra_core.monitoring.dashboards import DASHBOARDS
from subterra_core.monitoring.generated_files import CHART_FILES
from subterra_jobs.exporter.exported_metrics import families
from subterra_operator.monitoring import metrics
from subterra_testkit.repository import ROOT

RULES = ROOT / CHART_FILES / "rules.yaml"


@pytest.fixture(scope="module")
def promtool() -> Path:
    """The program."""
    if not (program := prometheus.path_of("promtool", default_cache())).exists():
        pytest.skip("promtool is not built: make test builds it")
    return program


def run(program: Path, *words: str | Path, text: str = "") -> str:
    """What promtool says; fails if it finds something wrong."""
    done = subprocess.run([program, *words], input=text, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


class Exported:
    """A pod's price exporter with traffic behind it."""

    def collect(self) -> Any:
        work = ServedWork(
            busy_seconds=1, seconds=9, conversations=2, prompt_tokens=9, generation_tokens=9, prefill_seconds=1, decode_seconds=1
        )
        return families(work, Decimal("2.50"), "sha256:a", vllm_up=True)


def test_names_units_and_help_of_the_exporter_are_as_the_conventions_want(promtool: Path) -> None:
    registry = CollectorRegistry()
    registry.register(Exported())  # type: ignore[arg-type]
    page = generate_latest(registry).decode()
    assert "subterra_serving_usd_per_conversation_with_idle{" in page
    assert run(promtool, "check", "metrics", text=page) == ""


def test_names_units_and_help_of_the_operator_are_as_the_conventions_want(promtool: Path) -> None:
    page = generate_latest(metrics.REGISTRY).decode()
    assert "subterra_compilerun_phase" in page
    assert run(promtool, "check", "metrics", text=page) == ""


def test_the_rules_are_valid(promtool: Path) -> None:
    assert "SUCCESS" in run(promtool, "check", "rules", RULES)


def test_every_alert_has_a_case() -> None:
    assert set(CASES) == {alert.name for alert in ALERTS}


def promtool_test(name: str, case: AlertCase) -> dict[str, Any]:
    """A test of one alert: quiet, firing, resolved."""
    alert = next(each for each in ALERTS if each.name == name)
    firing = {"exp_labels": {**case.labels, "severity": alert.severity}}
    moments = ((case.quiet_at, False), (case.fires_at, True), (case.resolved_at, False))
    return {
        "name": name,
        "interval": case.interval,
        "input_series": [{"series": series, "values": values} for series, values in case.series.items()],
        "alert_rule_test": [{"eval_time": at, "alertname": name, "exp_alerts": [firing] if fires else []} for at, fires in moments],
    }


def without_texts(rules: Path, folder: Path) -> Path:
    """The rules without annotations, whose words promtool would compare."""
    found = yaml.safe_load(rules.read_text())
    for group in found["groups"]:
        for rule in group["rules"]:
            rule.pop("annotations", None)
    target = folder / "rules.yaml"
    target.write_text(yaml.safe_dump(found))
    return target


@pytest.mark.parametrize("interval", ["1m", "1h"])
def test_each_alert_fires_on_its_fault_and_resolves_after_it(promtool: Path, tmp_path: Path, interval: str) -> None:
    """Those that take days are evaluated once an hour."""
    tests = [promtool_test(name, case) for name, case in CASES.items() if case.interval == interval]
    rules = without_texts(RULES, tmp_path)
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(rules)], "evaluation_interval": interval, "tests": tests}))
    assert "SUCCESS" in run(promtool, "test", "rules", file)


def test_annotations_are_templates_that_prometheus_can_fill(promtool: Path, tmp_path: Path) -> None:
    """One case in full, words included."""
    case = CASES["SubterraCapNearlyReached"]
    test = promtool_test("SubterraCapNearlyReached", case)
    test["alert_rule_test"][1]["exp_alerts"][0]["exp_annotations"] = {
        "summary": "Compile run demo/travel-1 has nearly used its budget",
        "description": "It has paid 95% of its cap and will stop there.",
        "runbook_url": "docs/guides/runbooks.md#subterracapnearlyreached",
    }
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}))
    assert "SUCCESS" in run(promtool, "test", "rules", file)


def test_an_alert_names_the_reason_and_a_failed_run_is_quiet_while_another_one_is_in_progress(
    promtool: Path, tmp_path: Path
) -> None:
    failed = 'namespace="demo", agent="travel", run="travel-1"'
    series = {
        f'subterra_compilerun_phase{{{failed}, phase="Failed"}}': "1x40",
        f'subterra_compilerun_reason{{{failed}, reason="InvalidInput"}}': "1x40",
        'subterra_compilerun_phase{namespace="demo", agent="travel", run="travel-2", phase="Training"}': "_x10 1x10 _x20",
    }
    rules = yaml.safe_load(RULES.read_text())
    [rule] = [each for group in rules["groups"] for each in group["rules"] if each.get("alert") == "SubterraRunFailed"]
    firing = {
        "exp_labels": {"severity": "warning", "namespace": "demo", "agent": "travel", "run": "travel-1", "phase": "Failed"},
        "exp_annotations": {
            "summary": "Compile run demo/travel-1 failed",
            "description": rule["annotations"]["description"].partition(" Reason:")[0] + " Reason: InvalidInput.",
            "runbook_url": "docs/guides/runbooks.md#subterrarunfailed",
        },
    }
    moments = (("5m", [firing]), ("15m", []), ("30m", [firing]))
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": at, "alertname": "SubterraRunFailed", "exp_alerts": found} for at, found in moments],
    }
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}))
    assert "SUCCESS" in run(promtool, "test", "rules", file)


def test_every_query_of_the_dashboards_is_promql(promtool: Path, tmp_path: Path) -> None:
    """As rules, because promtool parses those."""
    queries = [query.expr for board in DASHBOARDS for panel in board.panels for query in panel.queries]
    plain = [re.sub(r"\$__rate_interval", "5m", re.sub(r"\$(namespace|agent)", ".*", expr)) for expr in queries]
    rules = [{"record": f"query:{number}", "expr": expr} for number, expr in enumerate(plain)]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))
    assert f"{len(rules)} rules found" in run(promtool, "check", "rules", file)
