"""Composed lines say what the author's examples say: the same act, the same values, in other words."""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

import pytest

from subterra_api.v1alpha1.procedure import ProcedureSpec, Variable
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.template import render, variables_of
from subterra_jobs.dialogue.phrasing.customer_phrasing import ComposedLine, CustomerPhrasing
from subterra_jobs.dialogue.phrasing.phrasebook import load_phrasebook, normal_form
from subterra_jobs.dialogue.phrasing.speech_acts import edge_acts
from subterra_jobs.dialogue.phrasing.spoken_values import value_kind
from subterra_jobs.dialogue.sampling import sample_values
from subterra_jobs.dialogue.scripted import example_templates
from subterra_jobs.errors import InvalidInputError
from subterra_testkit.procedures import agent, branch, end, procedure, shop, user
from subterra_testkit.repository import EXAMPLES
from subterra_testkit.yaml_reader import read_yaml

NAMES = ("travel", "zoom", "insurance")
BOOK = load_phrasebook()
TRAINED = {text for _, found in BOOK.templates() for text in found.train}
HELD_OUT = {text for _, found in BOOK.templates() for text in found.held_out}
FAMILIES = {text: act.family for act in BOOK.acts.values() for text in (*act.train, *act.held_out)}
PARTIES = {
    text: size
    for found in (BOOK.party.sizes, BOOK.party.subjects)
    for size, templates in found.items()
    for text in (*templates.train, *templates.held_out)
}
Turn = tuple[str, str | None]
Line = tuple[Turn, dict[str, str], ComposedLine]


@cache
def graph_of(name: str) -> Graph:
    return Graph(ProcedureSpec.model_validate(read_yaml((EXAMPLES / name / "procedure.yaml").read_text())["spec"]))


def turns_of(graph: Graph) -> list[Turn]:
    nodes = [node for node in graph.spec.nodes if node.role == "user"]
    return [(node.id, edge.to) for node in nodes for edge in node.next]


@cache
def lines_of(name: str, *, held_out: bool) -> tuple[Line, ...]:
    """800 lines, composed once for all tests."""
    return tuple(composed(name, turns_of(graph_of(name)), 800, held_out=held_out))


def composed(name: str, turns: Sequence[Turn], lines: int, *, held_out: bool) -> Iterator[Line]:
    """Lines at these turns of a customer one after the other, small groups among them."""
    graph, rng = graph_of(name), random.Random(f"{name} {held_out}")
    phrasing = CustomerPhrasing(graph, held_out=held_out)
    for number in range(lines):
        values = sample_values(graph.spec.variables, rng, unseen=held_out)
        values |= {"travellers": str(rng.randint(1, 9))} if "travellers" in values else {}
        turn = turns[number % len(turns)]
        yield turn, values, phrasing.compose(*turn, values, rng)


@pytest.mark.parametrize("name", NAMES)
def test_a_held_out_line_uses_no_training_template(name: str) -> None:
    used = {template for _, _, line in lines_of(name, held_out=True) for template in line.templates}
    assert used & TRAINED == set()
    assert len(used & HELD_OUT) > 20


@pytest.mark.parametrize("name", NAMES)
def test_a_training_line_uses_no_held_out_template(name: str) -> None:
    used = {template for _, _, line in lines_of(name, held_out=False) for template in line.templates}
    assert used <= TRAINED
    assert len(used) > 20


@pytest.mark.parametrize("name", NAMES)
def test_the_authors_examples_are_the_majority_in_training(name: str) -> None:
    examples = [line.example for _, _, line in lines_of(name, held_out=False)]
    assert 0.5 < sum(examples) / len(examples) < 0.65


@pytest.mark.parametrize("name", NAMES)
def test_no_held_out_line_is_an_example_of_the_author(name: str) -> None:
    graph = graph_of(name)
    for turn, values, line in lines_of(name, held_out=True):
        assert line.text not in {render(example, values) for example in example_templates(graph, *turn)}


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_every_value_of_the_edge_stands_in_the_line_exactly(name: str, held_out: bool) -> None:
    graph = graph_of(name)
    for turn, values, line in lines_of(name, held_out=held_out):
        sets = [set(variables_of(example)) for example in example_templates(graph, *turn)]
        for variable in set.intersection(*sets):
            people = variable == "travellers" and PARTIES.keys() & set(line.templates)
            assert values[variable] in line.text or people, line


@pytest.mark.parametrize("held_out", [False, True])
def test_a_line_gives_no_value_that_its_edge_does_not_mention(held_out: bool) -> None:
    budgets = [line.text for turn, values, line in lines_of("travel", held_out=held_out) if turn == ("trip", "ask_budget")
               and values["budget"] in line.text]  # fmt: skip
    assert budgets == []


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_an_accepting_edge_never_gets_a_refusing_line(name: str, held_out: bool) -> None:
    """Nor does any other edge get a template of another act than its own."""
    acts = edge_acts(graph_of(name), BOOK)
    for turn, _, line in lines_of(name, held_out=held_out):
        said = {FAMILIES[text] for text in line.templates if text in FAMILIES}
        own = acts.get((turn[0], turn[1] or ""))
        assert said <= ({own.family} if own else set()), line


def test_the_acts_of_the_examples_are_recognized_and_no_others() -> None:
    found = {name: {hop: act.family for hop, act in edge_acts(graph_of(name), BOOK).items()} for name in NAMES}
    assert found == {
        "travel": {
            ("trip", "suggest"): "unsure",
            ("trip", "handover"): "person",
            ("choice", "confirm"): "accept",
            ("choice", "alternatives"): "another",
            ("choice", "goodbye"): "refuse",
            ("choice", "handover"): "person",
            ("confirmation", "booked"): "accept",
            ("confirmation", "alternatives"): "another",
            ("confirmation", "goodbye"): "refuse",
            ("confirmation", "handover"): "person",
        },
        "zoom": {("result", "goodbye"): "refuse"},
        "insurance": {
            ("documents", "withdrawn"): "refuse",
            ("documents", "adjuster"): "person",
            ("answer", "settle_full"): "accept",
            ("answer", "settle_partial"): "accept",
            ("answer", "withdrawn"): "refuse",
            ("answer", "adjuster"): "person",
        },
    }


def hub(*whens: tuple[str, str, list[str]]) -> Graph:
    branches = [branch(to, *examples) | {"when": when} for to, when, examples in whens]
    return Graph(shop(*branches))


@pytest.mark.parametrize(
    ("whens", "recognized"),
    [
        ([("a", "The customer accepts.", ["Yes."]), ("b", "The customer asks for a human.", ["A human, please."])], {"a", "b"}),
        ([("a", "The customer accepts.", ["Yes."]), ("b", "The customer agrees and pays now.", ["OK, now."])], set()),
        ([("a", "The customer accepts.", ["I have a dog."]), ("b", "The customer barks.", ["Woof."])], set()),
        ([("a", "The customer does not want to accept.", ["No, not fine."]), ("b", "The customer barks.", ["Woof."])], set()),
        ([("a", "The customer accepts.", ["Yes."]), ("b", "The customer rejects it.", ["No."])], {"a", "b"}),
        ([("a", "The customer accepts the delay.", ["OK."]), ("b", "The customer asks about something else.", ["Else?"])], set()),
        ([("a", "The customer does not know the number.", ["I don't know."]), ("b", "The customer says no.", ["No."])], set()),
        ([("a", "The customer gives up and asks for a refund.", ["Cancel it."]), ("b", "The customer barks.", ["Woof."])], set()),
        ([("a", "The customer accepts, and pays at once.", ["Yes."]), ("b", "The customer barks.", ["Woof."])], set()),
        ([("a", "The customer declines and does not want another.", ["No."]), ("b", "The customer barks.", ["Woof."])], {"a"}),
        ([("a", "The customer withdraws.", ["Cancel it."]), ("b", "The customer needs nothing else.", ["That is all."])], set()),
    ],
    ids=[
        "clear",
        "siblings of one act",
        "examples of something else",
        "a negation",
        "opposites",
        "bad news",
        "no choice",
        "a request besides",
        "a deed besides",
        "the same twice",
        "a goodbye",
    ],
)
def test_an_act_needs_clear_cues_and_no_sibling_of_its_kind(whens: list[tuple[str, str, list[str]]], recognized: set[str]) -> None:
    assert {to for _, to in edge_acts(hub(*whens), BOOK)} == recognized


@pytest.mark.parametrize("held_out", [False, True])
def test_a_party_composition_is_only_said_for_people_and_counts_them(held_out: bool) -> None:
    graph, sizes = graph_of("travel"), set()
    counted = [turn for turn in turns_of(graph) if any("{{travellers}}" in text for text in example_templates(graph, *turn))]
    for _, values, line in composed("travel", counted, 300 * len(counted), held_out=held_out):
        for party in PARTIES.keys() & set(line.templates):
            assert party.lower() in line.text.lower()
            assert str(PARTIES[party]) == values["travellers"]
            sizes.add(PARTIES[party])
    assert len(sizes) == 8
    for name in ("zoom", "insurance"):
        assert all(not PARTIES.keys() & set(line.templates) for _, _, line in lines_of(name, held_out=held_out))


@pytest.mark.parametrize(
    ("system_prompt", "variable", "kind"),
    [
        ("You book trips.", {"name": "partySize", "type": "integer"}, "people"),
        ("You book trips.", {"name": "n", "type": "integer", "description": "How many people come."}, "people"),
        ("You book trips.", {"name": "price", "type": "integer", "description": "The price of a room for two persons."}, None),
        ("You book trips.", {"name": "guests", "description": "Who comes."}, None),
        ("You book trips.", {"name": "destination", "open": True}, "destination"),
        ("You call taxis.", {"name": "destination", "open": True}, None),
    ],
)
def test_a_kind_of_value_is_recognized_by_name_or_description(
    system_prompt: str, variable: dict[str, object], kind: str | None
) -> None:
    assert value_kind(BOOK, Variable.model_validate(variable), system_prompt) == kind


def test_a_correction_gives_the_right_value_too_and_another_one() -> None:
    corrected = {*BOOK.values.replaced.held_out, *BOOK.values.added.held_out}
    found = 0
    for turn, values, line in lines_of("insurance", held_out=True):
        if turn[0] == "place" and corrected & set(line.templates):
            found += 1
            assert values["town"] in line.text
            assert len(line.text) > 2 * len(values["town"])
    assert found >= 3


def test_what_a_tool_offered_is_not_corrected_from_something_that_it_did_not() -> None:
    corrected = {*BOOK.values.replaced.held_out, *BOOK.values.added.held_out}
    nodes = {turn[0] for turn, _, line in lines_of("appointment", held_out=True) if corrected & set(line.templates)}
    assert nodes == {"number", "visit"}


@pytest.mark.parametrize("held_out", [False, True])
def test_the_number_of_an_order_is_said_in_groups_now_and_then_where_a_tool_needs_it_without(held_out: bool) -> None:
    graph, values = graph_of("orders"), {"order": "7342189"}
    assert forms_of(graph, values, held_out) == {"7342189", "7 342 189", "7 34 21 89", "7-342-189", "7-34-21-89"}
    without = Graph(graph.spec.model_copy(update={"tools": ()}))
    assert forms_of(without, values, held_out) == {"7342189"}, "other procedures keep the conversations that they had"


def forms_of(graph: Graph, values: Mapping[str, str], held_out: bool) -> set[str]:
    """The forms in which a number is said at the first turn."""
    phrasing = CustomerPhrasing(graph, held_out=held_out)
    lines = [phrasing.line("number", "look_up", values, random.Random(seed)) for seed in range(800)]
    return {
        match[0] for line in lines for match in re.finditer(r"\d[\d -]*\d", line) if re.sub(r"\D", "", match[0]) == values["order"]
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_same_random_numbers_give_the_same_lines(name: str) -> None:
    turns = turns_of(graph_of(name))
    assert list(composed(name, turns, 240, held_out=True)) == list(composed(name, turns, 240, held_out=True))


@pytest.mark.parametrize("held_out", [False, True])
def test_a_branch_that_only_its_words_tell_apart_keeps_them(held_out: bool) -> None:
    """All branches of the hub name the device, so no clause about the device stands alone."""
    told = {"audio_fix": {"hear", "microphone", "sound", "1132"}, "video_fix": {"camera", "see", "picture", "video", "2080"}}
    for (node, to), _, line in lines_of("zoom", held_out=held_out):
        if node == "problem" and to in told:
            close = [word for word in normal_form(line.text).split() if any(_alike(word, key) for key in told[to])]
            assert close, line


def _alike(word: str, key: str) -> bool:
    """Equal but for a slip of two letters."""
    return len(set(word) ^ set(key)) <= 2 and abs(len(word) - len(key)) <= 1


def test_a_flowchart_without_variables_and_without_acts_gets_frames_and_slips() -> None:
    graph = Graph(procedure(agent("hello", "ask"), user("ask", "bye", examples=["My dog has eaten the parcel."]), end()))
    phrasing, rng = CustomerPhrasing(graph, held_out=True), random.Random(1)
    lines = {phrasing.line("ask", "bye", {}, rng) for _ in range(60)}
    assert len(lines) > 10
    assert all("dog" in line.lower() and line != "My dog has eaten the parcel." for line in lines)


@pytest.mark.parametrize("example", ["{{code}}", "Hm, {{code}}", "Lisbon?"])
def test_an_example_that_hardly_can_be_varied_is_varied_all_the_same(example: str) -> None:
    graph = Graph(procedure(agent("hello", "ask"), user("ask", "bye", examples=[example]), end(), variables=[CODE]))
    said, rng, phrasing = render(example, {"code": "7"}), random.Random(3), CustomerPhrasing(graph, held_out=True)
    lines = {phrasing.line("ask", "bye", {"code": "7"}, rng) for _ in range(30)}
    assert said not in lines
    assert all(("7" in line) == ("7" in said) for line in lines)


CODE: Mapping[str, object] = {"name": "code", "type": "integer", "minimum": 7, "maximum": 7}


def test_a_node_without_examples_is_named() -> None:
    graph = Graph(procedure(agent("hello", "ask"), user("ask", "bye"), end()))
    with pytest.raises(InvalidInputError, match="node ask has no examples"):
        CustomerPhrasing(graph, held_out=False).line("ask", "bye", {}, random.Random(1))


def test_openers_are_typed_in_a_hurry_and_keep_their_words() -> None:
    phrasing, rng = CustomerPhrasing(graph_of("travel"), held_out=True), random.Random(1)
    for opener in graph_of("travel").spec.openers:
        assert normal_form(phrasing.opener(opener, rng)) == normal_form(opener)
    trained = CustomerPhrasing(graph_of("travel"), held_out=False)
    same = [trained.opener("Hello, I want to book a trip.", rng) == "Hello, I want to book a trip." for _ in range(400)]
    assert 0.6 < sum(same) / len(same) < 0.8


def test_every_turn_of_the_examples_can_be_composed() -> None:
    for name in NAMES:
        graph = graph_of(name)
        assert {turn for turn, _, _ in lines_of(name, held_out=True)} == set(turns_of(graph))
