"""GitHub's workflows call the verbs that people call, with pinned actions and no more rights than they need."""

import re
from typing import Any

import pytest
import yaml

from subterra_testkit.repository import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yaml"))
MAKEFILE = (ROOT / "Makefile").read_text()

each_workflow = pytest.mark.parametrize(
    "workflow", [yaml.safe_load(file.read_text()) for file in WORKFLOWS], ids=lambda it: it["name"]
)


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_there_is_one_workflow_for_tests_and_one_for_releases() -> None:
    assert [file.stem for file in WORKFLOWS] == ["ci", "release"]


@each_workflow
def test_a_workflow_calls_verbs_and_variables_that_the_makefile_has(workflow: dict[str, Any]) -> None:
    calls = re.findall(r"^make ([a-z-]+)(.*)$", "\n".join(step.get("run", "") for step in steps(workflow)), re.M)
    assert calls
    for verb, words in calls:
        assert re.search(rf"^{verb}:", MAKEFILE, re.M)
        assert [name for name in re.findall(r" ([A-Z_]+)=", words) if f"$({name})" not in MAKEFILE] == []


@each_workflow
def test_actions_are_pinned_by_commit(workflow: dict[str, Any]) -> None:
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert [action for action in used if not re.search(r"@[0-9a-f]{40}$", action)] == []


@each_workflow
def test_only_the_job_that_publishes_may_write(workflow: dict[str, Any]) -> None:
    assert "write" not in workflow["permissions"].values()
    writing = {name for name, job in workflow["jobs"].items() if "write" in job.get("permissions", {}).values()}
    assert writing == ({"release"} if workflow["name"] == "release" else set())


@each_workflow
def test_no_expression_is_written_into_a_script(workflow: dict[str, Any]) -> None:
    """Whoever names a branch or a tag would write shell."""
    assert [step["run"] for step in steps(workflow) if "${{" in step.get("run", "")] == []
