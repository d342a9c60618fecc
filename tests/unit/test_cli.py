"""What the command line says to people."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from subterra_cli.main import app
from subterra_cli.watch import duration, served, trouble, view

ROOT = Path(__file__).parents[2]


def lint(text: str, tmp_path: Path) -> tuple[int, str]:
    file = tmp_path / "procedure.yaml"
    file.write_text(text)
    result = CliRunner().invoke(app, ["lint", str(file)])
    return result.exit_code, result.output


def test_lint_of_the_example_tells_what_it_amounts_to() -> None:
    result = CliRunner().invoke(app, ["lint", str(ROOT / "examples/travel/procedure.yaml")])
    assert result.exit_code == 0
    assert result.output.startswith("14 nodes, 3 hubs, 3 terminals, ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is not YAML"),
        ("kind: Pod", "is no Procedure; it should begin with apiVersion: subterra.dev/v1alpha1"),
        ("apiVersion: subterra.dev/v1alpha1\nkind: Procedure\nspec: {start: a, nodes: [], color: red}", "spec.color: Extra inputs"),
    ],
)
def test_lint_of_a_bad_file_is_one_clear_message(text: str, message: str, tmp_path: Path) -> None:
    code, output = lint(text, tmp_path)
    assert code == 1
    assert message in output
    assert "Traceback" not in output


def test_lint_tells_every_finding_with_its_line_and_field(tmp_path: Path) -> None:
    procedure = """\
apiVersion: subterra.dev/v1alpha1
kind: Procedure
spec:
  systemPrompt: You help.
  start: hello
  variables:
    - {name: unused, values: [one]}
  nodes:
    - id: hello
      role: agent
      next: [{to: ask}]
    - id: ask
      role: user
      next:
        - {to: bye, when: Yes.}
        - to: nowhere
          when: No.
    - {id: bye, role: agent, prompt: Bye., outcome: success}
"""
    code, output = lint(procedure, tmp_path)
    assert code == 1
    assert [line.partition("procedure.yaml:")[2] for line in output.splitlines()] == [
        "7: warning: variable unused: is not used by any node; remove it or mention it [spec.variables[0]]",
        "9: error: node hello: has no prompt; say what the agent should do here [spec.nodes[0].prompt]",
        "16: error: edge ask → nowhere: there is no node 'nowhere'; add that node or correct the edge [spec.nodes[1].next[1].to]",
    ]


def test_a_wrong_field_is_told_with_its_line(tmp_path: Path) -> None:
    start = "apiVersion: subterra.dev/v1alpha1\nkind: Procedure\n"
    procedure = f"{start}spec:\n  systemPrompt: Help.\n  start: a\n  nodes:\n    - id: a\n      rule: agent"
    code, output = lint(procedure, tmp_path)
    assert code == 1
    assert "line 8: spec.nodes[0].rule: Extra inputs are not permitted" in output


def test_progress_follows_the_statuses() -> None:
    run = {
        "status": {
            "stages": [
                {"name": "generate", "state": "Succeeded", "percent": 100},
                {"name": "train", "state": "Running", "percent": 42},
            ]
        }
    }
    agent = {"metadata": {"name": "travel"}, "status": {"currentRun": "travel-1", "price": {"usdPerConversation": "0.0001"}}}
    stages = {stage.name: stage for stage in view(agent, run)}
    assert [stages[name].state for name in ("generate", "train", "evaluate", "serve", "price")] == [
        "Succeeded", "Running", "Pending", "Pending", "Succeeded"]  # fmt: skip
    assert (stages["train"].percent, stages["price"].message) == (42, "$0.0001 per conversation")


def test_a_duration_reads_like_one() -> None:
    assert (duration(9), duration(75), duration(3605)) == ("9s", "1m 15s", "60m 05s")


def agent_with(**up_to_date: str) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": "True"}, {"type": "UpToDate", **up_to_date}]
    return {"metadata": {"generation": 2}, "status": {"observedGeneration": 2, "conditions": conditions}}


def test_watching_ends_when_the_agent_serves_what_its_procedure_says() -> None:
    assert served(agent_with(status="True"))
    assert not served(agent_with(status="False"))
    assert not served(agent_with(status="True") | {"metadata": {"generation": 3}})


def test_a_rejected_candidate_is_trouble_and_work_in_progress_is_not() -> None:
    assert trouble(agent_with(status="False", reason="GateFailed", message="conformance")) == "GateFailed: conformance"
    assert trouble(agent_with(status="False", reason="Compiling", message="train 3%")) is None
