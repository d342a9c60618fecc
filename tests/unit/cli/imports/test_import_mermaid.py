"""A Mermaid flowchart becomes a procedure: what is drawn as it is drawn, what is not drawn as a gap."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.files.lint_report import load_spec
from subterra_cli.imports.mermaid_flow import to_procedure
from subterra_cli.imports.mermaid_text import MermaidError, parse_flowchart
from subterra_cli.main import app
from subterra_cli.output.mermaid import mermaid
from subterra_core.drawing.graph_summary import condition_label
from subterra_testkit.procedures import agent, end, procedure, user
from subterra_testkit.repository import ROOT

EXAMPLES = sorted(path.parent.name for path in ROOT.glob("examples/*/procedure.yaml"))


def arrows(text: str) -> list[tuple[str, str, str]]:
    return [(arrow.source, arrow.target, arrow.label) for arrow in parse_flowchart(f"flowchart TD\n{text}").arrows]


def drawn(spec: ProcedureSpec) -> tuple[Any, ...]:
    """Nodes and edges with their labels, and anywhere edges with their exceptions."""
    nodes = [(node.id, node.role, node.outcome, node.decided_by if len(node.next) > 1 else None) for node in spec.nodes]
    edges = [(node.id, edge.to, condition_label(node, edge)) for node in spec.nodes for edge in node.next]
    return spec.start, nodes, edges, [(each.to, each.when, each.except_) for each in spec.anywhere]


@pytest.mark.parametrize("example", EXAMPLES)
def test_what_graph_draws_is_imported_with_the_same_nodes_edges_and_labels(example: str) -> None:
    spec = load_spec(ROOT / f"examples/{example}/procedure.yaml")
    document = to_procedure(parse_flowchart(mermaid(spec)), example)
    assert drawn(ProcedureSpec.model_validate(document["spec"])) == drawn(spec)


def test_the_start_survives_where_it_is_not_the_first_node() -> None:
    spec = procedure(end(), agent("hello", "ask"), user("ask", "hello", "bye"))
    assert to_procedure(parse_flowchart(mermaid(spec)), "shop")["spec"]["start"] == "hello"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A --> B --> C", [("A", "B", ""), ("B", "C", "")]),
        ("A & B --> C & D", [("A", "C", ""), ("A", "D", ""), ("B", "C", ""), ("B", "D", "")]),
        ("A-->|Yes|B;B-- No, thanks -->C", [("A", "B", "Yes"), ("B", "C", "No, thanks")]),
        ("A -. maybe .-> B ==> C == sure ==> D", [("A", "B", "maybe"), ("B", "C", ""), ("C", "D", "sure")]),
        ('A --> |"#quot;Hi#quot; <b>there</b>"| B', [("A", "B", '"Hi" there')]),
        ("A <--> B", [("A", "B", ""), ("B", "A", "")]),
        ("A ~~~ B --- C", [("B", "C", "")]),
        ("my-node e1@--> other.node", [("my-node", "other.node", "")]),
        ("subgraph one [Part one]\ndirection LR\nA --> B\nend\nS --> one --> E", [("A", "B", ""), ("S", "A", ""), ("B", "E", "")]),
        (
            "A:::x --> B\n%% no --> edge\nclassDef x fill:#fff,color:#000\nstyle A fill:#f9f\nlinkStyle 0 stroke:red",
            [("A", "B", "")],
        ),
    ],
)
def test_links_of_all_kinds_are_read(text: str, found: list[tuple[str, str, str]]) -> None:
    assert arrows(text) == found


@pytest.mark.parametrize(
    "shape",
    ["[a b]", "(a b)", "([a b])", "[[a b]]", "[(a b)]", "((a b))", "(((a b)))", "{a b}", "{{a b}}", "[/a b/]", "[\\a b\\]",
     "[/a b\\]",     ">a b]", '["a b"]', '{"`a b`"}', '@{ shape: diam, label: "a b" }'],
)  # fmt: skip
def test_boxes_of_all_shapes_are_read(shape: str) -> None:
    chart = parse_flowchart(f"graph LR\nX{shape} --> Y")
    assert (chart.boxes["X"].text, [*chart.boxes]) == ("a b", ["X", "Y"])


def imported(text: str) -> dict[str, dict[str, Any]]:
    return {node["id"]: node for node in to_procedure(parse_flowchart(text), "shop")["spec"]["nodes"]}


def test_a_branch_is_decided_by_a_turn_of_the_customer_and_unlabeled_branches_are_gaps() -> None:
    nodes = imported("flowchart TD\nA{Do you have a receipt?} -->|Yes| B[Refund it]\nA --> C[Explain why not]")
    assert nodes["A"] == {"id": "A", "role": "agent", "prompt": "Do you have a receipt?", "next": [{"to": "A_answer"}]}
    assert nodes["A_answer"]["role"] == "user"
    whens = [edge["when"] for edge in nodes["A_answer"]["next"]]
    assert whens == ["Yes", "GAP: what the customer says to get to 'Explain why not'"]


def test_a_question_and_a_label_make_a_turn_of_the_customer_and_boxes_that_say_nothing_are_none() -> None:
    nodes = imported("graph TD\nS([Start]) --> A[Your name?] --> B[Look it up] -->|It is there| C[Say so] --> D((End))")
    assert [*nodes] == ["A", "A_answer", "B", "B_answer", "C", "D"]
    assert nodes["A_answer"]["prompt"] == "GAP: what the customer answers to 'Your name?'"
    assert nodes["B_answer"] == {"id": "B_answer", "role": "user", "next": [{"to": "C", "when": "It is there"}]}
    assert nodes["D"] == {"id": "D", "role": "agent", "prompt": "GAP: how the agent ends the conversation"}


def test_a_box_of_the_customer_at_the_end_is_answered_by_the_agent() -> None:
    nodes = imported("flowchart TD\nA[Agent: Say hello] --> B([Customer: No, thanks])")
    assert (nodes["A"]["prompt"], nodes["B"]["role"], nodes["B"]["next"]) == ("Say hello", "user", [{"to": "B_closing"}])
    assert nodes["B_closing"]["prompt"].startswith("GAP: how the agent ends the conversation")


def test_what_a_drawing_does_not_say_is_refused_by_lint_with_the_fix(tmp_path: Path) -> None:
    page = tmp_path / "support.md"
    page.write_text("# Support\n\n```mermaid\nflowchart TD\n  A[Say hello] --> B[Say goodbye]\n```\n")
    made = CliRunner().invoke(app, ["import", "mermaid", str(page)])
    assert made.exit_code == 0, made.output
    assert "1 gap to fill in, 1 ending without an outcome" in made.stderr
    assert yaml.safe_load(made.stdout)["metadata"]["name"] == "support"
    file = tmp_path / "p.yaml"
    file.write_text(made.stdout)
    told = CliRunner().invoke(app, ["lint", str(file)])
    assert told.exit_code == 1
    assert "node B: is a dead end without an outcome; set outcome" in told.stderr
    assert "spec.systemPrompt: still contains 'GAP: " in told.stderr


def test_of_several_flowcharts_one_is_chosen(tmp_path: Path) -> None:
    page = tmp_path / "two.md"
    page.write_text("```mermaid\ngraph TD\nA-->B\n```\n```mermaid\nsequenceDiagram\n```\n```mermaid\ngraph TD\nC-->D\n```\n")
    refused = CliRunner().invoke(app, ["import", "mermaid", str(page)])
    assert (refused.exit_code, "2 flowcharts in it; choose one with --chart 1 to --chart 2" in refused.stderr) == (2, True)
    chosen = CliRunner().invoke(app, ["import", "mermaid", str(page), "--chart", "2"])
    assert yaml.safe_load(chosen.stdout)["spec"]["start"] == "C"


@pytest.mark.parametrize(
    "text", ["sequenceDiagram\nA->>B: Hi", "flowchart TD\nA[open --> B", "flowchart TD\nA --> ]", "graph TD\n"]
)
def test_what_cannot_be_read_is_refused_with_the_place(text: str) -> None:
    with pytest.raises(MermaidError, match=r"first line must be|line \d+ of the flowchart|has no nodes"):
        to_procedure(parse_flowchart(text), "shop")
