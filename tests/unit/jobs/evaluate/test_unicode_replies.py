"""Replies and customers' words in another Unicode form than the author's: the same steps, values and states."""

from unicodedata import normalize

import pytest

from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.detours import otherwise_kind
from subterra_jobs.dialogue.similarity.mentioned_values import mentioned_values
from subterra_jobs.dialogue.tool_calls import Call, same_call
from subterra_jobs.evaluate.analysis.served.state.chat_values import ValueReader
from subterra_jobs.evaluate.analysis.served.state.conversation_state import ConversationState, StateReader
from subterra_jobs.evaluate.judge.conformance import replay
from subterra_jobs.evaluate.judge.fabrication import ReplyReader
from subterra_jobs.evaluate.judge.rule_judge import consistency, information_accuracy
from subterra_jobs.evaluate.judge.rule_labeller import RuleLabeller
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.conversation import Conversation
from subterra_testkit.procedures import agent, branch, end, fact_hub, procedure, user, way

HOTEL = procedure(
    agent("hello", "wish", examples=["Schön, wie heißen Sie?"]),
    user("wish", branch("room", "Ich bin’s, {{name}}, für {{nights}} Nächte."), branch("bar", "Ich hätt' gern ein Getränk.")),
    fact_hub("room", way("done", "Café"), way("bar"), fact="place", examples=["{{name}}, das wär’s: {{nights}} Nächte."]),
    end("done", examples=["Auf Wiederhören, {{name}}!"]),
    end("bar", examples=["Zur Bar geht’s rechts."]),
    variables=[
        {"name": "name", "values": ["Zoë O’Brien", "Jürgen Groß"]},
        {"name": "nights", "type": "integer", "minimum": 1, "maximum": 20},
        {"name": "place", "values": ["Café", "Bar"], "visibility": "context"},
    ],
    otherwise={"offTopic": ["Dafür bin ich leider nicht zuständig."]},
)
GRAPH, LABELLER = Graph(HOTEL), RuleLabeller(Graph(HOTEL))
VALUES = {"name": "Zoë O’Brien", "nights": "12", "place": "Café"}
REPLIES = ["Schön, wie heißen Sie?", "Zoë O'Brien, das wär's: 12 Nächte. Auf Wiederhören, Zoë O’Brien!"]
WISH = "Ich bin's, Zoë O'Brien, für 12 Nächte."
FORMS = {
    "as written": str,
    "taken apart": lambda text: normalize("NFD", text),
    "wide digits": lambda text: text.replace("12", "１２"),
    "curly quotes": lambda text: text.replace("'", "’"),
    "hard spaces": lambda text: text.replace(" ", "\u00a0"),
}
every_form = pytest.mark.parametrize("form", FORMS)


@every_form
def test_the_rules_find_the_steps_and_every_value_exact(form: str) -> None:
    labels = [LABELLER.label(FORMS[form](reply)) for reply in REPLIES]
    replayed = replay(GRAPH, ("hello", "wish", "room", "done"), VALUES, labels)
    assert (information_accuracy(replayed), consistency(replayed)) == (5, 5)
    assert [mention.variable for mention in replayed.mentions] == ["name", "nights", "name"]


@every_form
def test_what_was_given_in_one_form_is_not_made_up_in_another(form: str) -> None:
    chat = ({"role": "user", "content": WISH}, {"role": "assistant", "content": FORMS[form](REPLIES[1])})
    scenario = Scenario("s", False, ("hello", "wish", "room", "done"), VALUES, None, (WISH,), False)
    found = ReplyReader(GRAPH).assertions(scenario, Conversation(chat, ()))
    assert [each.given for each in found] == [True, True, True]


@every_form
def test_values_in_free_words_are_the_customers(form: str) -> None:
    said = mentioned_values(FORMS[form]("Gut, Zoë O'Brien, 12 also."), HOTEL.variables, VALUES)
    assert dict(said) == {"name": "Zoë O’Brien", "nights": "12"}


@every_form
def test_the_state_is_the_same_and_has_the_values_that_were_written(form: str) -> None:
    write = FORMS[form]
    system = {"role": "system", "content": write("place: Café")}
    turns = [("assistant", REPLIES[0]), ("user", WISH), ("assistant", REPLIES[1])]
    chat = [system, *({"role": role, "content": write(text)} for role, text in turns)]
    state = StateReader(GRAPH, LABELLER).read(chat)
    assert isinstance(state, ConversationState)
    assert (state.node, set(state.variables or ())) == ("done", {"name", "nights", "place"})


def test_an_aside_is_known_in_any_form() -> None:
    assert otherwise_kind(HOTEL, normalize("NFD", "Dafür bin ich leider nicht zuständig."), "") == "offTopic"


def test_a_call_is_right_with_letters_in_any_form_and_not_with_other_digits() -> None:
    assert same_call(Call("book", {"name": "Zoë"}), Call("book", {"name": normalize("NFD", "Zoë")}))
    assert not same_call(Call("book", {"room": "12"}), Call("book", {"room": "１２"}))


def test_a_listed_result_decides_in_any_form() -> None:
    look_up = {"id": "look", "role": "tool", "tool": "find", "decidedBy": "fact", "fact": "state"}
    spec = procedure(
        agent("hello", "look"),
        look_up | {"next": [way("bye", "Geöffnet"), way("shut")]},
        end(),
        end("shut"),
        tools=[{"name": "find", "results": ["state"]}],
        variables=[{"name": "state", "values": ["Geöffnet", "zu"], "visibility": "result"}],
    )
    call = {"id": "1", "function": {"name": "find", "arguments": "{}"}}
    result = {"role": "tool", "tool_call_id": "1", "content": normalize("NFD", '{"state": "Geöffnet"}')}
    assert ValueReader(spec).facts([{"role": "assistant", "tool_calls": [call]}, result]) == {"state": "Geöffnet"}
