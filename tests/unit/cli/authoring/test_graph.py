"""`subterra graph` and `paths` tell what a procedure is, in every form, and trust nothing that its author wrote."""

import json
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.main import app
from subterra_core.drawing.graph_summary import condition_label, loops, paths_per_terminal
from subterra_core.procedure.lint.analyse import analyse
from subterra_testkit.procedures import PLAN, after, agent, end, fact_hub, procedure, user, way
from subterra_testkit.repository import ROOT

EVIL = """<script>alert("x")</script><img src=x onerror=alert(1)>]]>&amp;"|`end` \x1b[31m"""
FORMS = ("table", "json", "mermaid", "svg", "html")
SHOP = procedure(
    agent("hello", "ask"),
    user("ask", "hello", "bye", "human"),
    end(),
    end("human", outcome="escalation", prompt="A human comes."),
)


def file_of(spec: ProcedureSpec, tmp_path: Path) -> str:
    file = tmp_path / "shop.yaml"
    file.write_text(yaml.safe_dump({"apiVersion": "subterra.dev/v1alpha1", "kind": "Procedure", "spec": spec.dump()}))
    return str(file)


def output(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


def graph_of(spec: ProcedureSpec, form: str, tmp_path: Path, *more: str) -> str:
    return output("graph", file_of(spec, tmp_path), "-o", form, *more)


def test_json_tells_the_counts_endings_and_loops(tmp_path: Path) -> None:
    told = json.loads(graph_of(SHOP, "json", tmp_path))
    assert {key: told[key] for key in ("nodes", "edges", "hubs", "terminals", "paths", "min_turns", "max_turns")} == {
        "nodes": 4,
        "edges": 4,
        "hubs": 1,
        "terminals": 2,
        "paths": 4,
        "min_turns": 3,
        "max_turns": 5,
    }
    assert told["endings"] == [
        {"node": "bye", "outcome": "success", "paths": 2},
        {"node": "human", "outcome": "escalation", "paths": 2},
    ]
    assert told["loops"] == [["hello", "ask"]]
    assert told["graph"]["edges"][1] == {"from": "ask", "to": "hello", "when": "The customer wants hello.", "weight": 1}


@pytest.mark.parametrize(("example", "counts"), [("zoom", [14, 3, 3, 60, 4, 17]), ("insurance", [55, 6, 5, 2381, 9, 39])])
def test_the_examples_have_the_papers_counts(example: str, counts: list[int]) -> None:
    told = json.loads(output("graph", str(ROOT / f"examples/{example}/procedure.yaml"), "-o", "json"))
    assert [told[key] for key in ("nodes", "hubs", "terminals", "paths", "min_turns", "max_turns")] == counts


def test_endings_add_up_to_the_paths_that_lint_counts() -> None:
    assert sum((paths_per_terminal(SHOP) or {}).values()) == analyse(SHOP).paths


def test_the_table_shows_outcomes_loops_and_conditions(tmp_path: Path) -> None:
    told = graph_of(SHOP, "table", tmp_path)
    assert "4 nodes, 1 hub, 2 terminals, 4 paths of 3 to 5 turns" in told
    assert "ends in escalation at human: 2 paths" in told
    assert "loop of hello (at most 2×), ask (at most 2×)" in told
    assert "The customer wants human." in told


def test_a_node_that_leads_to_itself_is_a_loop() -> None:
    assert loops(procedure(user("hello", "hello", "bye"), end())) == [("hello",)]


def test_branches_that_a_fact_or_history_decides_say_how() -> None:
    hub = procedure(fact_hub("hello", way("bye", "Free"), way("other")), end(), end("other"), variables=[PLAN]).nodes[0]
    assert [condition_label(hub, edge) for edge in hub.next] == ["plan is Free", "plan is anything else"]
    tried = procedure(agent("hello", {"to": "bye"}, {"to": "other"}, decidedBy="history"), end(), end("other")).nodes[0]
    assert [condition_label(tried, edge) for edge in tried.next] == ["first choice", "if the edges above are used up or closed"]
    guarded = procedure(user("hello", after("bye", "hello", "bye", when="Yes."), "other"), end(), end("other")).nodes[0]
    assert condition_label(guarded, guarded.next[0]) == "Yes. (if hello went to bye last)"


def test_mermaid_draws_ways_back_dashed(tmp_path: Path) -> None:
    lines = graph_of(SHOP, "mermaid", tmp_path).splitlines()
    assert lines[0] == "flowchart TD"
    assert '  n1 -.->|"The customer wants hello."| n0' in lines
    assert '  n1 -->|"The customer wants bye."| n2' in lines
    assert any(line.startswith("  n3[") and line.endswith(":::escalation") for line in lines)


@pytest.mark.parametrize("form", FORMS)
def test_what_the_author_wrote_is_text_and_nothing_else(form: str, tmp_path: Path) -> None:
    evil = procedure(
        agent("hello", "ask", prompt=EVIL),
        user("ask", {"to": "bye", "when": EVIL}, "other", prompt=EVIL),
        end(prompt=EVIL),
        end("other"),
    )
    told = graph_of(evil, form, tmp_path)
    assert "\x1b" not in told
    if form in ("svg", "html"):
        assert not {tag for tag in _tags(told) if tag in ("img", "foreignobject", "iframe")}
        assert _tags(told).count("script") == (1 if form == "html" else 0)
    if form == "svg":
        assert ET.fromstring(told).tag == "{http://www.w3.org/2000/svg}svg"
    if form == "mermaid":
        assert not any(letter in told.replace("<br>", "") for letter in "<`&")
    if form == "json":
        assert json.loads(told)["graph"]["edges"][1]["when"] == EVIL


def _tags(text: str) -> list[str]:
    found: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append(tag)
            found.extend("handler" for name, _ in attrs if name.startswith("on"))

    Parser().feed(text)
    assert "handler" not in found
    return found


def test_the_page_works_offline_and_runs_no_script_but_its_own(tmp_path: Path) -> None:
    told = graph_of(SHOP, "html", tmp_path)
    assert "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-" in told
    assert not any(word in told.replace("http://www.w3.org/2000/svg", "") for word in ("http:", "https:", "src=", "@import"))
    assert "prefers-color-scheme: dark" in told
    assert told.count("<td>A human comes.</td>") == 1


def dataset(tmp_path: Path, name: str) -> str:
    place = tmp_path / "dataset"
    place.mkdir()
    paths = [["hello", "ask", "bye"], ["hello", "ask", "hello", "ask", "bye"]]
    edges = [("hello", "ask", 3), ("ask", "hello", 1), ("ask", "bye", 2), ("ask", "human", 0)]
    coverage: dict[str, Any] = {
        "conversations": {"train": 2},
        "nodes": {"hello": 3, "ask": 3, "bye": 2, "human": 0},
        "edges": [{"nodes": [source, to], "count": count} for source, to, count in edges],
    }
    (place / "coverage.json").write_text(json.dumps(coverage))
    rows: list[dict[str, Any]] = [{"path": path, "heldOut": False, "values": {"note": "a\u2028line"}} for path in paths]
    rows += [{"path": ["hello", "ask", "human"], "heldOut": True}]
    (place / "labels.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return str(place / name)


@pytest.mark.parametrize("name", ["", "coverage.json", "labels.jsonl"])
def test_visits_of_a_dataset_are_told_per_edge(name: str, tmp_path: Path) -> None:
    told = json.loads(graph_of(SHOP, "json", tmp_path, "--dataset", dataset(tmp_path, name)))
    assert told["conversations"] == 2
    assert [edge["visits"] for edge in told["graph"]["edges"]] == [3, 1, 2, 0]


def test_an_edge_that_is_never_trained_on_stands_out_in_pictures(tmp_path: Path) -> None:
    svg = ET.fromstring(graph_of(SHOP, "svg", tmp_path, "--dataset", dataset(tmp_path, "")))
    never = [group for group in svg.iter("{http://www.w3.org/2000/svg}g") if "never" in (group.get("class") or "").split()]
    assert ["".join(each.itertext()).split("\n")[0] for each in never] == ["ask → human: The customer wants human."]


@pytest.mark.parametrize(
    ("content", "told"), [("{}", "not a coverage.json or labels.jsonl"), (None, "cannot be read"), ("[1", "not a coverage.json or")]
)
def test_what_is_no_dataset_is_told(content: str | None, told: str, tmp_path: Path) -> None:
    place = tmp_path / "coverage.json"
    if content is not None:
        place.write_text(content)
    result = CliRunner().invoke(app, ["graph", file_of(SHOP, tmp_path), "--dataset", str(place)])
    assert result.exit_code == 2
    assert told in result.stderr


def test_a_dataset_of_another_version_is_refused(tmp_path: Path) -> None:
    other = procedure(agent("hello", "ask"), user("ask", "hello", "bye"), end())
    result = CliRunner().invoke(app, ["graph", file_of(other, tmp_path), "--dataset", dataset(tmp_path, "")])
    assert result.exit_code == 2
    assert "belongs to another version, with an edge ask → human; pass a dataset of this procedure" in result.stderr


def test_paths_are_listed_and_filtered_by_outcome(tmp_path: Path) -> None:
    file = file_of(SHOP, tmp_path)
    assert output("paths", file, "--outcome", "escalation").splitlines() == [
        "  5 turns  escalation   hello → ask → hello → ask → human",
        "  3 turns  escalation   hello → ask → human",
    ]
    assert json.loads(output("paths", file, "-o", "json", "--outcome", "success"))[1] == {
        "turns": 3,
        "outcome": "success",
        "nodes": ["hello", "ask", "bye"],
    }


def test_a_list_that_is_cut_says_so(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["paths", file_of(SHOP, tmp_path), "--limit", "1"])
    assert len(result.stdout.splitlines()) == 1
    assert "showing the first 1 paths; raise --limit to see more" in result.stderr


def test_a_name_is_read_from_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    class Reader:
        def __init__(self, target: Any) -> None:
            self.namespace = target.namespace

        def get(self, plural: str, name: str) -> dict[str, Any] | None:
            return {"spec": SHOP.dump()} if (self.namespace, plural, name) == ("demo", "procedures", "shop") else None

    monkeypatch.setattr("subterra_cli.cluster.ResourceReader", Reader)
    assert json.loads(output("graph", "shop", "-n", "demo", "-o", "json"))["name"] == "shop"
    missing = CliRunner().invoke(app, ["graph", "shop"])
    assert missing.exit_code == 2
    assert missing.stderr == "Procedure shop not found in namespace default, and there is no file shop\n"


def with_anywhere_edges() -> ProcedureSpec:
    """The shop with a person at any turn but ``late``, who has an ending of their own."""
    edge = {"to": "person", "when": "The customer asks for a person.", "except": ["late"]}
    nodes = (agent("hello", "ask"), user("ask", "more", "bye"), agent("more", "late"), user("late", "bye"), end(), end("person"))
    return procedure(*nodes, anywhere=[edge])


def test_anywhere_edges_are_one_box_and_are_counted_apart(tmp_path: Path) -> None:
    spec = with_anywhere_edges()
    svg = graph_of(spec, "svg", tmp_path)
    assert svg.count("(anywhere) → person: The customer asks for a person. (not at late)") == 1
    assert svg.count('class="way') == len([edge for node in spec.nodes for edge in node.next]) + 1
    table = graph_of(spec, "table", tmp_path)
    assert "not counting 1 anywhere edge, by which a conversation may leave at 1 of the customer's nodes" in table
    assert "ends in success at person: by anywhere edges alone" in table
    told = json.loads(graph_of(spec, "json", tmp_path))
    assert (told["anywhere_edges"], told["leaving_nodes"], told["paths"]) == (1, 1, 2)
    assert told["graph"]["anywhere"][0]["except"] == ["late"]
    assert "anywhere" not in json.dumps(json.loads(graph_of(SHOP, "json", tmp_path)))


def test_the_box_of_anywhere_edges_has_the_sum_of_the_visits(tmp_path: Path) -> None:
    rows = [{"path": ["hello", "ask", "person"], "heldOut": False}] * 3
    labels = tmp_path / "labels.jsonl"
    labels.write_text("\n".join(json.dumps(row) for row in rows))
    assert "person (3×)" not in (page := graph_of(with_anywhere_edges(), "html", tmp_path, "--dataset", str(labels)))
    assert "person: The customer asks for a person. (not at late) (3×)" in page
