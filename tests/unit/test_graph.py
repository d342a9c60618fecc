"""What the analysis of a procedure promises its author."""

from typing import Any

import pytest

from subterra_api.graph import Graph, analyse
from subterra_api.v1alpha1.procedure import ProcedureSpec


def procedure(*nodes: dict[str, Any], start: str = "hello", **more: Any) -> ProcedureSpec:
    return ProcedureSpec.model_validate({"systemPrompt": "You help.", "start": start, "nodes": nodes, **more})


def agent(node: str, *to: str, **more: Any) -> dict[str, Any]:
    return {"id": node, "role": "agent", "prompt": "Say something.", "next": _edges(to), **more}


def user(node: str, *to: str, **more: Any) -> dict[str, Any]:
    return {"id": node, "role": "user", "next": _edges(to), **more}


def end(node: str = "bye", **more: Any) -> dict[str, Any]:
    return {"id": node, "role": "agent", "prompt": "Say goodbye.", "outcome": "success"} | more


def _edges(targets: tuple[str, ...]) -> list[dict[str, str]]:
    return [{"to": target, "when": f"The customer wants {target}."} for target in targets]


def errors(spec: ProcedureSpec) -> list[str]:
    return [str(finding) for finding in analyse(spec).errors]


def test_a_straight_procedure_has_one_path() -> None:
    found = analyse(procedure(agent("hello", "ask"), user("ask", "bye"), end()))
    assert (found.findings, found.path_count, found.min_turns, found.max_turns) == ((), "1", 3, 3)


def test_agent_nodes_in_a_row_are_one_turn() -> None:
    spec = procedure(agent("hello", "more"), agent("more", "ask"), user("ask", "bye"), end())
    assert analyse(spec).max_turns == 3


def test_a_loop_is_bounded_by_max_visits() -> None:
    spec = procedure(agent("hello", "ask", maxVisits=3), user("ask", "hello", "bye", maxVisits=3), end())
    assert sorted(len(path) for path in Graph(spec).paths()) == [3, 5, 7]


def test_a_guard_opens_an_edge_only_after_its_decision() -> None:
    nodes = [
        agent("hello", "ask"), user("ask", "yes", "no"), agent("yes", "reply"), agent("no", "reply"),
        {"id": "reply", "role": "user", "next": [
            {"to": "pay", "when": "Covered.", "guards": [{"hub": "ask", "took": ["yes"]}]}, {"to": "bye", "when": "Not covered."}]},
        end("pay"), end(),
    ]  # fmt: skip
    assert {(path[2], path[-1]) for path in Graph(procedure(*nodes)).paths()} == {("yes", "pay"), ("yes", "bye"), ("no", "bye")}


def test_counting_stops_at_the_limit_and_says_so() -> None:
    spec = procedure(agent("hello", "ask", maxVisits=10), user("ask", "hello", "bye", maxVisits=10), end())
    found = analyse(spec, limit=4)
    assert (found.path_count, found.max_turns) == ("more than 4", None)


@pytest.mark.parametrize(
    ("nodes", "place", "cure"),
    [
        ([agent("hello", "nowhere"), end()], "node hello: goes to 'nowhere'", "correct the edge"),
        ([agent("hello", "bye"), end(), agent("lonely", "bye")], "node lonely: cannot be reached", "add an edge to it"),
        ([agent("hello", "ask"), user("ask")], "node ask: is a dead end", "set outcome"),
        ([agent("hello", "ask", "bye", decidedBy="history"), user("ask", "hello2"), agent("hello2", "ask"), end()],
         "node ask: leads to no terminal", "add an edge that ends"),
        ([agent("hello", "bye", prompt=" "), end()], "node hello: has no prompt", "say what the agent should do"),
        ([agent("hello", "bye", prompt="Ask {{city}}"), end()], "node hello: uses {{city}}, which is not", "spec.variables"),
        ([agent("hello", "bye"), agent("hello", "bye"), end()], "node hello: id is used 2 times", "own id"),
        ([agent("hello", "bye", outcome="success"), end()], "node hello: has an outcome and a way out", "remove"),
        ([agent("hello", "bye", "other"), end(), end("other")], "node hello: is the agent's turn", "decidedBy"),
    ],
)  # fmt: skip
def test_every_fault_names_the_node_and_the_cure(nodes: list[dict[str, Any]], place: str, cure: str) -> None:
    assert any(error.startswith(place) and cure in error for error in errors(procedure(*nodes)))


def test_all_faults_are_told_at_once() -> None:
    spec = procedure(agent("hello", "nowhere", prompt=""), user("lost"), start="hello")
    assert len(errors(spec)) >= 4


def test_a_hub_without_conditions_is_refused() -> None:
    branches = {"id": "ask", "role": "user", "next": [{"to": "bye"}, {"to": "other", "when": "Else."}]}
    assert any(
        "branches to bye without saying when" in error
        for error in errors(procedure(agent("hello", "ask"), branches, end(), end("other")))
    )


def test_a_format_cannot_reach_into_objects() -> None:
    variable = {"name": "people", "type": "integer", "minimum": 1, "maximum": 9, "formats": ["{value.__class__}"]}
    found = errors(procedure(agent("hello", "bye", prompt="{{people}}"), end(), variables=[variable]))
    assert any("variable people: has the format '{value.__class__}'" in error for error in found)


def test_an_unused_variable_is_only_a_warning() -> None:
    found = analyse(procedure(agent("hello", "bye"), end(), variables=[{"name": "city", "values": ["Rome"]}]))
    assert (found.errors, [str(w) for w in found.warnings]) == (
        (),
        ["variable city: is not used by any node; remove it or mention it"],
    )
