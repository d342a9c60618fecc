"""Commands find the procedures that a procedure calls: in its folder, among the files given, or in the cluster."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from subterra_api.v1alpha1 import API_VERSION
from subterra_cli.chat.served_agent import find_served_agent
from subterra_cli.cluster import ClusterTarget
from subterra_cli.errors import CommandError
from subterra_cli.files.load_procedure import from_cluster
from subterra_cli.files.manifests import read_compile
from subterra_cli.main import app
from subterra_testkit.procedures import Json, agent, branch, end, procedure, user
from subterra_testkit.repository import ROOT

BANK = str(ROOT / "examples/bank/procedure.yaml")
CALL: Json = {"id": "check", "role": "call", "procedure": "identity", "next": [{"to": "pay", "outcome": "success"}, {"to": "stop"}]}
CALLER = procedure(agent("hello", "check"), CALL, end("pay"), end("stop", outcome="abandonment"))
CALLEE = procedure(
    agent("ask", "answer"),
    user("answer", branch("yes", "Here."), branch("no", "Never.")),
    end("yes"),
    end("no", outcome="abandonment"),
    start="ask",
)
CHECKED = "check__ask"


def written(file: Path, name: str, spec: Json) -> str:
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump({"apiVersion": API_VERSION, "kind": "Procedure", "metadata": {"name": name}, "spec": spec}))
    return str(file)


def command(*arguments: str, code: int = 0, stdin: str | None = None) -> str:
    result = CliRunner().invoke(app, list(arguments), input=stdin)
    assert result.exit_code == code, result.output
    return result.output


def test_lint_finds_the_called_procedure_in_the_folder_of_the_file(tmp_path: Path) -> None:
    file = written(tmp_path / "bank.yaml", "bank", CALLER.dump())
    written(tmp_path / "other-name.yml", "identity", CALLEE.dump())
    assert "7 nodes, 1 hub, 2 terminals, 2 paths" in command("lint", file)


def test_lint_finds_it_among_the_files_given_after_its_own_folder(tmp_path: Path) -> None:
    file = written(tmp_path / "bank.yaml", "bank", CALLER.dump())
    other = written(tmp_path / "shared" / "identity.yaml", "identity", CALLEE.dump())
    assert "7 nodes" in command("lint", file, other)
    written(tmp_path / "identity.yaml", "identity", procedure(agent("ask", "yes"), end("yes"), start="ask").dump())
    assert "procedure identity can also end" not in command("lint", file, other, code=1)


def test_a_called_procedure_that_is_nowhere_is_named_with_where_it_was_looked_for(tmp_path: Path) -> None:
    file = written(tmp_path / "bank.yaml", "bank", CALLER.dump())
    line = next(number for number, text in enumerate(Path(file).read_text().splitlines(), 1) if "procedure: identity" in text)
    assert command("lint", file, code=1).startswith(
        f"{file}:{line}: error: node check: calls identity, which is not in the folder {tmp_path}; "
        "put its file there, pass it too, or correct the name [spec.nodes[1].procedure]"
    )
    other = written(tmp_path / "else" / "other.yaml", "other", CALLEE.dump())
    assert f"which is neither in the folder {tmp_path} nor in {other}; put" in command("lint", file, other, code=1)
    assert "which is not in standard input" in command("lint", "-", code=1, stdin=Path(file).read_text())


def test_errors_of_the_called_file_name_its_line_or_its_node(tmp_path: Path) -> None:
    file = written(tmp_path / "bank.yaml", "bank", CALLER.dump())
    called = written(tmp_path / "identity.yaml", "identity", CALLEE.dump() | {"sart": "ask"})
    assert f"node check: calls identity, which has errors itself: {called}:" in command("lint", file, code=1)
    broken = CALLEE.dump()
    broken["nodes"][0]["prompt"] = " "
    written(tmp_path / "identity.yaml", "identity", broken)
    assert "error: node check, in procedure identity: node ask (spec.nodes[0].prompt): has no prompt" in command(
        "lint", file, code=1
    )


def test_a_scripted_teacher_needs_examples_in_called_procedures_too(tmp_path: Path) -> None:
    written(tmp_path / "bank.yaml", "bank", CALLER.dump())
    written(tmp_path / "identity.yaml", "identity", CALLEE.dump())
    maker = {"apiVersion": API_VERSION, "kind": "CompiledAgent", "metadata": {"name": "bank"}}
    spec = {"compile": {"procedureRef": {"name": "bank"}}}
    (tmp_path / "agent.yaml").write_text(yaml.safe_dump({**maker, "spec": spec}))
    found = command("lint", str(tmp_path), code=1)
    assert "node check, in procedure identity: node ask (spec.nodes[0].examples): has no examples" in found


def test_a_compile_request_has_the_flat_procedure() -> None:
    request = read_compile([BANK, str(ROOT / "examples/bank/agent.yaml")], recompile=False)
    assert "check__ask_number" in {node.id for node in request.procedure.nodes}
    assert [tool.name for tool in request.procedure.tools] == ["find_customer"]


def test_paths_and_json_are_those_of_the_flat_procedure() -> None:
    assert "greet → check__ask_number → check__number → check__refused → goodbye" in command("paths", BANK)
    graph = json.loads(command("graph", BANK, "-o", "json"))
    assert (graph["nodes"], graph["paths"]) == (19, 6)


@pytest.mark.parametrize("form", ["mermaid", "svg", "html"])
def test_a_picture_has_one_box_for_a_call_and_all_nodes_on_request(form: str) -> None:
    folded, unfolded = command("graph", BANK, "-o", form), command("graph", BANK, "-o", form, "--unfold")
    assert "calls procedure identity-check" in folded
    assert "ends with not_found" in folded
    assert "check__ask_number" not in folded
    assert "check__ask_number" in unfolded
    assert "calls procedure" not in unfolded


def test_diff_shows_an_edit_of_a_called_procedure_as_the_callers(tmp_path: Path) -> None:
    before = written(tmp_path / "old" / "bank.yaml", "bank", CALLER.dump())
    after = written(tmp_path / "new" / "bank.yaml", "bank", CALLER.dump())
    edited = CALLEE.dump()
    edited["nodes"][0]["prompt"] = "Ask politely."
    written(tmp_path / "old" / "identity.yaml", "identity", CALLEE.dump())
    written(tmp_path / "new" / "identity.yaml", "identity", edited)
    assert "~ node check__ask: prompt" in command("diff", before, after, code=1)


class ClusterReader:
    """A cluster with these objects, by plural and name."""

    def __init__(self, objects: dict[tuple[str, str], Json]) -> None:
        self.objects, self.target = objects, ClusterTarget("demo")

    def get(self, plural: str, name: str) -> Json | None:
        return self.objects.get((plural, name))


def cluster(monkeypatch: pytest.MonkeyPatch, **specs: Json) -> ClusterReader:
    reader = ClusterReader({("procedures", name): {"spec": spec} for name, spec in specs.items()})
    monkeypatch.setattr("subterra_cli.cluster.ResourceReader", lambda target: reader)
    return reader


def test_procedures_called_by_one_in_the_cluster_are_read_there(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = cluster(monkeypatch, bank=CALLER.dump(), identity=CALLEE.dump())
    loaded = from_cluster("bank", reader.target)
    assert CHECKED in {node.id for node in loaded.spec.nodes}
    assert loaded.written == CALLER


def test_a_called_procedure_that_the_cluster_lacks_is_named_with_the_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = cluster(monkeypatch, bank=CALLER.dump())
    words = f"procedure bank: node check: calls identity, which does not exist in namespace {reader.target.namespace}; create it"
    with pytest.raises(CommandError, match=words):
        from_cluster("bank", reader.target)


def test_chat_knows_the_flat_procedure_of_a_served_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    status: dict[str, Any] = {
        "serving": {"version": "1a2b3c4d"},
        "replicas": 1,
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    served = {"metadata": {"name": "bank"}, "spec": {"compile": {"procedureRef": {"name": "bank"}}}, "status": status}
    reader = cluster(monkeypatch, bank=CALLER.dump(), identity=CALLEE.dump())
    reader.objects["compiledagents", "bank"] = served
    spec = find_served_agent(reader, "bank").spec
    assert spec is not None
    assert CHECKED in {node.id for node in spec.nodes}
    del reader.objects["procedures", "identity"]
    assert find_served_agent(reader, "bank").spec is None
    assert find_served_agent(reader, "bank").why_unchecked == "Procedure bank has errors in its calls of others"
