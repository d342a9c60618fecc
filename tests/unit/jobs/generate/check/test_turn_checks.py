"""What a writer's words are refused for, and that good words are not."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from subterra_api.job_contract.messages import Generation
from subterra_api.v1alpha1.compilerun import Provider
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue import scripted
from subterra_jobs.dialogue.scripted import Utterance
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.generate.check.branch_audit import audit_branches, require_usable
from subterra_jobs.generate.check.near_duplicates import drop_near_duplicates
from subterra_jobs.generate.check.turn_checks import TurnChecker, count_drop_reasons
from subterra_jobs.generate.dataset import write_dataset
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec
from subterra_jobs.generate.plan.customer_style import CustomerStyle, Twist
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.write.scripted_teacher import ScriptedTeacher
from subterra_jobs.generate.write.writer import Writer
from subterra_jobs.generate.written_conversation import Conversation
from subterra_testkit.procedures import PLAN, Json, agent, end, procedure, user
from subterra_testkit.runs.generation_inputs import example

CITY: Json = {"name": "city", "open": True, "values": ["Lisbon", "New York", "York", "Kyoto", "Rome"]}
PRICE: Json = {"name": "price", "type": "integer", "minimum": 300, "maximum": 9900, "formats": ["${value:,}"]}
OFFER: Json = PRICE | {"name": "offer", "visibility": "context"}
VALUES = {"city": "New York", "price": "$1,500", "offer": "$980", "plan": "Pro"}
PATH = ("greet_now", "trip", "offer", "choice", "bye")


def shop(**more: Json) -> ProcedureSpec:
    """An agent asks for city and price and makes an offer."""
    return procedure(
        agent("greet_now", "trip", prompt="Ask where to."),
        user("trip", "offer", prompt="Say that you want to go to {{city}} for {{price}}."),
        agent("offer", "choice", prompt="Offer {{city}} for {{offer}}, paid in 36 rates; 0800 555 is the number for questions."),
        user("choice", {"to": "bye", "when": "The customer takes the offer."}, {"to": "trip", "when": "No, it is too dear."}),
        end(),
        start="greet_now",
        variables=[CITY, PRICE, OFFER, PLAN],
        knowledge=[{"id": "free", "text": "Free of charge until 2400 hours before, see https://shop.example/terms or Rome."}],
        **more,
    )


def fault(
    text: str, position: int, *said: str, manner: CustomerStyle | None = None, spec: ProcedureSpec | None = None
) -> str | None:
    """What is wrong with words at a place of the path, after what was said before."""
    graph = Graph(spec or shop())
    planned = ConversationSpec("s1-000001", 1, PATH, VALUES, "0" * 64, False, manner or CustomerStyle())
    history = [Utterance(node, graph.nodes[node].role, words, None) for node, words in zip(PATH, said, strict=False)]
    return TurnChecker(graph).turn(planned, position, history, text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (" ", "is empty"),
        ("a" * 4001, "is longer than 4000 characters"),
        ("Hello {{city}}", "has a placeholder left"),
        ("Hello [name of the customer], how are you?", "has a placeholder left"),
        ("Customer: hi", "starts with the name of a speaker"),
        ("Good. <decision> yes", "has markup: <decision>"),
        ("<now>You change your mind.</now> Rome after all.", "has markup: <now>"),
        ("See <facts>.", "has markup: <facts>"),
        ("That is **very** good.", "has markup: **"),
        ("Now I go to greet_now.", "names a node: greet_now"),
        ("Куда вы хотите поехать?", "is in the letters of another language than the procedure"),
        ("Where would you like 去旅行 to go?", "is in the letters of another language than the procedure"),
    ],
)
def test_words_that_nobody_would_say_are_refused(text: str, reason: str) -> None:
    assert fault(text, 0) == reason


@pytest.mark.parametrize("text", ["My offer and choice, [1] or [2]: a trip.", "Ein schönes Café für 5 € 🙂, in Москва?"[:26], "OK"])
def test_words_that_are_also_ids_and_letters_of_the_same_script_are_let_pass(text: str) -> None:
    assert fault(text, 0) is None


def test_a_procedure_in_other_letters_is_written_in_these_and_may_name_brands_in_latin_ones() -> None:
    cyrillic = procedure(agent("hello", "bye", prompt="Поздоровайтесь с клиентом."), end(prompt="Попрощайтесь."))
    check = TurnChecker(Graph(cyrillic))
    assert check.utterance("Здравствуйте, это Zoom.") is None
    assert check.utterance("Welcome to our support, how are you?") is not None


def test_a_procedure_that_has_brackets_itself_may_use_them() -> None:
    assert TurnChecker(Graph(procedure(agent("hello", "bye", prompt="Say [sic]."), end()))).utterance("Press [Enter now].") is None


def test_a_customer_does_not_speak_of_the_customer() -> None:
    assert fault("Well: the customer takes the offer!", 3) == "quotes a condition: the customer takes the offer"
    assert fault("No, it is too dear.", 3) is None


@pytest.mark.parametrize(
    ("text", "position", "said"),
    [
        ("I want to go to Lisbon for $1,500.", 1, ()),
        ("Lisbon it is, for $980.", 2, ("Hi.", "New York, $1,500.")),
        ("New York? Rather Kyoto.", 3, ()),
        ("I am on the Business plan, New York please.", 1, ()),
    ],
)
def test_another_conversations_value_is_refused(text: str, position: int, said: Sequence[str]) -> None:
    assert str(fault(text, position, *said)).startswith("names another conversation's value: ")


@pytest.mark.parametrize(
    ("text", "position", "said"),
    [
        ("New York for $1,500, please.", 1, ()),  # York is another value, but within this one
        ("Lisbon and Kyoto are popular.", 0, ()),  # an example, as long as nothing is settled
        ("New York, and not Lisbon, for $980?", 2, ("Hi.", "Lisbon, sorry, New York.")),  # it was said
        ("Rome would be free until 2400 hours before.", 3, ()),  # the procedure's own knowledge
        ("Free is always good, New York then.", 1, ()),  # begins a sentence, and is a word
    ],
)
def test_values_that_have_a_reason_to_be_named_are_let_pass(text: str, position: int, said: Sequence[str]) -> None:
    assert fault(text, position, *said) is None


@pytest.mark.parametrize("kind", ["correction", "digression"])
def test_a_twist_may_name_what_it_takes_back(kind: str) -> None:
    words = "Lisbon for $2,000, no, I mean New York for $1,500."
    assert fault(words, 1, manner=CustomerStyle(twist=Twist(kind, 1, "city"))) is None  # type: ignore[arg-type]
    assert fault(words, 3, manner=CustomerStyle(twist=Twist(kind, 1, "city"))) is not None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "position", "number"),
    [
        ("New York for $1,600.", 1, "1,600"),
        ("I can offer $990 for New York.", 2, "990"),
        ("Your number is 123-456.", 4, "123-456"),
        ("New York for $1,500?", 2, "1,500"),  # the agent was not told it yet
    ],
)
def test_a_number_that_nobody_gave_is_refused(text: str, position: int, number: str) -> None:
    assert fault(text, position) == f"has a number that nobody gave: {number}"


@pytest.mark.parametrize(
    ("text", "position", "said"),
    [
        ("New York for 1500 dollars, $1,500.00 at most.", 1, ()),
        ("1 500 then, for 2 people on 10-14 March, I am 100% sure.", 1, ()),
        ("So $1,500 for New York? I offer $980 in 36 rates, call 0800 555.", 2, ("Hi.", "New York, $1,500.")),
        ("Free until 2400 hours before, in 1080p.", 4, ()),
        ("My room was number 4711.", 3, ()),  # the scenario has no figure for this turn
    ],
)
def test_numbers_that_were_given_are_let_pass_however_they_are_written(text: str, position: int, said: Sequence[str]) -> None:
    assert fault(text, position, *said) is None


def test_an_agent_makes_no_address_up() -> None:
    assert fault("Write to help@shop.example.", 4) == "has an address that nobody gave: help@shop.example"
    assert fault("See https://shop.example/terms.", 4) is None
    assert fault("I write to ann@mail.example then.", 4, "Hi.", "I am ann@mail.example") is None


@pytest.mark.parametrize("name", ["travel", "zoom", "insurance"])
def test_no_wording_of_the_examples_is_taken_for_untrue(name: str) -> None:
    graph = Graph(example(name))
    check = TurnChecker(graph)
    for planned in plan_conversations(
        graph.spec, Generation(teacher=Provider(), conversations=400, seeds=(42,), held_out_percent=10)
    ):
        said = scripted.scripted_utterances(graph, planned.path, planned.values, random.Random(planned.id))
        faults = [check.turn(planned, position, said[:position], each.text) for position, each in enumerate(said)]
        assert set(faults) == {None}


async def test_an_author_may_say_what_a_model_may_not() -> None:
    bold = ("**Good** [sic]. Call 0800 1234 or see www.shop.example.",)
    graph = Graph(procedure(agent("hello", "bye", examples=bold), end(examples=["Bye."])))
    planned = ConversationSpec("s1-000001", 1, ("hello", "bye"), {}, "0" * 64, False, CustomerStyle())
    assert (await Writer(graph, ScriptedTeacher(graph)).finish(Conversation(planned))).drop_reason is None


def conversation(
    number: int, *words: str, dropped: str | None = None, city: str = "Lisbon", held_out: bool = False
) -> Conversation:
    planned = ConversationSpec(f"s1-{number:06d}", 1, PATH, VALUES | {"city": city}, "0" * 64, held_out, CustomerStyle())
    said = tuple(Utterance(node, "agent", text, None) for node, text in zip(PATH, words, strict=False))
    return Conversation(planned, said, dropped)


def test_of_conversations_that_differ_in_values_only_the_first_is_kept() -> None:
    written = [
        conversation(3, "Where to?", "To New York, for 3 people!", city="New York"),
        conversation(1, "Where to?", "to Lisbon for 12 people."),
        conversation(2, "Where to?", "Hm, to Lisbon for 12 people."),
    ]
    assert [each.drop_reason for each in drop_near_duplicates(written)] == [None, None, "repeats another conversation: s1-000001"]


def test_drops_are_counted_by_reason_in_the_message_and_in_the_report(tmp_path: Path) -> None:
    full = ("a", "b", "c", "d", "e")
    written = [conversation(1, *full), conversation(2, *full, held_out=True)]
    faults = ("node trip names a node: ask_budget", "node bye names a node: offer_2", "node bye is empty")
    written += [conversation(number, dropped=fault) for number, fault in enumerate(faults, 3)]
    outcome = write_dataset(Graph(shop()), written, audit_branches(written), tmp_path)
    assert outcome.message.endswith(", 3 dropped (2 names a node, 1 is empty)")
    counts = json.loads((tmp_path / "coverage.json").read_text())["conversations"]
    assert counts == {"train": 1, "heldOut": 1, "dropped": 3, "droppedFor": {"names a node": 2, "is empty": 1}}
    assert count_drop_reasons([]) == {}


def test_when_most_of_the_pilot_is_dropped_the_rest_is_not_written() -> None:
    def piloted(dropped: int) -> list[Conversation]:
        plan = [planned for planned in plan_conversations(example("travel"), GENERATION) if planned.audited]
        fault = "node options has a number that nobody gave: 450"
        return [replace(Conversation(planned), drop_reason=fault if n < dropped else None) for n, planned in enumerate(plan)]

    require_usable(piloted(25))
    with pytest.raises(InvalidInputError, match=r"26 of the first 50 .* node options has a number that nobody gave: 450\. Give"):
        require_usable(piloted(26))


GENERATION = Generation(teacher=Provider(), conversations=200, seeds=(42,), held_out_percent=10)
