"""A node that collects variables: the customer says them in any order, and the agent asks only for what is missing."""

from typing import Any

import pytest

from subterra_api.v1alpha1.procedure import Node, ProcedureSpec
from subterra_cli.output.mermaid import mermaid
from subterra_core.drawing.svg import draw_svg
from subterra_core.procedure.calls.expansion import Expansion, expand
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.lint.unspoken import check_examples
from subterra_testkit.procedures import Json, agent, end, procedure

CITIES: Json = {"name": "city", "values": ["Rome", "Oslo"]}
MONTHS: Json = {"name": "month", "values": ["May", "June"]}
PEOPLE: Json = {"name": "people", "type": "integer", "minimum": 1, "maximum": 6}
CITY: Json = {"variable": "city", "ask": "where to go", "examples": ["to {{city}}", "{{city}} it is"]}
MONTH: Json = {"variable": "month", "ask": "when to go", "examples": ["in {{month}}"]}
NUMBER: Json = {"variable": "people", "ask": "for how many", "examples": ["for {{people}}"]}
TRIP: Json = {
    "id": "trip",
    "role": "collect",
    "prompt": "You book trips.",
    "examples": ["Tell me {{missing}}."],
    "collects": [CITY, MONTH],
    "next": [{"to": "offer"}],
}


def travel(changes: Json | None = None, **more: Any) -> ProcedureSpec:
    offer = end("offer", prompt="Offer a trip to {{city}} in {{month}} for {{people}}.", examples=["{{city}}, {{month}}: done!"])
    hello = agent("hello", "trip", examples=["Hello."])
    return procedure(hello, TRIP | (changes or {}), offer, variables=[CITIES, MONTHS, PEOPLE], **more)


def expanded(changes: Json | None = None, **more: Any) -> Expansion:
    return expand("travel", travel(changes, **more), {})


def node(spec: ProcedureSpec, name: str) -> Node:
    return next(each for each in spec.nodes if each.id == name)


def errors(changes: Json) -> list[str]:
    return [f"{each} [{each.field}]" for each in expanded(changes).analyse().errors]


def test_the_agent_asks_for_everything_first_and_then_for_what_is_missing() -> None:
    spec = expanded().spec
    assert [each.id for each in spec.nodes] == [
        "hello",
        "trip",
        "trip__said",
        "trip__city",
        "trip__city__said",
        "trip__month",
        "trip__month__said",
        "offer",
    ]
    assert node(spec, "trip").prompt == "You book trips. Ask for this: where to go and when to go."
    assert node(spec, "trip__month").prompt == "You book trips. Ask only for what is still missing: when to go."
    assert node(spec, "trip__month").examples == ("Tell me when to go.",)


def test_the_customer_says_all_or_a_part_and_the_words_carry_which() -> None:
    edges = node(expanded().spec, "trip__said").next
    assert [(edge.to, edge.when) for edge in edges] == [
        ("offer", "The customer says where to go ({{city}}) and when to go ({{month}})."),
        ("trip__month", "The customer says where to go ({{city}}), and not when to go."),
        ("trip__city", "The customer says when to go ({{month}}), and not where to go."),
    ]
    assert edges[0].examples == ("To {{city}} and in {{month}}.", "In {{month}} and {{city}} it is.")
    assert edges[2].examples == ("In {{month}}.",)


def test_half_of_the_customers_say_all_that_is_missing() -> None:
    for edge, *others in (each.next for each in expanded({"collects": [CITY, MONTH, NUMBER]}).spec.nodes if each.role == "user"):
        assert edge.weight == max(1, sum(other.weight for other in others))


@pytest.mark.parametrize(("slots", "nodes", "paths"), [(1, 4, 1), (2, 8, 3), (3, 16, 13)])
def test_every_order_is_a_path_and_everything_is_known_behind(slots: int, nodes: int, paths: int) -> None:
    expansion = expanded({"collects": [CITY, MONTH, NUMBER][:slots]})
    analysis = expansion.analyse()
    assert not analysis.errors
    assert (analysis.nodes, analysis.path_count) == (nodes, str(paths))
    unknown = [each for each in analysis.warnings if "may be unknown at this point" in each.problem and "offer" in each.where]
    assert len(unknown) == 3 - slots
    assert not list(check_examples(expansion.spec))


def test_it_has_no_loop_so_a_conversation_asks_for_nothing_twice() -> None:
    graph = Graph(expanded({"collects": [CITY, MONTH, NUMBER]}).spec)
    assert all(len(set(path)) == len(path) for path in graph.paths())


def test_exceptions_of_anywhere_edges_hold_at_each_of_its_turns() -> None:
    leaving = {"to": "person", "when": "The customer asks for a person.", "except": ["trip"]}
    spec = procedure(agent("hello", "trip"), TRIP, end("offer"), end("person"), variables=[CITIES, MONTHS], anywhere=[leaving])
    assert expand("travel", spec, {}).spec.anywhere[0].except_ == ("trip__said", "trip__city__said", "trip__month__said")


def test_a_called_procedure_may_collect_too() -> None:
    call = {"id": "book", "role": "call", "procedure": "travel", "outputs": [{"name": "place", "value": "{{city}}"}]}
    caller = procedure(agent("begin", "book"), call | {"next": [{"to": "bye"}]}, end("bye", prompt="Say {{place}}."), start="begin")
    expansion = expand("caller", caller, {"travel": travel({"collects": [CITY, MONTH, NUMBER]})})
    assert not expansion.analyse().errors
    assert node(expansion.spec, "book__trip__said").next[0].when == (
        "The customer says where to go ({{place}}), when to go ({{book__month}}) and for how many ({{book__people}})."
    )


def test_findings_name_the_node_that_collects() -> None:
    [found] = errors({"next": [{"to": "nowhere"}], "collects": [CITY]})[:1]
    assert found.startswith("node trip, as edge trip__said → nowhere: there is no node 'nowhere'")
    assert found.endswith("[spec.nodes[1].collects]")


WRONG: list[tuple[Json, str]] = [
    ({"collects": []}, "node trip: collects nothing; list the variables that the customer should say [spec.nodes[1].collects]"),
    ({"collects": [CITY, CITY]}, "node trip: collects city more than once; keep one of them [spec.nodes[1].collects[0].variable]"),
    ({"collects": [CITY | {"variable": "town"}]}, "node trip: collects 'town', which is not declared; add it to spec.variables"),
    (
        {"collects": [CITY | {"examples": ["there"]}]},
        "node trip: 'there' does not say {{city}}; write {{city}} where the value stands",
    ),
    ({"examples": ["Where?"]}, "node trip: 'Where?' does not contain {{missing}}, so the agent would ask for what it knows"),
    (
        {"next": [{"to": "offer"}, {"to": "hello"}]},
        "node trip: does not lead on to one node once everything is known; write one edge",
    ),
    ({"outcome": "success"}, "node trip: has outcome, but it only collects variables; remove it [spec.nodes[1].outcome]"),
    ({"role": "agent"}, "node trip: has collects, but its role is not collect; set role: collect, or remove it"),
]


@pytest.mark.parametrize(("changes", "words"), WRONG, ids=[words[:60] for _, words in WRONG])
def test_a_wrong_field_is_named_with_its_fix(changes: Json, words: str) -> None:
    assert [each for each in errors(changes) if each.startswith(words)]


def test_texts_that_get_too_long_are_errors_and_no_crash() -> None:
    long = [slot | {"ask": slot["ask"] + " please" * 26} for slot in (CITY, MONTH, NUMBER)]
    assert "node trip, next[0].when: has 6" in errors({"collects": long})[0]


def test_a_picture_of_it_as_written_has_one_box() -> None:
    text = mermaid(travel())
    assert "collects city, month" in text
    assert "classDef collect" in text
    assert draw_svg(travel(), "travel") is not None


def test_three_details_whose_questions_name_their_variables_are_told_apart() -> None:
    """The conditions of their turns have the same words, with the negation in another place."""
    named = [
        {"variable": "city", "ask": "your city", "examples": ["to {{city}}"]},
        {"variable": "month", "ask": "your month", "examples": ["in {{month}}"]},
        {"variable": "people", "ask": "your people", "examples": ["for {{people}}"]},
    ]
    assert errors({"collects": named}) == []


@pytest.mark.parametrize(
    ("hello", "asked"),
    [
        ("Hola, ¿en qué puedo ayudarle?", "el día y la hora"),
        ("Guten Tag, was kann ich für Sie tun, und wie heißen Sie?", "el día und la hora"),
        ("Bonjour, que puis-je faire pour vous et votre famille ?", "el día et la hora"),
        ("いらっしゃいませ。ご希望の日と時間を教えてください。何時がよろしいでしょうか。", "el día, la hora"),
    ],
)
def test_details_are_joined_in_the_language_of_the_examples(hello: str, asked: str) -> None:
    day, hour = CITY | {"ask": "el día", "examples": ["{{city}}"]}, MONTH | {"ask": "la hora", "examples": ["{{month}}"]}
    spec = procedure(
        agent("hello", "trip", examples=[hello]),
        TRIP | {"examples": ["{{missing}}?"], "collects": [day, hour]},
        end("offer", prompt="{{city}} {{month}} {{people}}", examples=["{{city}}, {{month}}"]),
        variables=[CITIES, MONTHS, PEOPLE],
    )
    found = expand("travel", spec, {}).spec
    assert node(found, "trip").examples == (f"{asked}?",)
    assert (
        node(found, "trip__said").next[0].examples[0] == asked.replace("el día", "{{city}}").replace("la hora", "{{month}}") + "."
    )


@pytest.mark.parametrize(
    ("ask", "city", "month", "asked", "said"),
    [
        ("行き先", "{{city}}に行きたいです。", "{{month}}です", "行き先、行き先", "{{city}}に行きたいです、{{month}}です。"),
        ("where to", "to {{city}}.", "in {{month}}.", "where to and where to", "To {{city}} and in {{month}}."),
        (
            "when",
            "at 9 a.m. in {{city}}",
            "{{month}}, at 5 p.m.",
            "when and when",
            "At 9 a.m. in {{city}} and {{month}}, at 5 p.m.",
        ),
        ("what", "{{city}}", "is {{month}} all right?", "what and what", "{{city}} and is {{month}} all right?"),
    ],
)
def test_details_written_as_sentences_are_one_sentence_with_one_mark_at_its_end(
    ask: str, city: str, month: str, asked: str, said: str
) -> None:
    slots = [CITY | {"ask": ask, "examples": [city]}, MONTH | {"ask": ask, "examples": [month]}]
    hello = "いらっしゃいませ、ご希望をどうぞ" if ask == "行き先" else "Hello, and what can I do for you?"
    spec = procedure(
        agent("hello", "trip", examples=[hello]),
        TRIP | {"examples": ["{{missing}}?"], "collects": slots},
        end("offer", prompt="{{city}} {{month}} {{people}}"),
        variables=[CITIES, MONTHS, PEOPLE],
    )
    found = expand("travel", spec, {}).spec
    assert node(found, "trip").examples == (f"{asked}?",)
    assert node(found, "trip__said").next[0].examples[0] == said
