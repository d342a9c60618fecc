"""`subterra lint` on folders, agents and files with several objects: everything at once, and what objects say about each other."""

import json
from pathlib import Path

from typer.testing import CliRunner

from subterra_cli.main import app
from subterra_testkit.repository import ROOT

HEADER = "apiVersion: subterra.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\n"
PROCEDURE = (
    HEADER.format(kind="Procedure", name="small")
    + """\
spec:
  systemPrompt: You help.
  start: hello
  nodes:
    - {id: hello, role: agent, prompt: Hello., examples: [Hello.], next: [{to: bye}]}
    - {id: bye, role: agent, prompt: Bye., outcome: success}
"""
)
AGENT = HEADER.format(kind="CompiledAgent", name="small") + "spec:\n  compile:\n    procedureRef: {name: small}\n"


def lint(folder: Path, *names: str, **files: str) -> tuple[int, list[str]]:
    """Exit code and lines for the named paths of a folder with these files; for the folder itself without names."""
    for name, content in files.items():
        file = folder / name.replace("_", "/").replace("/yaml", ".yaml").replace("/md", ".md")
        file.parent.mkdir(exist_ok=True)
        file.write_text(content)
    result = CliRunner().invoke(app, ["lint", *(str(folder / name) for name in names or [""])])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output.replace(f"{folder}/", "").splitlines()


def test_the_examples_have_no_errors() -> None:
    result = CliRunner().invoke(app, ["lint", str(ROOT / "examples")])
    assert result.exit_code == 0, result.output
    assert result.output.count("travel/") >= 2


def test_a_folder_is_checked_with_its_folders_and_without_what_is_not_ours(tmp_path: Path) -> None:
    pod = "apiVersion: v1\nkind: Pod\n"
    good = PROCEDURE.replace("prompt: Bye.", "prompt: Bye., examples: [Bye.]")
    code, lines = lint(tmp_path, a_yaml=good, b_yaml=pod, inner_c_yaml=AGENT, notes_md="# a: [")
    assert (code, lines) == (
        0,
        ["a.yaml: small: 2 nodes, 0 hubs, 1 terminal, 1 path of 2 turns", "inner/c.yaml: small: no errors"],
    )


def test_yaml_that_cannot_be_read_is_reported_in_a_folder_too(tmp_path: Path) -> None:
    code, lines = lint(tmp_path, a_yaml="a: [\n")
    assert (code, lines[0].startswith("a.yaml:2: error: file: is invalid YAML")) == (1, True)


def test_a_folder_without_objects_is_an_error(tmp_path: Path) -> None:
    assert lint(tmp_path)[0] == 2


def test_all_errors_of_a_header_and_of_fields_are_reported_at_once(tmp_path: Path) -> None:
    text = "kind: Procedure\nname: small\nspec:\n  start: hello\n  nodes: []\n  colour: red\n"
    code, lines = lint(tmp_path, "a.yaml", a_yaml=text)
    assert code == 1
    assert [line.split(": ")[2] for line in lines] == ["apiVersion", "name", "spec.systemPrompt", "spec.nodes", "spec.colour"]


def test_a_scripted_teacher_without_words_is_reported_for_every_node_at_once(tmp_path: Path) -> None:
    """An agent's teacher is scripted by default."""
    silent = PROCEDURE.replace(", examples: [Hello.]", "")
    code, lines = lint(tmp_path, "a.yaml", a_yaml=f"{silent}---\n{AGENT}")
    assert code == 1
    said = "has no examples, and the scripted teacher says nothing else; add examples of what is said here, or name a model as"
    assert [line.partition(" as ")[0] + " as" for line in lines if "has no examples" in line] == [
        f"a.yaml:{line}: error: node {node}: {said}" for line, node in [(8, "hello"), (9, "bye")]
    ]
    hosted = AGENT + "    template:\n      generation: {teacher: {name: anthropic, model: claude-sonnet-5-5}}\n"
    code, lines = lint(tmp_path, "b.yaml", b_yaml=f"{silent}---\n{hosted}")
    assert not [line for line in lines if "has no examples" in line]


def test_plan_refuses_what_a_scripted_teacher_could_not_say(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"{PROCEDURE}---\n{AGENT}")
    result = CliRunner().invoke(app, ["plan", str(file)])
    assert (result.exit_code, "node bye: has no examples" in result.output) == (2, True)


def test_agents_and_runs_are_checked_as_the_cluster_and_the_operator_would(tmp_path: Path) -> None:
    agent = HEADER.format(kind="CompiledAgent", name="Big_Name") + (
        "spec:\n  compile:\n    procedureRef: {name: smal}\n    template: {evaluation: {secondJudge: {name: scripted}}}\n"
        "  serving: {args: [--trust-remote-code]}\n"
    )
    run = HEADER.format(kind="CompileRun", name="run") + "spec: {inputs: {procedureRef: {name: small}, colour: red}}\n"
    code, lines = lint(tmp_path, "a.yaml", a_yaml=f"{PROCEDURE}---\n{agent}---\n{run}")
    assert code == 1
    said = "\n".join(lines)
    assert "metadata.name: 'Big_Name' cannot be the name of a CompiledAgent; use at most 40 lowercase letters" in said
    assert "spec.compile.template.evaluation.secondJudge: the scripted judge takes no second judge; remove it" in said
    assert "spec.serving.args: --trust-remote-code is not allowed; remove it or use one of" in said
    assert "warning: spec.compile.procedureRef.name: there is no Procedure 'smal' in these files; correct the name (small)" in said
    assert "spec.inputs.colour: there is no such field; remove it" in said


def test_scripts_read_the_findings_of_each_object(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"{PROCEDURE}---\n{AGENT}")
    data = json.loads(CliRunner().invoke(app, ["lint", str(file), "-o", "json"]).stdout)
    assert (data["errors"], [each["errors"] for each in data["objects"]]) == (1, [1, 0])
