"""A graph written with the real LangGraph becomes a procedure: its shape as it is, its gaps told."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.files.lint_report import load_spec
from subterra_cli.imports.gap_count import find_gaps
from subterra_cli.imports.langgraph_flow import to_procedure
from subterra_cli.imports.langgraph_reader import load_flow
from subterra_cli.main import app
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.lint.analyse import analyse

SHOP = "subterra_testkit.langgraph_shop"


def imported(target: str, file: Path) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["import", "langgraph", target, "--name", "shop"])
    assert result.exit_code == 0, result.output
    file.write_text(result.stdout)
    return {node["id"]: node for node in yaml.safe_load(result.stdout)["spec"]["nodes"]}


def ways(node: dict[str, Any]) -> list[str]:
    return [edge["to"] for edge in node.get("next", [])]


def test_nodes_edges_loops_and_endings_are_taken_over(tmp_path: Path) -> None:
    nodes = imported(f"{SHOP}:graph", tmp_path / "p.yaml")
    assert {node: ways(found) for node, found in nodes.items()} == {
        "welcome": ["welcome_answer"],
        "welcome_answer": ["look_up", "welcome"],
        "look_up": ["look_up_answer"],
        "look_up_answer": ["refund", "closing"],
        "refund": ["refund_answer"],
        "refund_answer": ["look_up", "colleague"],
        "colleague": [],
        "closing": [],
    }
    assert [nodes[node]["role"] for node in ("welcome", "welcome_answer")] == ["agent", "user"]


def test_what_the_graph_says_helps_the_author(tmp_path: Path) -> None:
    nodes = imported(f"{SHOP}:graph", tmp_path / "p.yaml")
    assert "Greet the customer and ask for the order's number." in nodes["welcome"]["prompt"]
    told = nodes["look_up_answer"]["next"][1]["when"]
    assert told == "GAP: what the customer says to get to the end (the graph calls it 'fine' or 'thanks')"


def filled_in(document: dict[str, Any]) -> dict[str, Any]:
    """The document with words of an author where it has gaps."""
    for number, field in enumerate(find_gaps(document)):
        *steps, last = re.findall(r"[a-zA-Z]+|[0-9]+", field)
        place: Any = document
        for step in steps:
            place = place[int(step)] if step.isdigit() else place[step]
        place[last] = f"These are words {number} of the author."
    return document


def test_lint_refuses_an_import_until_every_gap_is_filled_in(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    imported(f"{SHOP}:graph", file)
    result = CliRunner().invoke(app, ["lint", str(file)])
    document = yaml.safe_load(file.read_text())
    left = find_gaps(document)
    assert len(left) == 15
    assert result.exit_code == 1
    assert [line for line in result.stderr.splitlines() if " error: " not in line] == []
    assert all(f"a gap left by the import; replace it with what it asks for [{field}]" in result.stderr for field in left[1:])
    assert ": error: spec.systemPrompt: still contains 'GAP: one sentence that says who the agent is'" in result.stderr
    assert ": error: edge look_up_answer → closing: still contains 'GAP: what the customer says to get to the end" in result.stderr

    file.write_text(yaml.safe_dump(filled_in(document)))
    assert CliRunner().invoke(app, ["lint", str(file)]).exit_code == 0
    assert Graph(load_spec(file)).paths()


def test_a_routing_function_that_may_go_anywhere_is_no_made_up_edge(tmp_path: Path) -> None:
    nodes = imported(f"{SHOP}:with_an_unknown_way", tmp_path / "p.yaml")
    assert ways(nodes["vague_answer"]) == []
    assert "add the missing edges" in nodes["vague_answer"]["prompt"]


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("shop", "'shop' is not MODULE:GRAPH; write for example shop.agent:graph"),
        ("no_such_module:graph", "no_such_module:graph cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'"),
        (f"{SHOP}:nothing", "cannot be loaded: AttributeError"),
        (f"{SHOP}:number", "has type int, not StateGraph; pass what compile() returned"),
    ],
)
def test_a_wrong_target_is_told(target: str, told: str) -> None:
    result = CliRunner().invoke(app, ["import", "langgraph", target])
    assert result.exit_code == 2
    assert told in result.stderr
    assert "Traceback" not in result.output


def test_names_that_are_no_ids_become_ids_of_their_own() -> None:
    from langgraph.graph import START, StateGraph

    graph = StateGraph(dict)
    for name in ("größe", "gr_e", "1st", "closing"):
        graph.add_node(name, lambda state: state)
    graph.add_edge(START, "größe")
    for one, other in (("größe", "gr_e"), ("gr_e", "1st"), ("1st", "closing")):
        graph.add_edge(one, other)
    nodes = to_procedure(flow_of_graph(graph), "p")["spec"]["nodes"]
    assert [node["id"] for node in nodes] == ["gr_e", "gr_e_2", "node_1st", "closing"]


def flow_of_graph(graph: Any) -> Any:
    import sys
    import types

    module = types.ModuleType("graph_of_a_test")
    module.graph = graph.compile()  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    return load_flow("graph_of_a_test:graph")


def nodes_of(graph: Any, **options: Any) -> dict[str, dict[str, Any]]:
    """Nodes of the procedure that a graph becomes; lint finds nothing in it but gaps."""
    spec = to_procedure(flow_of_graph(graph), "p", **options)["spec"]
    problems = [str(each) for each in analyse(ProcedureSpec.model_validate(spec)).errors if "a gap left" not in each.problem]
    assert problems == []
    return {node["id"]: node for node in spec["nodes"]}


def built(nodes: dict[str, Any], *edges: tuple[str, str]) -> Any:
    from langgraph.graph import StateGraph

    graph = StateGraph(dict)
    for name, action in nodes.items():
        graph.add_node(name, action)
    for one, other in edges:
        graph.add_edge(one, other)
    return graph


def said(state: Any) -> Any:
    return state


def asks(state: Any) -> Any:
    from langgraph.types import interrupt

    return {"answer": interrupt("Your name?")}


def goes_somewhere(state: Any) -> Any:
    from langgraph.types import Command

    return Command(goto="bye")


def test_subgraphs_are_expanded_in_their_place() -> None:
    inner = built({"ask": said, "check": said}, ("__start__", "ask"), ("ask", "check"), ("check", "__end__")).compile()
    outer = built({"hello": said, "order": inner, "bye": said}, ("__start__", "hello"), ("hello", "order"), ("order", "bye"))
    nodes = nodes_of(outer)
    assert {node: ways(found) for node, found in nodes.items()} == {
        "hello": ["order_ask"],
        "order_ask": ["order_check"],
        "order_check": ["bye"],
        "bye": [],
    }


def test_a_subgraph_that_branches_at_its_beginning_and_end_keeps_a_node_for_each() -> None:
    inner = built({"one": said, "two": said}, ("one", "__end__"), ("two", "__end__"))
    inner.add_conditional_edges("__start__", lambda state: "one", ["one", "two"])
    outer = built({"part": inner.compile(), "bye": said, "again": said}, ("__start__", "part"), ("again", "part"))
    outer.add_conditional_edges("part", lambda state: "bye", ["bye", "again"])
    nodes = nodes_of(outer)
    assert ways(nodes["part_answer"]) == ["part_one", "part_two"]
    assert (ways(nodes["part_one"]), ways(nodes["part_end_answer"])) == (["part_end"], ["bye", "again"])
    assert ways(nodes["again"]) == ["part"]


def test_a_node_that_interrupts_is_followed_by_the_customers_answer() -> None:
    nodes = nodes_of(built({"name": asks, "bye": said}, ("__start__", "name"), ("name", "bye")))
    assert (ways(nodes["name"]), nodes["name_answer"]["role"], ways(nodes["name_answer"])) == (["name_answer"], "user", ["bye"])
    last = nodes_of(built({"hello": said, "name": asks}, ("__start__", "hello"), ("hello", "name")))
    assert ways(last["name_answer"]) == ["closing"]


def test_the_tools_of_a_tool_node_are_calls_between_which_the_customer_decides() -> None:
    from langchain_core.tools import tool
    from langgraph.prebuilt import ToolNode, tools_condition

    @tool
    def find_order(number: str, verbose: bool = False) -> str:
        """Look up an order."""
        return ""

    @tool
    def cancel(number: str) -> str:
        """Cancel an order."""
        return ""

    graph = built({"agent": said, "tools": ToolNode([find_order, cancel])}, ("__start__", "agent"), ("tools", "agent"))
    graph.add_conditional_edges("agent", tools_condition)
    nodes = nodes_of(graph)
    assert ways(nodes["agent_answer"]) == ["tools_find_order", "tools_cancel", "closing"]
    assert nodes["agent_answer"]["next"][0]["when"] == "The answer needs a tool that does this: Look up an order."
    assert nodes["tools_find_order"] == {
        "id": "tools_find_order",
        "role": "tool",
        "tool": "find_order",
        "arguments": [{"name": "number", "value": "GAP: the value of number"}],
        "next": [{"to": "agent"}],
    }
    alone = nodes_of(built({"tools": ToolNode([cancel])}, ("__start__", "tools"), ("tools", "__end__")))
    assert [*alone] == ["opening", "tools", "tools_result"]


def test_a_command_that_does_not_declare_its_targets_is_no_ending() -> None:
    flow = flow_of_graph(built({"hello": goes_somewhere, "bye": said}, ("__start__", "hello")))
    node = to_procedure(flow, "p")["spec"]["nodes"][1]
    assert (node["id"], "add the missing edges" in node["prompt"]) == ("hello_answer", True)


def test_a_graph_that_runs_once_for_each_message_goes_on_where_it_ends() -> None:
    nodes = nodes_of(built({"reply": said}, ("__start__", "reply"), ("reply", "__end__")), per_message=True)
    assert ways(nodes["reply"]) == ["next_message"]
    assert ways(nodes["next_message"]) == ["reply", "closing"]
