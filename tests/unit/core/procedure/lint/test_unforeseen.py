"""Lint names what the author may not have foreseen: other values, placeholders without a value, gaps of an import."""

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from subterra_api.digest import procedure_digest
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.main import app
from subterra_core.procedure.lint.analyse import analyse
from subterra_core.procedure.text import flowchart_text
from subterra_testkit.procedures import agent, branch, end, procedure, user, way

Json = dict[str, Any]
SIZE: Json = {"name": "size", "values": ["S", "M", "L", "XL", "XXL"]}
ASK, SAY = agent("hello", "ask"), user("ask", "confirm", examples=["{{size}}, please."])
CONFIRM = agent("confirm", "bye", examples=["One {{size}}, all right."])
NODES = (ASK, SAY, CONFIRM, end())


def shirts(*nodes: Json, variable: Json = SIZE, **more: Any) -> ProcedureSpec:
    return procedure(*(nodes or NODES), variables=[variable], **more)


def found(spec: ProcedureSpec) -> list[tuple[str, str, str]]:
    return [(finding.severity, finding.field, str(finding)) for finding in analyse(spec).findings]


def exit_code_and_errors(spec: ProcedureSpec, folder: Path) -> tuple[int, str]:
    """What `subterra lint` makes of a procedure."""
    file = folder / "procedure.yaml"
    document = {"apiVersion": "subterra.dev/v1alpha1", "kind": "Procedure", "metadata": {"name": "p"}, "spec": spec.dump()}
    file.write_text(yaml.safe_dump(document))
    result = CliRunner().invoke(app, ["lint", str(file)])
    return result.exit_code, result.stderr


def test_a_closed_variable_that_the_agent_repeats_is_a_warning_with_its_values_and_the_ways_out() -> None:
    assert found(shirts()) == [
        (
            "warning",
            "spec.variables[0]",
            "variable size: is closed: a customer who names a value other than S, M, L and 2 more hears "
            '"I\'m sorry, {{value}} is not something I can offer."; '
            "set open: true if any value may come, write your answer in spec.otherwise.unknownValue, or add a branch for it",
        )
    ]


@pytest.mark.parametrize(
    "variable",
    [
        SIZE | {"open": True},
        SIZE | {"visibility": "context"},
        {"name": "size", "type": "integer", "minimum": 30, "maximum": 50},
        {"name": "size", "type": "dateRange", "from": "2027-01-01", "to": "2027-12-31"},
    ],
    ids=["open", "context", "integer", "dates"],
)
def test_a_variable_that_may_have_any_value_or_is_not_the_customers_is_no_closed_one(variable: Json) -> None:
    assert found(shirts(variable=variable)) == []


def test_a_closed_variable_that_no_agent_repeats_or_no_customer_says_needs_no_answer() -> None:
    quiet = agent("confirm", "bye", examples=["All right."])
    assert found(shirts(ASK, SAY, quiet, end())) == []
    silent = user("ask", "confirm", examples=["The usual."])
    assert [text for _, _, text in found(shirts(ASK, silent, CONFIRM, end())) if "is closed" in text] == []


def test_an_author_who_wrote_an_answer_to_other_values_is_not_warned() -> None:
    assert found(shirts(otherwise={"unknownValue": ["We have no {{value}}."]})) == []
    assert len(found(shirts(otherwise={"offTopic": ["I only sell shirts."]}))) == 1


def test_the_warning_lets_lint_succeed(tmp_path: Path) -> None:
    code, errors = exit_code_and_errors(shirts(), tmp_path)
    assert code == 0
    assert "warning: variable size: is closed" in errors


@pytest.mark.parametrize(
    ("kind", "text", "fix"),
    [
        ("offTopic", "A {{size}} is all I sell.", "remove it"),
        ("afterEnd", "Enjoy your {{size}}!", "remove it"),
        ("afterEnd", "Enjoy your {{value}}!", "remove it"),
        ("unknownValue", "Not {{value}}, but {{size}}.", "remove it or write {{value}}, which is what the customer named"),
    ],
)
def test_a_placeholder_without_a_value_in_otherwise_is_an_error(kind: str, text: str, fix: str, tmp_path: Path) -> None:
    spec = shirts(otherwise={"unknownValue": ["No {{value}}."], kind: ["Plain words.", text]})
    name = "{{value}}" if "your {{value}}" in text else "{{size}}"
    problem = f"spec.otherwise.{kind}: '{text}' contains {name}, which may be unknown when the agent says this; {fix}"
    assert found(spec) == [("error", f"spec.otherwise.{kind}[1]", problem)]
    assert exit_code_and_errors(spec, tmp_path)[0] == 1


def test_the_value_may_stand_in_the_answer_to_an_unknown_value(tmp_path: Path) -> None:
    spec = shirts(otherwise={"unknownValue": ["We have no {{value}}.", "That is out of stock."]})
    assert exit_code_and_errors(spec, tmp_path) == (0, "")


def test_a_customers_last_word_is_an_error_that_lint_reports_before_anything_is_paid(tmp_path: Path) -> None:
    spec = procedure(agent("hello", "ask"), user("ask", outcome="escalation"))
    assert found(spec) == [
        (
            "error",
            "spec.nodes[1]",
            "node ask: ends the conversation with the customer's words, but the agent has the last word; "
            "add an edge (next) to an agent's node that answers and has outcome: escalation",
        )
    ]
    assert exit_code_and_errors(spec, tmp_path)[0] == 1


LONG = "GAP: what the agent says at 'look_up'; its function's docstring: Look the order up in the shop's system and say its state."


@pytest.mark.parametrize(
    ("nodes", "more", "field", "problem"),
    [
        ([agent("hello", "bye", prompt=LONG), end()], {}, "nodes[0].prompt", "node hello: still contains "),
        (
            [agent("hello", "bye", examples=["Hi.", "Hi. GAP: more?"]), end()],
            {},
            "nodes[0].examples[1]",
            "node hello: still contains ",
        ),
        (
            [user("hello", {"to": "bye", "when": "GAP: why"}, "other"), end(), end("other")],
            {},
            "nodes[0].next[0].when",
            "edge hello → bye: still contains 'GAP: why', a gap left by the import",
        ),
        (
            [agent("hello", "bye"), end()],
            {"systemPrompt": "GAP:who is it?"},
            "systemPrompt",
            "spec.systemPrompt: still contains 'GAP:who is it?', a gap left by the import",
        ),
    ],
    ids=["prompt", "example", "condition", "system prompt"],
)
def test_a_gap_of_an_import_is_an_error_wherever_it_is_left(
    nodes: list[Json], more: Json, field: str, problem: str, tmp_path: Path
) -> None:
    spec = procedure(*nodes, **more)
    [(severity, path, text)] = found(spec)
    assert (severity, path) == ("error", f"spec.{field}")
    assert text.startswith(problem)
    assert text.endswith("a gap left by the import; replace it with what it asks for")
    assert len(text) < 200
    assert exit_code_and_errors(spec, tmp_path)[0] == 1


def test_a_word_that_only_looks_like_a_gap_is_none() -> None:
    assert found(procedure(agent("hello", "bye", prompt="Ask about the gap: how wide is it? Or STOPGAP: none."), end())) == []


def test_a_gap_in_what_only_teachers_read_is_a_warning_because_procedures_that_serve_may_have_the_word() -> None:
    spec = procedure(
        agent("hello", "bye"),
        end(),
        knowledge=[{"id": "cover", "text": "GAP: what is covered"}],
        personas=[{"name": "calm", "description": "GAP: how calm"}],
        otherwise={"afterEnd": ["GAP: goodbye"]},
    )
    analysis = analyse(spec)
    fields = [finding.field for finding in analysis.warnings if "a gap left by the import" in finding.problem]
    assert fields == ["spec.otherwise.afterEnd[0]", "spec.knowledge[0].text", "spec.personas[0].description"]
    assert analysis.errors == ()


def test_a_gap_in_a_call_or_at_the_beginning_of_a_variable_is_an_error_because_imports_write_it_there() -> None:
    look_up = {"id": "look_up", "role": "tool", "tool": "find", "arguments": [{"name": "order", "value": "GAP: which order"}]}
    spec = procedure(
        agent("hello", "look_up"),
        look_up | {"decidedBy": "fact", "fact": "state", "next": [way("bye", "GAP: what it returns"), way("sorry")]},
        end(),
        end("sorry"),
        tools=[{"name": "find", "description": "GAP: what it does", "parameters": [{"name": "order"}], "results": ["state"]}],
        variables=[
            {"name": "state", "visibility": "result", "description": "GAP: what it means", "values": ["GAP: what it returns", "no"]}
        ],
    )
    fields = [finding.field for finding in analyse(spec).errors if "a gap left by the import" in finding.problem]
    assert fields == [
        "spec.tools[0].description",
        "spec.nodes[1].arguments[0].value",
        "spec.variables[0].description",
        "spec.variables[0].values[0]",
    ]


def test_the_word_within_a_variables_description_is_a_warning() -> None:
    spec = procedure(agent("hello", "bye"), end(), variables=[{"name": "x", "values": ["a"], "description": "Ask about GAP: it."}])
    analysis = analyse(spec)
    assert "spec.variables[0].description" in [finding.field for finding in analysis.warnings]
    assert analysis.errors == ()


QUESTION: Json = {"id": "ship", "question": "Whether we ship.", "examples": ["Do you ship?"], "answer": "We ship to France."}


def with_questions(*questions: Json, **more: Any) -> list[tuple[str, str]]:
    """Severity and field of each finding about the questions of a shop that has an anywhere edge."""
    leaving = {"to": "help", "when": "A person.", "examples": ["A person, please."]}
    spec = shirts(*NODES, end("help", examples=["One moment."]), questions=questions, anywhere=[leaving], **more)
    return [(severity, field) for severity, field, _ in found(spec) if field.startswith("spec.questions")]


def test_all_faults_of_questions_are_named_at_once_each_with_its_field() -> None:
    faults = [
        QUESTION | {"except": ["nowhere", "hello"]},
        QUESTION | {"answer": "  ", "examples": ["do you  ship?"]},
        {"question": "What it costs.", "examples": ["A person, please."], "answer": "It costs {price} or {{size}}."},
        {"question": "What size.", "examples": ["{{size}}, please."], "answer": "Any.", "except": ["ask"]},
        {"question": "?", "answer": "Yes."},
    ]
    assert set(with_questions(*faults)) == {
        ("error", "spec.questions[0].except[0]"),
        ("error", "spec.questions[0].except[1]"),
        ("error", "spec.questions[1].id"),
        ("error", "spec.questions[1].answer"),
        ("error", "spec.questions[1].examples[0]"),
        ("error", "spec.questions[2].answer"),
        ("error", "spec.questions[2].examples[0]"),
        ("error", "spec.questions[3].examples[0]"),
        ("error", "spec.questions[3].except"),
        ("error", "spec.questions[4]"),
    }


def test_a_fault_of_a_question_is_named_with_its_fix() -> None:
    texts = [
        text for _, field, text in found(shirts(questions=[QUESTION | {"answer": "Within {days} days."}])) if "questions" in field
    ]
    assert texts == [
        "question ship: 'Within {days} days.' contains {days}, which nothing fills in; "
        "write the words themselves: questions are the same for every customer"
    ]


def test_a_hundred_questions_without_faults_are_none() -> None:
    many = [
        QUESTION | {"id": f"q{each}", "examples": [f"Do you ship to {each}?"], "answer": f"Yes, {each}."} for each in range(100)
    ]
    assert with_questions(*many) == []


def test_questions_are_on_no_path_so_500_nodes_are_counted_in_seconds() -> None:
    nodes: list[Json] = []
    for each in range(166):
        nodes += [agent(f"a{each}", f"c{each}", examples=["What?"]), agent(f"r{each}", f"c{each}", examples=["Again?"])]
        following = f"a{each + 1}" if each < 165 else "bye"
        nodes.append(user(f"c{each}", branch(following, "Yes."), branch(f"r{each}", "No.")))
    many = [QUESTION | {"id": f"q{each}", "examples": [f"Do you ship to {each}?"]} for each in range(20)]
    plain, asked = (procedure(*nodes, end(examples=["Bye."]), start="a0", **more) for more in ({}, {"questions": many}))
    begun = time.process_time()
    counted, without = analyse(asked), analyse(plain)
    assert time.process_time() - begun < 20
    assert (counted.paths, counted.max_turns, counted.errors) == (without.paths, without.max_turns, ())
    assert counted.questions == 20


def test_a_procedure_without_questions_is_the_same_text_and_digest_as_before_they_existed() -> None:
    plain, empty = shirts(), shirts(questions=[], otherwise={"unknownQuestion": []})
    assert procedure_digest(plain) == procedure_digest(empty)
    assert "question" not in flowchart_text(plain)
    assert flowchart_text(shirts(questions=[QUESTION])).removeprefix(flowchart_text(plain)).splitlines()[1:] == [
        "At every step of the customer, the customer may ask one of these. The agent answers and asks again what it had asked:",
        "  Whether we ship. -> We ship to France.",
        "  Any other question about the subject -> I'm sorry, I don't know that.",
    ]
