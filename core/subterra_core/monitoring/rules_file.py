"""Recording rules and alerts as the file that Prometheus reads, and that the chart's PrometheusRule contains."""

from typing import Any

import yaml

from subterra_core.monitoring.alerts import AGENT_ALERTS, OPERATOR_ALERTS, RUN_ALERTS, Alert
from subterra_core.monitoring.recording_rules import RECORDING_RULES

RUNBOOKS = "docs/guides/runbooks.md"
"""Where the runbooks are; the chart puts its value `monitoring.runbooks` in its place."""


def rules_file() -> str:
    """The rules in YAML."""
    recorded = [{"record": rule.name, "expr": rule.expr} for rule in RECORDING_RULES]
    alerts = {"operator": OPERATOR_ALERTS, "runs": RUN_ALERTS, "agents": AGENT_ALERTS}
    groups: list[dict[str, Any]] = [{"name": "subterra-recorded", "rules": recorded}]
    groups += [{"name": f"subterra-{name}", "rules": [_rule(alert) for alert in found]} for name, found in alerts.items()]
    return yaml.safe_dump({"groups": groups}, sort_keys=False, width=130, allow_unicode=True)


def _rule(alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expr,
        "for": alert.hold,
        "labels": {"severity": alert.severity},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": f"{RUNBOOKS}#{alert.name.lower()}",
        },
    }
