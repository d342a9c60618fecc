"""Which step and outcome a conversation has reached: right, or unknown with the reason."""

import json
import random
from typing import Any

import pytest

from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.sampling import fit_values_to_path, sample_path, sample_values, system_message
from subterra_jobs.dialogue.scripted import chat_messages, scripted_utterances
from subterra_jobs.dialogue.tool_calls import with_calls
from subterra_jobs.evaluate.analysis.served.recorded_chat import MOST_MESSAGES
from subterra_jobs.evaluate.analysis.served.state.conversation_state import ConversationState, StateReader
from subterra_jobs.evaluate.judge.free_words.embedding_labeller import EmbeddingLabeller
from subterra_jobs.evaluate.judge.rule_labeller import RuleLabeller
from subterra_testkit.procedures import PLAN, agent, branch, end, fact_hub, procedure, user, way
from subterra_testkit.runs.generation_inputs import example
from subterra_testkit.runs.word_counts import WordCounts

SHOP = Graph(
    procedure(
        agent("hello", "wish", examples=["Welcome to the shop, what would you like to drink?"]),
        user("wish", branch("sell", "I would like {{count}} {{drink}} please."), branch("human", "I want a person.")),
        agent("sell", "answer", examples=["So {{count}} cups of {{drink}}, shall I pour them now?"]),
        user("answer", branch("done", "Yes, pour them."), branch("human", "I want a person.")),
        end("done", examples=["Here you are, enjoy your cups of {{drink}}!"]),
        end("human", outcome="escalation", examples=["I am connecting you with a colleague."]),
        variables=[
            {"name": "drink", "values": ["green tea", "coffee"]},
            {"name": "count", "type": "integer", "minimum": 1, "maximum": 9},
        ],
    )
)
RULES, SIMILARITY = StateReader(SHOP, RuleLabeller(SHOP)), StateReader(SHOP, EmbeddingLabeller(SHOP, WordCounts()))
WELCOME, WISH = "Welcome to the shop, what would you like to drink?", "I would like 2 green tea please."
POUR, PERSON = "So 2 cups of green tea, shall I pour them now?", "I am connecting you with a colleague."


def chat(*texts: str, system: str = "") -> list[dict[str, Any]]:
    """Messages of a conversation that the agent begins."""
    turns = [{"role": ("assistant", "user")[index % 2], "content": text} for index, text in enumerate(texts)]
    return [{"role": "system", "content": system}, *turns]


@pytest.mark.parametrize("reader", [RULES, SIMILARITY])
def test_a_handover_is_told_by_its_node_and_outcome(reader: StateReader) -> None:
    state = reader.read(chat(WELCOME, WISH, POUR, "I want a person.", PERSON))
    assert state == ConversationState("human", "escalation", True, {"drink": "green tea", "count": "2"})


def test_a_conversation_that_goes_on_has_a_node_and_no_outcome() -> None:
    state = RULES.read(chat(WELCOME, WISH, POUR))
    assert (state.node, state.outcome, state.ended, state.reason) == ("sell", None, False, None)


def test_what_the_customer_says_after_the_last_reply_changes_nothing() -> None:
    assert RULES.read(chat(WELCOME, WISH)) == RULES.read(chat(WELCOME))


def test_what_is_said_after_the_end_leaves_it_ended() -> None:
    for courtesy in ("You are welcome!", "xyzzy"):
        state = SIMILARITY.read(chat(WELCOME, "I want a person.", PERSON, "Thank you.", courtesy))
        assert (state.node, state.outcome, state.ended) == ("human", "escalation", True)


def test_a_reply_like_no_step_is_unknown_and_not_guessed() -> None:
    for reader in (RULES, SIMILARITY):
        state = reader.read(chat(WELCOME, WISH, "xyzzy plugh"))
        assert (state.node, state.outcome, state.ended, state.reason) == (None, None, None, "NotRecognized")


def test_a_reply_that_may_be_either_of_two_steps_is_unknown() -> None:
    """One phrasing ends in success and in escalation, and the customer's words do not tell which was meant."""
    same = "We will call you."
    graph = Graph(
        procedure(
            agent("ask", "answer", examples=["Shall we call you, or is it urgent?"]),
            user("answer", branch("later", "Call me."), branch("now", "It is urgent.")),
            end("later", examples=[same]),
            end("now", outcome="escalation", examples=[same]),
            start="ask",
        )
    )
    reader = StateReader(graph, RuleLabeller(graph))
    opening = "Shall we call you, or is it urgent?"
    assert reader.read(chat(opening, "It is urgent.", same)).outcome == "escalation", "the customer's words tell"
    state = reader.read(chat(opening, "zzz", same))
    assert (state.node, state.reason) == (None, "Ambiguous")
    assert "nearly as likely" in (state.message or "")


def test_an_answer_for_which_the_flowchart_has_no_place_leaves_the_conversation_where_it_was() -> None:
    aside = f"I'm sorry, I can't help with that here. {WELCOME}"
    assert RULES.read(chat(WELCOME, "What is the capital of France?", aside)).node == "hello"


@pytest.mark.parametrize("messages", [[], [{"role": "user", "content": "Hi"}]])
def test_a_conversation_without_a_reply_has_no_step_yet(messages: list[dict[str, Any]]) -> None:
    assert RULES.read(messages).reason == "NoStep"


def test_the_longest_conversations_are_not_read() -> None:
    assert RULES.read(chat(*["Hi"] * MOST_MESSAGES)).reason == "TooLong"


def test_facts_of_the_system_message_decide() -> None:
    both = "Please wait."
    graph = Graph(
        procedure(
            agent("hello", "ask", examples=["Hello."]),
            user("ask", "check", examples=["Help me."]),
            fact_hub("check", way("pro", "Pro", "Business"), way("free")),
            end("pro", outcome="escalation", examples=[both]),
            end("free", examples=[both]),
            variables=[PLAN],
        )
    )
    spec = graph.spec
    nodes = [node.model_copy(update={"examples": ("Let me see.",)}) if node.id == "check" else node for node in spec.nodes]
    reader = StateReader(graph := Graph(spec.model_copy(update={"nodes": tuple(nodes)})), RuleLabeller(graph))
    said = ("Hello.", "Help me.", f"Let me see. {both}")
    assert reader.read(chat(*said, system="plan: Pro")).node == "pro"
    assert reader.read(chat(*said, system="plan: Free")).node == "free"
    assert reader.read(chat(*said)).reason == "Ambiguous"


def test_always_the_same_fields_are_sent() -> None:
    known, unknown = RULES.read(chat(WELCOME)).to_json(), RULES.read([]).to_json()
    assert [*known] == [*unknown] == ["object", "node", "outcome", "ended", "variables", "reason", "message"]


def scripted(graph: Graph, seed: int) -> tuple[tuple[str, ...], dict[str, str], list[dict[str, Any]]]:
    """Path, values and messages of a conversation in the author's words."""
    rng = random.Random(seed)
    path = sample_path(graph, rng)
    values = fit_values_to_path(graph, path, sample_values(graph.spec.variables, rng, unseen=False), rng)
    system = system_message(graph.spec, values)
    whole = chat_messages(system, None, scripted_utterances(graph, path, values, rng))
    turns = list[list[str]]()
    for node in path:
        same = turns and graph.nodes[turns[-1][-1]].speaker == graph.nodes[node].speaker
        turns[-1].append(node) if same else turns.append([node])
    rest = len(whole) - 1 - len(turns)
    messages, _ = with_calls(graph, whole, [*[[]] * rest, *turns], values)
    return path, values, messages


@pytest.mark.parametrize("name", ["travel", "zoom", "orders"])
def test_conversations_in_the_authors_words_are_known_to_their_end(name: str) -> None:
    graph = Graph(example(name))
    reader = StateReader(graph, RuleLabeller(graph))
    for seed in range(12):
        path, values, messages = scripted(graph, seed)
        state = reader.read(messages)
        assert (state.node, state.outcome, state.ended) == (path[-1], graph.nodes[path[-1]].outcome, True), messages
        for variable, value in state.variables.items():
            assert value in values[variable], "a tool returns 381 for $381"


ORDERS = Graph(example("orders"))
CALL = {"id": "c1", "type": "function", "function": {"name": "find_order", "arguments": json.dumps({"order_number": "A12"})}}
ASKED = chat("Hello, what is the number of the order that you are asking about?", "Where is my order A12?")


def test_calls_and_their_results_are_known_exactly() -> None:
    reader = StateReader(ORDERS, RuleLabeller(ORDERS))
    called = [*ASKED, {"role": "assistant", "content": None, "tool_calls": [CALL]}]
    assert reader.read(called) == ConversationState("look_up", None, False, {"order": "A12"})
    answered = [*called, {"role": "tool", "tool_call_id": "c1", "content": '{"error": "not_found"}'}]
    assert reader.read(answered).variables == {"order": "A12", "lookup": "not_found"}


def test_the_result_of_a_call_decides_where_words_do_not() -> None:
    nodes = [
        node.model_copy(update={"examples": ("One moment.",)}) if node.id in ("unknown_order", "no_answer") else node
        for node in ORDERS.spec.nodes
    ]
    graph = Graph(ORDERS.spec.model_copy(update={"nodes": tuple(nodes)}))
    reader = StateReader(graph, RuleLabeller(graph))
    for error, node in (("not_found", "unknown_order"), ("timeout", "no_answer")):
        result = {"role": "tool", "tool_call_id": "c1", "content": json.dumps({"error": error})}
        called = {"role": "assistant", "content": "", "tool_calls": [CALL]}
        assert reader.read([*ASKED, called, result, {"role": "assistant", "content": "One moment."}]).node == node


def test_arguments_that_are_no_json_and_unknown_tools_say_nothing() -> None:
    reader = StateReader(ORDERS, RuleLabeller(ORDERS))
    for function in ({"name": "find_order", "arguments": "{"}, {"name": "other", "arguments": "{}"}):
        state = reader.read([*ASKED, {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "function": function}]}])
        assert state.variables == {}
        assert state.reason == (None if function["name"] == "find_order" else "ToolCall")
