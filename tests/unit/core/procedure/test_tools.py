"""Nodes that call tools: what lint refuses, what is counted and drawn, and which digests stay as they were."""

import json
from typing import Any

import pytest

from subterra_api.digest import procedure_digest, significant_fields
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.files.lint_report import load_spec
from subterra_cli.output.mermaid import mermaid
from subterra_core.drawing.svg import draw_svg
from subterra_core.procedure.diff import ProcedureDiff
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.lint.analyse import analyse
from subterra_core.procedure.lint.findings import Finding
from subterra_core.procedure.lint.unspoken import check_examples
from subterra_core.procedure.text import flowchart_text
from subterra_core.procedure.tools import function_schemas, json_value
from subterra_testkit.repository import ROOT

ORDERS = load_spec(ROOT / "examples/orders/procedure.yaml")
Edit = dict[str, Any]


def content() -> dict[str, Any]:
    """The example as JSON, to be changed."""
    return json.loads(json.dumps(significant_fields(ORDERS)))


def node(spec: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in spec["nodes"] if each["id"] == name)


def variable(spec: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in spec["variables"] if each["name"] == name)


def findings(spec: dict[str, Any], severity: str = "error") -> list[Finding]:
    return [each for each in analyse(ProcedureSpec.model_validate(spec)).findings if each.severity == severity]


def look_up(**changes: Any) -> dict[str, Any]:
    spec = content()
    node(spec, "look_up").update(changes)
    return spec


BY_STATE = [
    {"to": "tell", "values": ["on its way"]},
    {"to": "unknown_order", "values": ["being packed"]},
    {"to": "no_answer"},
]


def with_tool(**changes: Any) -> dict[str, Any]:
    spec = content()
    spec["tools"][0].update(changes)
    return spec


def with_node(name: str, **changes: Any) -> dict[str, Any]:
    spec = content()
    node(spec, name).update(changes)
    return spec


def with_variable(name: str, **changes: Any) -> dict[str, Any]:
    spec = content()
    variable(spec, name).update(changes)
    return spec


def number(value: str, name: str = "order_number") -> list[dict[str, str]]:
    return [{"name": name, "value": value}]


@pytest.mark.parametrize(
    ("spec", "field", "problem"),
    [
        (look_up(tool="find"), "spec.nodes[2].tool", "calls 'find', which is not declared"),
        (look_up(tool=None), "spec.nodes[2].tool", "has no tool"),
        (look_up(arguments=[]), "spec.nodes[2].arguments", "does not give order_number"),
        (look_up(arguments=number("{{order}}", "nr")), "spec.nodes[2].arguments[0].name", "has no parameter 'nr'"),
        (look_up(arguments=number("{{parcel}}")), "spec.nodes[2].arguments[0].value", "which is not declared"),
        (look_up(arguments=number("no. {{order}}")), "spec.nodes[2].arguments[0].value", "mixes text and variables"),
        (look_up(arguments=number("{{state}}")), "spec.nodes[2].arguments[0].value", "needs {{state}}, which may be unknown"),
        (look_up(examples=["Wait."]), "spec.nodes[2].examples", "nothing is said while a tool is called"),
        (look_up(next=[]), "spec.nodes[2].next", "ends the conversation with a call"),
        (look_up(next=[{"to": "number"}], decidedBy="customer", fact=None), "spec.nodes[2].next[0].to", "leads from a call to the"),
        (look_up(decidedBy="customer", fact=None), "spec.nodes[2].decidedBy", "the customer cannot decide here"),
        (look_up(fact="state", next=BY_STATE), "spec.nodes[2].fact", "depends on state, which no tool has returned"),
        (with_node("greet", tool="find_order"), "spec.nodes[0].tool", "names a tool, but its role is not tool"),
        (with_node("greet", arguments=number("1")), "spec.nodes[0].arguments", "has arguments, but its role is not tool"),
        (with_node("greet", prompt="Say {{state}}."), "spec.nodes[0]", "says {{state}}, which no tool has returned"),
        (with_node("unknown_order", prompt="Say {{day}}."), "spec.nodes[9]", "says {{day}}, which no tool has returned"),
        (with_tool(results=["state", "day", "total", "colour"]), "spec.tools[0].results[3]", "'colour', which is not declared"),
        (with_tool(results=["state", "day", "total", "order"]), "spec.tools[0].results[3]", "whose visibility is customer"),
        (with_tool(results=["state", "day"]), "spec.variables[4]", "is a result that no tool returns"),
        (with_variable("lookup", values=["fine", "not_found", "timeout"]), "spec.tools[0].outcome", "does not list the value ok"),
        (content() | {"start": "look_up"}, "spec.start", "a conversation begins with words"),
    ],
)
def test_a_wrong_call_or_tool_is_an_error_with_its_field(spec: dict[str, Any], field: str, problem: str) -> None:
    found = {each.field: each for each in findings(spec)}
    assert field in found, found
    assert problem in found[field].problem
    assert found[field].fix


def test_a_number_needs_an_integer_variable_and_a_literal_of_its_type() -> None:
    spec = content()
    node(spec, "pay_back")["arguments"][1]["value"] = "{{state}}"
    assert "which is a number" in findings(spec)[0].problem
    node(spec, "pay_back")["arguments"][1]["value"] = "ten"
    assert "is no integer" in findings(spec)[0].problem
    node(spec, "pay_back")["arguments"][1]["value"] = "10"
    assert findings(spec) == []


def test_a_tool_that_nobody_calls_is_a_warning() -> None:
    spec = content()
    spec["tools"].append({"name": "track"})
    assert [each.problem for each in findings(spec, "warning")] == ["is not called by any node"]


def test_a_name_that_no_openai_client_takes_is_refused() -> None:
    with pytest.raises(ValueError, match="pattern"):
        ProcedureSpec.model_validate(with_tool(name="find order"))


def test_a_result_is_known_after_a_hub_that_decided_by_the_outcome_later() -> None:
    spec = content()
    spec["nodes"].insert(
        3,
        {
            "id": "thank",
            "role": "agent",
            "prompt": "Thank the customer for waiting.",
            "examples": ["Thank you for waiting."],
            "decidedBy": "fact",
            "fact": "lookup",
            "next": node(spec, "look_up")["next"],
        },
    )
    node(spec, "look_up").update(next=[{"to": "thank"}], decidedBy="customer", fact=None)
    assert findings(spec) == []
    node(spec, "thank")["prompt"] = "Say {{day}}."
    assert [each.field for each in findings(spec)] == ["spec.nodes[3]"]


def test_a_call_is_no_turn_and_needs_no_words() -> None:
    found = analyse(ORDERS)
    assert (found.nodes, found.paths, found.min_turns, found.max_turns) == (12, 5, 3, 6)
    assert [*check_examples(ORDERS)] == []


def test_drawings_and_texts_show_the_call() -> None:
    drawn = draw_svg(ORDERS, "orders")
    assert len(drawn.findall(".//polygon")) == 2
    assert "find_order(order_number: {{order}})" in flowchart_text(ORDERS)
    assert mermaid(ORDERS).count(":::tool") == 2
    assert '[["look_up' in mermaid(ORDERS)
    travel = load_spec(ROOT / "examples/travel/procedure.yaml")
    assert "tool" not in mermaid(travel)
    assert not draw_svg(travel, "travel").findall(".//polygon")


def test_the_schema_is_that_of_an_openai_function() -> None:
    refund = function_schemas(ORDERS)[1]
    assert refund["type"] == "function"
    assert refund["function"]["name"] == "refund_order"
    assert refund["function"]["parameters"]["properties"]["amount"] == {"type": "integer", "description": "Amount in US dollars."}
    assert refund["function"]["parameters"]["required"] == ["order_number", "amount"]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("string", "007", "007"),
        ("integer", "$1,250", 1250),
        ("integer", "-3", -3),
        ("number", "2.5", 2.5),
        ("boolean", "True", True),
    ],
)
def test_a_text_becomes_a_value_of_the_parameters_type(kind: str, text: str, value: object) -> None:
    assert json_value(kind, text) == value


def test_an_edit_of_a_tool_affects_every_conversation_and_its_digest() -> None:
    edited = ProcedureSpec.model_validate(with_tool(description="Looks up one order."))
    assert procedure_digest(edited) != procedure_digest(ORDERS)
    path = next(iter(Graph(ORDERS).paths()))
    assert ProcedureDiff(ORDERS, edited).affects(path)
    assert not ProcedureDiff(ORDERS, ORDERS).affects(path)


def test_an_edit_of_an_argument_affects_the_conversations_with_the_call() -> None:
    spec = content()
    node(spec, "pay_back")["arguments"][1]["value"] = "10"
    diff = ProcedureDiff(ORDERS, ProcedureSpec.model_validate(spec))
    assert [diff.affects(path) for path in Graph(ORDERS).paths()] == ["pay_back" in path for path in Graph(ORDERS).paths()]
