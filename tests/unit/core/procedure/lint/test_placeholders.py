"""Lint finds what looks like a variable and is none, wherever nothing fills it in."""

import json
from typing import Any

import pytest

from subterra_core.procedure.lint.analyse import analyse
from subterra_testkit.procedures import agent, end, procedure, user


def test_a_variable_in_one_pair_of_braces_is_said_as_it_stands_and_lint_says_so() -> None:
    spec = procedure(
        agent("hello", "bye", prompt="To {city}, not {other}."), end(), variables=[{"name": "city", "values": ["Rome"]}]
    )
    said = [str(finding) for finding in analyse(spec).warnings]
    assert "node hello: says {city} as it stands; write {{city}} for the variable's value" in said
    assert not any("{other}" in text for text in said)


@pytest.mark.parametrize("literal", ["[city]", "<city>", "%city%", "${city}", "{ city }"])
def test_a_variable_in_the_brackets_of_another_template_is_a_warning(literal: str) -> None:
    spec = procedure(agent("hello", "bye", prompt=f"To {literal}."), end(), variables=[{"name": "city", "values": ["Rome"]}])
    said = [str(finding) for finding in analyse(spec).warnings]
    assert f"node hello: says {literal} as it stands; write {{{{city}}}} for the variable's value" in said


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("To {{my city}}.", "{{my city}}"),
        ("To {{{city}}}.", "{{{city}}}"),
        ("To {{ci\u200bty}}.", "{{ci\\u200bty}}"),
        ("To {{city}.", "{{city}"),
        ("To {city}}.", "}}"),
        ("To {{}}.", "{{}}"),
    ],
)
@pytest.mark.parametrize("place", ["prompt", "example", "condition", "otherwise", "opener"])
def test_braces_that_stand_for_no_variable_are_an_error(text: str, shown: str, place: str) -> None:
    spec = procedure(
        agent("hello", "ask", prompt=text if place == "prompt" else "Ask."),
        user("ask", {"to": "bye", "when": text if place == "condition" else "Yes.", "examples": ["{{city}}"]}, "other"),
        end(examples=[text] if place == "example" else []),
        end("other"),
        variables=[{"name": "city", "values": ["Rome"]}],
        otherwise={"offTopic": [text]} if place == "otherwise" else {},
        openers=[text] if place == "opener" else ["Hi"],
    )
    found = [finding.problem for finding in analyse(spec).errors]
    assert f"contains {shown}, which stands for no variable" in found


CITY: dict[str, Any] = {"name": "city", "values": ["Rome"]}
UNFILLED: list[tuple[dict[str, Any], str]] = [
    ({"knowledge": [{"id": "tax", "text": "X"}]}, "spec.knowledge[0].text"),
    ({"personas": [{"name": "calm", "description": "X"}]}, "spec.personas[0].description"),
    ({"variables": [CITY, {"name": "day", "values": ["Monday"], "description": "X"}]}, "spec.variables[1].description"),
    ({"tools": [{"name": "book", "description": "X"}]}, "spec.tools[0].description"),
    (
        {"tools": [{"name": "book", "parameters": [{"name": "place", "description": "X"}]}]},
        "spec.tools[0].parameters[0].description",
    ),
    ({"questions": [{"question": "X", "examples": ["Far?"], "answer": "No."}]}, "spec.questions[0].question"),
    ({"variables": [CITY, {"name": "day", "values": ["Monday", "X"]}]}, "spec.variables[1].values[1]"),
]


@pytest.mark.parametrize(("more", "field"), UNFILLED, ids=[field for _, field in UNFILLED])
def test_a_placeholder_where_nothing_is_filled_in_is_found(more: dict[str, Any], field: str) -> None:
    def of(text: str) -> list[tuple[str, str]]:
        spec = procedure(
            agent("hello", "ask", prompt="Ask for {{city}}."),
            user("ask", "bye"),
            end(),
            **{"variables": [CITY]} | json.loads(json.dumps(more).replace('"X"', json.dumps(text))),
        )
        return [(finding.severity, finding.problem) for finding in analyse(spec).findings if finding.field == field]

    filled = "error" if "values" in field else "warning"
    assert of("To {{town}}.") == [("error", "contains {{town}}, which nothing fills in")]
    assert of("To {{city}}.") == [(filled, "contains {{city}}, which nothing fills in")]
    assert of("To {{my city}}.") == [("error", "contains {{my city}}, which nothing fills in")]
    assert of("To {city}.") == []
