"""Variables that bound each other: what lint refuses, in which order they are drawn, and what an edit of one changes."""

from typing import Any

import pytest

from subterra_core.procedure.dependencies import dependents, draw_order
from subterra_core.procedure.diff import ProcedureDiff
from subterra_core.procedure.lint.analyse import analyse
from subterra_testkit.procedures import agent, branch, end, procedure, user

Json = dict[str, Any]


def number(name: str, minimum: int = 100, maximum: int = 900, **more: Any) -> Json:
    return {"name": name, "type": "integer", "minimum": minimum, "maximum": maximum} | more


def stay(name: str, first: str = "2027-01-01", last: str = "2027-06-30", **more: Any) -> Json:
    return {"name": name, "type": "dateRange", "from": first, "to": last} | more


def with_variables(*variables: Json) -> Any:
    says = " ".join(f"{{{{{variable['name']}}}}}" for variable in variables)
    return procedure(
        agent("hello", "ask", examples=["Hello."]),
        user("ask", branch("bye", says)),
        end("bye", examples=["Bye."]),
        variables=list(variables),
    )


def errors(*variables: Json) -> list[str]:
    return [str(finding) for finding in analyse(with_variables(*variables)).errors]


@pytest.mark.parametrize(
    "variables",
    [
        [number("limit"), number("offer", max="{{limit}}")],
        [number("offer", max="{{limit}}"), number("limit", max="{{bill}}"), number("bill")],
        [number("low"), number("high", min="{{low}}")],
        [number("low", max="{{high}}"), number("high"), number("middle", min="{{low}}", max="{{high}}")],
        [stay("arrival"), stay("return_trip", last="2027-12-31", after="{{arrival}}")],
        [stay("day", formats=["{start:%-d %B}"]), stay("next_day", last="2027-07-01", after="{{day}}")],
    ],
    ids=["max", "a chain", "min", "between", "after", "after a day without an end"],
)
def test_bounds_that_always_leave_a_value_are_accepted(variables: list[Json]) -> None:
    assert errors(*variables) == []


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ([number("offer", max="{{limt}}")], "variable offer: has max: {{limt}}, which is not declared; add it"),
        ([number("offer", max="{{offer}}")], "variable offer: depends on itself; remove"),
        (
            [number("a", max="{{b}}"), number("b", max="{{a}}")],
            "variable a: depends on itself, in a circle with b; remove one of their min, max and after",
        ),
        (
            [{"name": "city", "values": ["Rome"], "max": "{{offer}}"}, number("offer")],
            "has max, which is for variables of type",
        ),
        (
            [number("offer", max="{{day}}"), stay("day")],
            "has max: {{day}}, whose type is dateRange; name a variable",
        ),
        (
            [number("limit", 50), number("offer", max="{{limit}}")],
            "variable offer: has no value when limit is 50, which is below its minimum 100; lower its minimum to 50",
        ),
        (
            [number("low", maximum=950), number("high", min="{{low}}")],
            "variable high: has no value when low is 950, which is above its largest value 900; raise its maximum to 950",
        ),
        ([number("low"), number("high", maximum=905, step=50, min="{{low}}")], ""),
        (
            [number("a"), number("b"), number("c", min="{{a}}", max="{{b}}")],
            "variable c: has no value when a is above b; give a max: '{{b}}', or b min: '{{a}}'",
        ),
        (
            [stay("arrival", maxDays=14), stay("leave", after="{{arrival}}")],
            "variable leave: has no day when arrival ends on 2027-07-14: its own last first day is 2027-06-30; set to",
        ),
    ],
    ids=["unknown", "itself", "a circle", "a string", "another type", "max", "min", "a step short", "crossed", "after"],
)
def test_bounds_that_mean_nothing_or_leave_no_value_are_errors_with_their_fix(variables: list[Json], told: str) -> None:
    found = errors(*variables)
    assert found if told else not found
    assert any(told in each for each in found) or not told


def test_a_variable_that_only_bounds_another_is_used() -> None:
    spec = procedure(
        agent("hello", "ask", examples=["Hello."]),
        user("ask", branch("bye", "{{offer}}")),
        end("bye", examples=["Bye."]),
        variables=[number("limit"), number("offer", max="{{limit}}")],
    )
    assert not [str(finding) for finding in analyse(spec).findings if "not used" in finding.problem]


def test_bounds_are_drawn_before_what_they_bound_and_the_rest_in_its_own_order() -> None:
    spec = with_variables(number("offer", max="{{limit}}"), number("age"), number("limit", max="{{bill}}"), number("bill"))
    assert [variable.name for variable in draw_order(spec.variables)] == ["age", "bill", "limit", "offer"]
    assert dependents({"bill"}, spec.variables) == {"offer", "limit"}


def test_an_edit_of_a_bound_rewrites_the_turns_that_say_what_it_bounds() -> None:
    def spec(most: int) -> Any:
        return procedure(
            agent("hello", "ask", examples=["Hello."]),
            user("ask", branch("bye", "It was {{offer}}.")),
            end("bye", examples=["Bye."]),
            variables=[number("limit", maximum=most), number("offer", max="{{limit}}")],
        )

    assert ProcedureDiff(spec(900), spec(800)).affects(("hello", "ask", "bye"))
    assert not ProcedureDiff(spec(900), spec(900)).affects(("hello", "ask", "bye"))
