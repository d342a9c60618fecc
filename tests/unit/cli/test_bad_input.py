"""Whatever a file holds, the command line says one clear thing: file, line, field and fix, never a traceback."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from subterra_cli.main import app
from subterra_testkit.procedures import agent, end, procedure, user

START = "apiVersion: subterra.dev/v1alpha1\nkind: Procedure\nmetadata: {name: small}\n"
HEAD = START + "spec:\n  systemPrompt: You help.\n  start: hello\n  nodes:\n"
BYE = "    - {id: bye, role: agent, prompt: Bye., outcome: success}\n"
HELLO = "    - {id: hello, role: agent, prompt: Hello., next: [{to: bye}]}\n"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def small(old: str = "", new: str = "") -> str:
    """A sound procedure of two nodes, with something else in the first."""
    return HEAD + HELLO.replace(old, new) + BYE


def run(command: str, content: str | bytes, tmp_path: Path) -> tuple[int, list[str]]:
    file = tmp_path / "procedure.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    result = CliRunner().invoke(app, [command, str(file)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output.replace(f"{file}:", "").splitlines()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("a: [\n", "2: error: file: is invalid YAML: "),
        ("", "1: error: kind: is missing; start the file with apiVersion: subterra.dev/v1alpha1 and kind: Procedure"),
        ("- one\n- two\n", "1: error: kind: is missing; start the file with"),
        ("apiVersion: v1\nkind: Pod\n", "2: error: kind: is Pod, not Procedure; start the file with"),
        ("apiVersion: v1\nkind: Procedure\n", "apiVersion: is 'v1'; write apiVersion: subterra"),
        (START + "specs: {}\n", "4: error: specs: there is no such field; use apiVersion, kind, metadata, spec"),
        (START, "1: error: spec: is empty, not a mapping; write its fields as name: value"),
        (START + "spec: [a]\n", "4: error: spec: is a list, not a mapping; write its fields as name: value"),
        (small() + "  colour: red\n", "10: error: spec.colour: there is no such field; remove it"),
        (small("role", "rule"), "8: error: spec.nodes[0].rule: there is no such field; did you mean role?"),
        (small("prompt: Hello.", "max_visits: 2"), "max_visits: there is no such field; did you mean maxVisits?"),
        (small("agent", "robot"), "8: error: spec.nodes[0].role: is the string 'robot'; write agent, customer, user, tool, call"),
        (
            small("Hello.", "yes"),
            "8: error: spec.nodes[0].prompt: is yes, which YAML reads as true, not as a string; put it in quotes",
        ),
        (small("Hello.", "[a]"), "8: error: spec.nodes[0].prompt: is a list, not a string; write a string"),
        (small("[{to: bye}]", "{to: bye}"), "spec.nodes[0].next: is a mapping, not a list; begin each"),
        (small("Hello.", "Hello., maxVisits: '2'"), "is the string '2', not a whole number; write digits without"),
        (small("Hello.", "Hello., maxVisits: 99"), "8: error: spec.nodes[0].maxVisits: is the number 99; write a number not above"),
        (small().replace("  start: hello\n", ""), "4: error: spec.start: is missing; add it"),
        (HEAD + HELLO, "7: error: spec.nodes: has 1 entry; list at least 2"),
        (
            HEAD.replace("start: hello", "start: hallo") + HELLO + BYE,
            "6: error: spec.start: there is no node 'hallo'; set start to the id",
        ),
        (small("to: bye", "to: by"), "edge hello → by: there is no node 'by'; add that node or correct the edge"),
        (HEAD + HELLO + HELLO + BYE, "9: error: node hello: its id is used more than once; give every node its own id"),
        (small("hello", "größe"), "8: error: spec.nodes[0].id: 'größe' is not a valid name; start with a letter from a to z"),
        (small("Hello.", "x" * 4001), "spec.nodes[0].prompt: has 4,001 characters; shorten it to at most 4,000"),
        (small("Hello.", "x" * 10_000_000), "8: error: file: has 10,000,251 bytes, more than the limit of 1,048,576"),
        (HEAD + "    - id: hello\n      id: hallo\n" + BYE, "9: error: file: has the field 'id' twice, first on line 8; remove"),
        (HEAD + "\t- id: hello\n", "8: error: file: is invalid YAML: a tab where only spaces are allowed; indent"),
        (
            HEAD + "    - id: hello\n\t  role: agent\n",
            "9: error: file: is invalid YAML: a tab where only spaces are allowed; indent",
        ),
        (HEAD.encode() + b"    - id: \xe4\n", "8: error: file: is not UTF-8: byte 0xe4; save the file as UTF-8"),
        ((HEAD + HELLO).encode("utf-16"), "1: error: file: is not UTF-8"),
        (HEAD + "    - id: a\x00b\n", "8: error: file: contains the character 0x0000, which YAML does not allow; remove it"),
        (
            HEAD + "    - !!python/object/apply:os.system [id]\n",
            "8: error: file: is invalid YAML: could not determine a constructor",
        ),
        (HEAD + "    - *nothing\n", "8: error: file: is invalid YAML: "),
        (BOMB, "1,048,576 characters through its anchors; use fewer anchors"),
        ("a: &a [*a]\n", "1: error: file: has an anchor that contains itself; write that part out in full"),
        ("[" * 100_000, "1: error: file: is nested more than 50 levels deep; check the indentation"),
        (
            small() + "---\n" + small(),
            "3: error: metadata.name: Procedure small is in this file more than once; give each its own name",
        ),
        ("kind: Procedure\nname: small\n", "2: error: name: there is no such field; write it below metadata, indented"),
        (START + "spec:\n  personas: [{text: a}]\n", "personas[0].text: there is no such field; remove it, or use one of desc"),
        (small("Hello.", "!!int word"), "error: file: contains an unreadable value"),
    ],
)
def test_one_clear_message(content: str | bytes, told: str, tmp_path: Path) -> None:
    code, lines = run("lint", content, tmp_path)
    assert code == 1
    assert any(told in line for line in lines), lines
    assert all(line.partition(":")[0].isdigit() and "; " in line and len(line) < 300 for line in lines)


@pytest.mark.parametrize("command", ["graph", "paths"])
def test_other_commands_say_the_same_and_exit_with_2(command: str, tmp_path: Path) -> None:
    code, lines = run(command, small("to: bye", "to: by"), tmp_path)
    assert code == 2
    assert "8: error: edge hello → by: there is no node 'by'; add that node or correct the edge [spec.nodes[0].next[0].to]" in lines


@pytest.mark.parametrize(
    "content",
    [
        ("\ufeff" + small()).encode(),
        small().replace("\n", "\r\n").encode(),
        (small("Hello.", "¡Hola señor! 你好")).encode(),
        ("apiVersion: v1\nkind: ConfigMap\n---\n" + small()).encode(),
        (HEAD + HELLO.replace("[{to", "&on [{to") + "    - {id: again, role: agent, prompt: Hm., next: *on}\n" + BYE)
        .replace("start: hello", "start: again")
        .replace("next: &on [{to: bye}]", "next: &on [{to: bye}], maxVisits: 1")
        .encode(),
        json.dumps(
            {
                "apiVersion": "subterra.dev/v1alpha1",
                "kind": "Procedure",
                "metadata": {"name": "short"},
                "spec": procedure(agent("hello", "bye"), end()).dump(),
            }
        ).encode(),
    ],
    ids=["byte order mark", "line ends of Windows", "any language", "another document before", "anchors", "JSON"],
)
def test_what_editors_and_people_do_is_fine(content: bytes, tmp_path: Path) -> None:
    _, lines = run("lint", content, tmp_path)
    assert not [line for line in lines if "cannot be reached" not in line and "error" in line]


def test_two_thousand_edges_are_examined_and_drawn(tmp_path: Path) -> None:
    ids = [f"n{number}" for number in range(400)]
    nodes: list[dict[str, Any]] = [
        user(node, *(ids[at + step] for step in range(1, 7) if at + step < len(ids)), role="user") for at, node in enumerate(ids)
    ]
    nodes[-1] = end(ids[-1])
    spec = procedure(*nodes, start="n0").dump()
    assert sum(len(node["next"]) for node in spec["nodes"][:-1]) > 2_000
    text = json.dumps({"apiVersion": "subterra.dev/v1alpha1", "kind": "Procedure", "spec": spec}, indent=1)
    file = tmp_path / "procedure.yaml"
    file.write_text(text)
    result = CliRunner().invoke(app, ["graph", str(file), "-o", "svg"])
    assert result.exit_code == 0, result.output
    assert result.output.count('class="way') > 2_000


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["graph", str(tmp_path / "none.yaml")])
    assert result.exit_code == 2
    assert "cannot be read: No such file or directory; check the path" in result.output


def test_many_errors_are_told_up_to_fifty(tmp_path: Path) -> None:
    nodes = "".join(f"    - {{id: n{number}, role: agent, colour: red}}\n" for number in range(80))
    _, lines = run("lint", HEAD + nodes, tmp_path)
    assert len(lines) == 51
    assert lines[-1].endswith("and 30 more; fix these first")


def test_lint_tells_every_finding_with_its_line_and_field(tmp_path: Path) -> None:
    procedure = """\
apiVersion: subterra.dev/v1alpha1
kind: Procedure
metadata: {name: short}
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
    code, lines = run("lint", procedure, tmp_path)
    assert code == 1
    assert lines == [
        "8: warning: variable unused: is not used by any node; remove it or use it [spec.variables[0]]",
        "10: error: node hello: has no prompt; describe what the agent should do here [spec.nodes[0].prompt]",
        "17: error: edge ask → nowhere: there is no node 'nowhere'; add that node or correct the edge [spec.nodes[1].next[1].to]",
    ]


def test_scripts_read_findings_as_json(tmp_path: Path) -> None:
    file = tmp_path / "procedure.yaml"
    file.write_text(small("to: bye", "to: by"))
    result = CliRunner().invoke(app, ["lint", str(file), "-o", "json"])
    data = json.loads(result.stdout)
    assert (result.exit_code, data["errors"]) == (1, 1)
    assert data["findings"][0] == {
        "line": 8,
        "severity": "error",
        "where": "edge hello → by",
        "field": "spec.nodes[0].next[0].to",
        "problem": "there is no node 'by'",
        "cure": "add that node or correct the edge",
    }


def test_a_sound_file_is_summed_up_in_one_line(tmp_path: Path) -> None:
    assert run("lint", small(), tmp_path) == (0, ["2 nodes, 0 hubs, 1 terminal, 1 path of 2 turns"])


@pytest.mark.parametrize(
    ("written", "fix"),
    [
        ("{{name}}", "put a text that begins with {{ in quotes"),
        ("Say: hello", "put a text with a colon in quotes"),
        ("'I'm here'", "write an apostrophe twice within single quotes, or use double quotes"),
        ("%off", "put the text that begins with it in quotes"),
        ("*name", "write the anchor (&name) before it, or put a text that begins with * in quotes"),
        ("!!python/name:os.system x", "remove the tag"),
        ("{text: Say {{name}} twice}", "put a text with {{ in quotes"),
        ("[Order # 5 is late]", "put a text with # in quotes: it begins a comment"),
    ],
)
def test_a_frequent_slip_in_yaml_has_its_own_fix(written: str, fix: str, tmp_path: Path) -> None:
    _, lines = run("lint", small().replace("prompt: Bye.", f"prompt: {written}"), tmp_path)
    assert len(lines) == 1
    assert lines[0].endswith(f"; {fix}")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("no", "false"),
        ("On", "true"),
        ("y", "true"),
        ("N", "false"),
        ("08", "the number 8"),
        ("1e3", "the number 1000"),
        ("1_000", "the number 1000"),
        ("0x1f", "the number 31"),
    ],
)
def test_what_yaml_reads_otherwise_is_told_as_it_was_written(written: str, read: str, tmp_path: Path) -> None:
    _, lines = run("lint", small().replace("prompt: Bye.", f"prompt: {written}"), tmp_path)
    assert [line.partition("prompt: ")[2] for line in lines] == [
        f"is {written}, which YAML reads as {read}, not as a string; put it in quotes"
    ]


@pytest.mark.parametrize("written", ["12:30", "08:00", "2027-01-31", "2027-01-31T08:00:00Z", "=", "yep"])
def test_what_kubectl_reads_as_a_string_is_one(written: str, tmp_path: Path) -> None:
    assert run("lint", small().replace("prompt: Bye.", f"prompt: {written}"), tmp_path)[0] == 0


def test_a_time_of_day_is_no_number(tmp_path: Path) -> None:
    _, lines = run("lint", small("Hello.", "Hello., maxVisits: 1:30"), tmp_path)
    assert lines == [
        "8: error: spec.nodes[0].maxVisits: is the string '1:30', not a whole number; write digits alone, such as 1000"
    ]


@pytest.mark.parametrize("tag", ["!!binary aGk=", "!!timestamp 2027-01-31", "!!set {a}"])
def test_a_value_that_json_does_not_have_is_an_error(tag: str, tmp_path: Path) -> None:
    _, lines = run("lint", small().replace("prompt: Bye.", f"prompt: {tag}"), tmp_path)
    assert [line.rpartition("; ")[2] for line in lines] == ["remove the tag"]


@pytest.mark.parametrize("name", ["Shop", "réparation", "アレルギー", "my_shop", "-shop", "shop.", "x" * 254])
def test_a_name_that_the_api_server_would_refuse_is_an_error(name: str, tmp_path: Path) -> None:
    code, lines = run("lint", re.sub(r"metadata: .*", f"metadata: {{name: {name}}}", small()), tmp_path)
    assert code == 1
    assert any(f"metadata.name: '{name}' cannot be the name of a Procedure; use at most 253 letters" in line for line in lines)


@pytest.mark.parametrize("name", ["shop", "shop.eu", "7-eleven"])
def test_a_name_that_the_api_server_takes_is_none(name: str, tmp_path: Path) -> None:
    code, _ = run("lint", re.sub(r"metadata: .*", f"metadata: {{name: {name}}}", small()), tmp_path)
    assert code == 0


def test_a_procedure_without_a_name_is_an_error(tmp_path: Path) -> None:
    code, lines = run("lint", re.sub(r"metadata: .*\n", "", small()), tmp_path)
    assert (code, lines) == (1, ["1: error: metadata.name: is missing; give the Procedure a name"])


@pytest.mark.parametrize("written", ["2027", "on", "1.5"])
def test_a_name_or_a_label_that_is_no_string_is_an_error(written: str, tmp_path: Path) -> None:
    """The API server takes strings alone."""
    _, lines = run(
        "lint", re.sub(r"metadata: .*", f"metadata: {{name: {written}, labels: {{team: {written}}}}}", small()), tmp_path
    )
    for field in ("metadata.name", "metadata.labels.team"):
        (found,) = [line for line in lines if line.startswith(f"3: error: {field}: is ")]
        assert found.endswith(" a string; put it in quotes")


def test_a_number_with_a_comma_is_told_to_be_written_without(tmp_path: Path) -> None:
    _, lines = run("lint", small("Hello.", "Hello., maxVisits: 1,000"), tmp_path)
    fix = "if it is the end of a number with a comma, write the number without it, such as 1000"
    assert lines == [f"8: error: spec.nodes[0].0: there is no such field; {fix}"]


def test_a_list_of_objects_is_told_how_to_be_written(tmp_path: Path) -> None:
    _, lines = run("lint", "apiVersion: v1\nkind: List\nitems: []\n", tmp_path)
    assert lines == ["2: error: kind: is List, not Procedure; write its items as documents of their own, with --- between them"]
