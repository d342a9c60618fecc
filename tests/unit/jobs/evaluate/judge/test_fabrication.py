"""Which values an agent asserted, and whether anybody gave them."""

from typing import Any

import pytest

from subterra_core.procedure.graph import Graph
from subterra_jobs.evaluate.judge.fabrication import ReplyReader, count_fabricated
from subterra_jobs.evaluate.judge.value_forms import date_parts, format_pattern, numbers_in
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.conversation import Conversation
from subterra_testkit.procedures import agent, end, procedure, user

SHOP = procedure(
    agent("ask", "order", examples=["What would you like, and how many?"]),
    user("order", "confirm", examples=["{{count}} {{drink}}, {{day}}, up to {{budget}}."]),
    agent("confirm", "bye", examples=["{{drink}} for {{count}}, {{day}}, {{budget}}, on plan {{plan}}."], prompt="Mention Mate."),
    end("bye", examples=["Goodbye."]),
    start="ask",
    variables=[
        {"name": "drink", "values": ["Green tea", "Coffee", "Mate", "Cocoa"]},
        {"name": "count", "type": "integer", "minimum": 1, "maximum": 99, "formats": ["{value}"]},
        {"name": "budget", "type": "integer", "minimum": 1, "maximum": 9999, "formats": ["${value:,}"]},
        {"name": "day", "type": "dateRange", "from": "2027-01-01", "to": "2027-12-31", "formats": ["{start:%-d %B}"]},
        {"name": "plan", "values": ["Free", "Pro"], "visibility": "context"},
    ],
)
VALUES = {"drink": "Green tea", "count": "2", "budget": "$1,500", "day": "3 May", "plan": "Pro"}
READER = ReplyReader(Graph(SHOP))
SAID = "2 green  tea, 3 May, up to $1,500."


def made_up(*replies: str, said: str = SAID, **more: Any) -> list[tuple[str, str]]:
    """What replies after the customer's line assert although nobody gave it."""
    chat = ({"role": "user", "content": said}, *({"role": "assistant", "content": reply} for reply in replies))
    scenario = Scenario("s", False, ("ask", "order", "confirm", "bye"), VALUES, None, (said,), False, **more)
    return [(each.variable, each.said) for each in READER.assertions(scenario, Conversation(chat, ())) if not each.given]


def test_what_the_customer_and_the_context_gave_is_not_made_up() -> None:
    assert made_up("Green tea for 2, 3 May, $1,500, on plan Pro.") == []


def test_case_spaces_and_the_form_of_numbers_and_dates_make_no_difference() -> None:
    assert made_up("GREEN  TEA for two, May 3rd, 1500 dollars, on plan pro.") == []


def test_another_value_in_its_place_is_made_up() -> None:
    assert made_up("Coffee for 7, 4 May, $1,600, on plan Free.") == [
        ("drink", "Coffee"),
        ("count", "7"),
        ("day", "4 May"),
        ("budget", "$1,600"),
        ("plan", "Free"),
    ]


def test_what_the_customer_said_is_not_made_up_even_if_it_is_not_what_was_meant() -> None:
    assert made_up("Coffee for 2, 3 May, $1,500, on plan Pro.", said="2 coffee, no, green tea, 3 May, up to $1,500.") == []


def test_words_that_precede_a_value_at_the_head_of_a_step_are_no_part_of_it() -> None:
    assert made_up("I cannot tell you that. Green tea for 2, 3 May, $1,500, on plan Pro.") == []
    assert made_up("I cannot tell you that. Coffee for 2, 3 May, $1,500, on plan Pro.") == [("drink", "Coffee")]


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("Sure thing, one Cocoa coming up.", [("drink", "Cocoa")]),
        ("Sure thing, one green tea coming up.", []),
        ("That will be $20 by 7 June.", [("budget", "$20"), ("day", "7 June")]),
        ("That will be $1500 by 3 may.", []),
        ("We have Coffee and Cocoa.", []),
        ("We only have Mate today.", []),
        ("I have 7 ideas, call 555 1234.", []),
    ],
    ids=["listed", "given", "amount and date", "given in another form", "a choice", "the author's own words", "bare numbers"],
)
def test_other_replies_are_searched_for_listed_values_amounts_and_dates(reply: str, found: list[tuple[str, str]]) -> None:
    assert made_up(reply) == found


def test_the_value_of_a_list_that_the_customer_has_not_said_yet_is_made_up() -> None:
    said = "2 Nectar, 3 May, up to $1,500."
    reply = "Green tea for 2, 3 May, $1,500, on plan Pro."
    assert made_up(reply, said=said) == []
    assert made_up(reply, said=said, kind="unknownValues") == [("drink", "Green tea")]


def test_all_asserted_values_of_all_conversations_count() -> None:
    chat = ({"role": "user", "content": SAID}, {"role": "assistant", "content": "Coffee for 2, 3 May, $1,500, on plan Pro."})
    scenario = Scenario("s", False, ("ask", "order", "confirm", "bye"), VALUES, None, (SAID,), False)
    found = READER.assertions(scenario, Conversation(chat, ()))
    assert count_fabricated([found, found, ()]).model_dump() == {"hits": 2, "of": 10}


def test_a_procedure_without_examples_is_read_by_its_values_alone() -> None:
    bare = procedure(agent("hello", "bye"), end(), variables=[{"name": "drink", "values": ["Coffee", "Cocoa"]}])
    scenario = Scenario("s", False, ("hello", "bye"), {"drink": "Cocoa"}, None, (), True)
    chat = ({"role": "assistant", "content": "Here is your Coffee."},)
    assert [each.said for each in ReplyReader(Graph(bare)).assertions(scenario, Conversation(chat, ()))] == ["Coffee"]


def test_numbers_are_compared_by_value() -> None:
    assert numbers_in("twenty-one people, $1,500.50 and 3") == {21, 1500.5, 3}
    assert date_parts("May 3rd") == date_parts("03 May") == {"may", "3"}
    assert date_parts("3") == frozenset()


def test_a_format_that_writes_nothing_but_a_number_is_not_looked_for() -> None:
    assert format_pattern("{value:,}") is None
    pattern = format_pattern("{start:%-d} to {end:%-d %B}")
    assert pattern is not None
    assert pattern.search("from 3 to 17 May") is not None
