"""The fire drill's plan: each fault has an alert, a page that shows its cause, a runbook that leads to its fix, and an undo."""

import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
import yaml

from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.monitoring.alerts import ALERTS
from subterra_core.monitoring.dashboards import DASHBOARDS
from subterra_core.monitoring.metric_table import SERIES
from subterra_core.monitoring.rules_file import rules_file
from subterra_core.procedure.lint.analyse import analyse
from subterra_demo.drill import drill_manifests, pod_scripts
from subterra_demo.drill.drill_report import Outcome, document
from subterra_demo.drill.fault import Fault
from subterra_demo.drill.fault_list import Site, faults, retiring_model
from subterra_demo.drill.live_targets import jobs, write
from subterra_demo.drill.runbook_page import LINK, advice, section
from subterra_demo.drill.time_scale import TimeScale
from subterra_testkit.repository import ROOT

TEMPLATE = {
    "spec": {
        "containers": [
            {"name": "vllm", "image": "jobs", "volumeMounts": [{"name": "store", "mountPath": "/store", "readOnly": True}]},
            {"name": "sidecar"},
        ],
        "initContainers": [{"name": "verify"}],
        "volumes": [{"name": "store"}],
    }
}
SITE = Site("node1", 2, "travel-abc", TEMPLATE, "models/m", "0.10", date(2026, 11, 29))
FAULTS = faults(SITE)
RUNBOOKS = (ROOT / "docs/guides/runbooks.md").read_text()
RULES = {rule["alert"]: rule for group in yaml.safe_load(rules_file())["groups"] for rule in group["rules"] if "alert" in rule}
each_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)


def words(text: str) -> str:
    return LINK.sub(r"\1", " ".join(text.split()))


def test_there_are_ten_faults_and_nine_alerts_that_they_fire() -> None:
    assert len({fault.name for fault in FAULTS}) == 10
    assert len({fault.alert for fault in FAULTS}) == 9


@each_fault
def test_the_alert_that_a_fault_fires_is_in_the_charts_rules(fault: Fault) -> None:
    assert fault.alert in RULES


@each_fault
def test_the_runbook_says_what_the_drill_does(fault: Fault) -> None:
    assert fault.advice in words(section(RUNBOOKS, fault.alert))


@each_fault
def test_the_cause_is_on_the_dashboard_that_the_drill_draws(fault: Fault) -> None:
    [board] = [board for board in DASHBOARDS if board.uid == fault.board]
    drawn = " ".join(query.expr for panel in board.panels for query in panel.queries)
    asked = {name for name in SERIES if name in fault.cause}
    assert asked
    assert {name for name in asked if name not in drawn} == set()


@each_fault
def test_every_fault_is_undone_whether_or_not_it_was_repaired(fault: Fault) -> None:
    """What the injection makes or changes, the undo names."""
    undone = " ".join(word for action in fault.undo for word in action.words)
    for action in fault.inject:
        for made in filter(None, action.reads.split("\n---\n")):
            manifest = json.loads(made)
            assert f"{manifest['kind'].lower()}/{manifest['metadata']['name']}" in undone
        if action.words[0] in ("scale", "patch", "cordon"):
            target = action.words[1]
            assert target in undone
    assert all("--ignore-not-found" in action.words for action in fault.undo if action.words[0] == "delete")


def test_faults_of_alerts_that_name_a_reason_wait_for_that_reason_on_the_page() -> None:
    """An alert without a reason leaves an SRE with a list of guesses."""
    for fault in FAULTS:
        if "Reason:" in RULES[fault.alert]["annotations"]["description"]:
            assert "_reason{" in fault.cause and 'reason="' in fault.cause, fault.name


def test_the_runbooks_parts_are_printed_without_links() -> None:
    found = advice(RUNBOOKS, "SubterraRunFailed")
    assert set(found) == {"Look at", "Do"}
    assert found["Do"].startswith("After `InvalidInput` correct the procedure")
    assert "](" not in "".join(found.values())


def test_a_retiring_model_has_another_to_use_instead_on_any_day() -> None:
    for today in (date(2026, 11, 29), date(2028, 1, 1)):
        family, old, new = retiring_model(today)
        assert family in ("anthropic", "openai")
        assert old != new


def test_the_rules_are_as_they_were_but_for_their_times() -> None:
    scaled = yaml.safe_load(TimeScale(120, 2).rules(rules_file()))
    rules = [rule for group in scaled["groups"] for rule in group["rules"]]
    assert len(rules) == sum(len(group["rules"]) for group in yaml.safe_load(rules_file())["groups"])
    found = {rule["alert"]: rule for rule in rules if "alert" in rule}
    for name, rule in found.items():
        assert rule["annotations"] == RULES[name]["annotations"]
        assert rule["labels"] == RULES[name]["labels"]


@pytest.mark.parametrize(
    ("alert", "hold", "part"),
    [
        ("SubterraPriceAboveComparator", "180000ms", "InContextCached"),
        ("SubterraRunFailed", "1000ms", 'phase="Failed"'),  # not less than a second
        ("SubterraStageStuck", "2500ms", "report_timestamp_seconds > 30"),
        ("SubterraApiUnreachable", "1500ms", "answer_timestamp_seconds > 15"),  # not less than it takes to see an answer
        ("SubterraStatusOld", "2500ms", "oldest_timestamp_seconds > 900"),  # a check is due every five minutes all the same
        ("SubterraModelRetiring", "30000ms", "- time() < 60 * 86400"),
        ("SubterraAgentHangs", "2500ms", "vllm:num_requests_running[8000ms]"),  # four scrapes at least
        ("SubterraLeaderFlapping", "2500ms", "subterra_leader[30000ms]"),
    ],
)
def test_times_are_divided_by_one_factor_down_to_what_scrapes_can_tell(alert: str, hold: str, part: str) -> None:
    scaled = yaml.safe_load(TimeScale(120, 2).rules(rules_file()))
    [rule] = [rule for group in scaled["groups"] for rule in group["rules"] if rule.get("alert") == alert]
    assert rule["for"] == hold
    assert part in rule["expr"]


def test_a_factor_of_one_changes_no_threshold() -> None:
    scaled = yaml.safe_load(TimeScale(1, 15).rules(rules_file()))
    found = {rule["alert"]: rule for group in scaled["groups"] for rule in group["rules"] if "alert" in rule}
    for alert in ALERTS:
        same = found[alert.name]["expr"].replace("300000ms", "5m").replace("1800000ms", "30m")
        assert same.replace("21600000ms", "6h").replace("3600000ms", "1h") == alert.expr


def test_procedures_of_the_drill_are_accepted_or_not_as_the_faults_need_it() -> None:
    def errors(manifest: drill_manifests.Manifest) -> list[object]:
        return [each for each in analyse(ProcedureSpec.model_validate(manifest["spec"])).findings if each.severity == "error"]

    assert errors(drill_manifests.procedure("a")) == []
    assert errors(drill_manifests.without_examples("a")) == []
    assert errors(drill_manifests.with_a_dead_end("a")) != []


def test_agents_of_the_drill_are_valid() -> None:
    applied = [json.loads(text) for fault in FAULTS for action in fault.inject for text in action.reads.split("\n---\n") if text]
    agents = [CompiledAgentSpec.model_validate(each["spec"]) for each in applied if each["kind"] == "CompiledAgent"]
    assert len(agents) == 5
    assert [each.compile.suspend for each in agents if each.compile] == [False] * 4 + [True]


def test_the_pod_that_damages_the_store_may_write_and_starts_no_server() -> None:
    pod = drill_manifests.store_pod("p", TEMPLATE)["spec"]
    assert [each["name"] for each in pod["containers"]] == ["vllm"]
    assert pod["initContainers"] == []
    assert pod["containers"][0]["volumeMounts"] == [{"name": "store", "mountPath": "/store"}]
    assert TEMPLATE["spec"]["initContainers"]


def in_store(script: str, store: Path) -> None:
    subprocess.run([sys.executable, "-c", script.replace("/store", str(store)), "m"], check=True, timeout=60, capture_output=True)


def test_one_bit_is_flipped_and_copied_back_and_nothing_is_left(tmp_path: Path) -> None:
    weights = tmp_path / "m/model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(bytes(range(100)))
    before = weights.stat().st_ino
    in_store(pod_scripts.RESTORE, tmp_path)
    assert weights.stat().st_ino == before
    in_store(pod_scripts.DAMAGE, tmp_path)
    damaged = weights.read_bytes()
    assert sum((a ^ b).bit_count() for a, b in zip(damaged, bytes(range(100)), strict=True)) == 1
    in_store(pod_scripts.RESTORE, tmp_path)
    assert weights.read_bytes() == bytes(range(100))
    in_store(pod_scripts.FORGET, tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["m", "model.safetensors"]


def test_targets_are_written_for_a_prometheus_that_reads_them_again(tmp_path: Path) -> None:
    pod = {
        "metadata": {"name": "p", "namespace": "demo", "labels": {"app.kubernetes.io/component": "serving"}},
        "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8000}]}]},
        "status": {"podIP": "10.0.0.1"},
    }
    files = {job["job_name"]: Path(job["file_sd_configs"][0]["files"][0]) for job in jobs(tmp_path)}
    write(tmp_path, [pod])
    [group] = json.loads(files["agents"].read_text())
    assert group["targets"] == ["10.0.0.1:8000"]
    assert group["labels"]["pod"] == "p"
    write(tmp_path, [])
    assert json.loads(files["agents"].read_text()) == json.loads(files["operator"].read_text()) == []


def test_the_table_says_how_long_each_step_took_and_what_never_came() -> None:
    good, silent = Outcome(FAULTS[0], 7.4, 9.6, 3.2), Outcome(FAULTS[1], trouble="SubterraAgentDown did not fire within 420 s")
    page = document([good, silent], "2026-11-29")
    assert "1 of 2 faults found, explained and repaired." in page
    row, other = page.splitlines()[-2:]
    assert "| 7 s | 10 s |" in row
    assert row.endswith("| 3 s |")
    assert "| never | never |" in other
    assert other.endswith("did not fire within 420 s |")
    assert Outcome(FAULTS[0], 1, None, 1).passed is False
