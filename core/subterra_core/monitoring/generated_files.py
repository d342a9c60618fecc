"""Files made from the table: `python -m subterra_core.monitoring [--check]` writes or compares them."""

import json
import re
from pathlib import Path

from subterra_api.file_generator import write_or_check
from subterra_core.monitoring.dashboards import DASHBOARDS
from subterra_core.monitoring.metric import Metric
from subterra_core.monitoring.metric_table import METRICS
from subterra_core.monitoring.recording_rules import RECORDING_RULES
from subterra_core.monitoring.rules_file import rules_file

PAGE = Path("docs/reference/metrics.md")
CHART_FILES = Path("charts/subterra/files")
_HEADER = "# Generated from core/subterra_core/monitoring by `make generate`. Do not edit.\n"


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {metric.unit} | {labels} | {metric.help} |"


def _table(rows: list[str], head: str) -> str:
    columns = head.count("|") - 1
    return "\n".join([head, "|" + "---|" * columns, *rows])


def _tables() -> dict[str, str]:
    """The page's tables by the name in their marker."""
    head = "| metric | type | unit | labels | meaning |"
    groups = {
        "operator": [each for each in METRICS.values() if each.source == "operator" and not each.leader],
        "leader": [each for each in METRICS.values() if each.source == "operator" and each.leader],
        "exporter": [each for each in METRICS.values() if each.source == "exporter"],
        "others": [each for each in METRICS.values() if each.source in ("vllm", "prometheus")],
    }
    recorded = [f"| `{rule.name}` | {rule.help} |" for rule in RECORDING_RULES]
    tables = {name: _table([_row(each) for each in found], head) for name, found in groups.items()}
    return tables | {"recorded": _table(recorded, "| series | meaning |")}


def metrics_page(text: str) -> str:
    """The page with its generated tables replaced. Raises KeyError for an unknown marker."""
    tables = _tables()
    pattern = r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)"
    return re.sub(pattern, lambda found: f"{found[1]}{tables[found[2]]}\n{found[3]}", text, flags=re.S)


def files(root: Path) -> dict[Path, str]:
    """All generated files with their content, by path below `root`."""
    found = {PAGE: metrics_page((root / PAGE).read_text()), CHART_FILES / "rules.yaml": _HEADER + rules_file()}
    for dashboard in DASHBOARDS:
        path = CHART_FILES / "dashboards" / f"{dashboard.uid}.json"
        found[path] = json.dumps(dashboard.to_json(), indent=1, ensure_ascii=False) + "\n"
    return found


def main() -> int:
    """Writes the files below the current directory; with `--check`, lists outdated ones and returns 1."""
    return write_or_check(files(Path()), __doc__)
