"""Labeller, conformance and rule judge: gold dialogues are perfect, and every kind of damage is seen."""

import random
from dataclasses import replace

import pytest
import yaml

from subterra_api.v1alpha1.procedure import Node, ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.graph import Path as NodePath
from subterra_core.procedure.template import render
from subterra_jobs.dialogue.sampling import sample_path, sample_values
from subterra_jobs.dialogue.scripted import chat_messages, scripted_utterances
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.evaluate.judge.conformance import Replay, replay
from subterra_jobs.evaluate.judge.results import Judgement
from subterra_jobs.evaluate.judge.rule_judge import judge_by_rules
from subterra_jobs.evaluate.judge.rule_labeller import RuleLabeller
from subterra_jobs.evaluate.simulate.conversation import Conversation
from subterra_jobs.evaluate.simulate.vllm_client import Reply
from subterra_testkit.repository import ROOT

SPEC = ProcedureSpec.model_validate(yaml.safe_load((ROOT / "examples/travel/procedure.yaml").read_text())["spec"])
GRAPH = Graph(SPEC)
LABELLER = RuleLabeller(GRAPH)
VALUES = {
    "destination": "Ho Chi Minh City",
    "dates": "3 May to 9 May",
    "travellers": "4",
    "budget": "$1,250",
    "wish": "with a pool",
}
DIRECT: NodePath = ("greet", "ask_trip", "trip", "ask_budget", "budget", "options", "choice", "confirm", "confirmation", "booked")
LOOP: NodePath = (*DIRECT[:7], "alternatives", "choice", *DIRECT[7:])
THREE_LOOPS: NodePath = (*DIRECT[:3], "suggest", *DIRECT[1:7], "alternatives", "choice", "options", "choice", *DIRECT[7:])
LEAVING: NodePath = (*DIRECT[:7], "alternatives", "choice", "goodbye")
GOODBYE = "No problem. Thank you for your time, and goodbye!"


def gold(path: NodePath, values: dict[str, str] = VALUES, seed: int = 0) -> tuple[list[str], list[str]]:
    """The agent's and the customer's turns of a conversation without fault."""
    chat = chat_messages("", None, scripted_utterances(GRAPH, path, values, random.Random(seed)))[1:]
    return tuple([m["content"] for m in chat if m["role"] == role] for role in ("assistant", "user"))  # type: ignore[return-value]


def replayed(path: NodePath, replies: list[str], values: dict[str, str] = VALUES) -> Replay:
    return replay(GRAPH, path, values, [LABELLER.label(reply) for reply in replies])


def judged(path: NodePath, replies: list[str], error: str | None = None) -> Judgement:
    dialogue = Conversation((), tuple(Reply(text, 0.1, 10, 5, "stop") for text in replies), error)
    return judge_by_rules(path, gold(path)[1], dialogue, replayed(path, replies))


def spec_of(*nodes: dict[str, object], **fields: object) -> ProcedureSpec:
    return ProcedureSpec.model_validate({"systemPrompt": "Help.", "start": nodes[0]["id"], "nodes": list(nodes), **fields})


@pytest.mark.parametrize("node", [node for node in SPEC.nodes if node.role == "agent"], ids=lambda node: node.id)
def test_every_wording_is_recognised_with_its_values_and_as_no_other_node(node: Node) -> None:
    for text in node.examples:
        labels = LABELLER.label(render(text, VALUES))
        assert [label.nodes for label in labels] == [(node.id,)]
        assert all(VALUES[name] == value for name, value in labels[0].slots)
        assert len(labels[0].slots) == text.count("{{")


@pytest.mark.parametrize("reply", ["", "Hello", "Where would you like", "the the", "Noted, for . What is your budget?", "x" * 5000])
def test_what_is_no_wording_is_not_recognised(reply: str) -> None:
    assert LABELLER.label(reply) == []


def test_a_hostile_reply_does_not_make_matching_slow() -> None:
    assert LABELLER.label("To confirm: " + "a, " * 650) == []


def test_several_agent_nodes_in_one_reply_are_told_apart() -> None:
    spec = spec_of(
        {"id": "hello", "role": "agent", "prompt": "x", "examples": ["Hello."], "next": [{"to": "ask"}]},
        {"id": "ask", "role": "agent", "prompt": "x", "examples": ["Your name?", "Who is there?"], "next": [{"to": "name"}]},
        {"id": "name", "role": "user", "examples": ["{{name}}"], "next": [{"to": "bye"}]},
        {"id": "bye", "role": "agent", "prompt": "x", "examples": ["Hello."], "outcome": "success"},
        variables=[{"name": "name", "values": ["Ann"]}],
    )
    graph = Graph(spec)
    labeller = RuleLabeller(graph)
    assert [label.nodes for label in labeller.label("Hello. Who is there?")] == [("hello", "ask")]
    # "Hello." alone may be either node; the replay takes the one that is due.
    assert {label.nodes for label in labeller.label("Hello.")} == {("hello",), ("bye",)}
    path = ("hello", "ask", "name", "bye")
    assert replay(graph, path, {}, [labeller.label("Hello. Your name?"), labeller.label("Hello.")]).conformant
    assert not replay(graph, path, {}, [labeller.label("Hello."), labeller.label("Hello.")]).conformant


def test_an_agents_node_without_examples_is_named() -> None:
    silent: dict[str, object] = {"id": "b", "role": "agent", "prompt": "x", "outcome": "success"}
    spec = spec_of({"id": "a", "role": "user", "next": [{"to": "b"}]}, silent)
    with pytest.raises(InvalidInputError, match="node b has no examples, which the rule judge needs"):
        RuleLabeller(Graph(spec))


@pytest.mark.parametrize("seed", range(100))
def test_gold_dialogues_are_conformant_and_exact(seed: int) -> None:
    rng = random.Random(seed)
    path, values = sample_path(GRAPH, rng), sample_values(SPEC.variables, rng, unseen=seed % 2 == 1)
    found = replayed(path, gold(path, values, seed)[0], values)
    assert found.conformant
    assert found.violation is None
    assert all(mention.exact for mention in found.mentions)


def test_a_wrong_node_is_found_at_its_hub() -> None:
    replies = gold(LOOP)[0]
    replies[3] = gold(DIRECT)[0][3]  # the summary instead of an alternative
    wrong = replayed(LOOP, replies).violation
    assert wrong is not None
    assert (wrong.turn, wrong.hub, wrong.expected, wrong.got) == (3, "choice", ("alternatives",), ("confirm",))


def test_a_skipped_node_is_found() -> None:
    replies = gold(DIRECT)[0]
    wrong = replayed(DIRECT, [*replies[:3], replies[4], replies[4]]).violation
    assert wrong is not None
    assert (wrong.hub, wrong.expected, wrong.got) == ("choice", ("confirm",), ("booked",))


def test_a_wrong_terminal_is_found() -> None:
    found = replayed(DIRECT, [*gold(DIRECT)[0][:-1], GOODBYE])
    assert (found.conformant, found.reached, found.arrived) == (False, "goodbye", False)
    assert found.violation is not None
    assert found.violation.expected == ("booked",)


def test_a_conversation_that_is_too_short_has_not_arrived() -> None:
    found = replayed(DIRECT, gold(DIRECT)[0][:-1])
    assert (found.conformant, found.reached) == (False, None)


def test_a_wrong_value_is_found_although_the_steps_are_right() -> None:
    replies = [reply.replace("$1,250", "$1,350") for reply in gold(DIRECT)[0]]
    found = replayed(DIRECT, replies)
    wrong = [mention for mention in found.mentions if not mention.exact]
    assert found.conformant
    assert {(mention.variable, mention.said, mention.meant) for mention in wrong} == {("budget", "$1,350", "$1,250")}


def test_a_perfect_conversation_has_full_marks_and_no_more_than_three_without_challenge() -> None:
    assert set(judged(LOOP, gold(LOOP)[0]).scores.values()) == {5}
    direct = judged(DIRECT, gold(DIRECT)[0])
    assert (direct.scores["gracefulHandling"], direct.challenged) == (3, False)
    assert not direct.failed


@pytest.mark.parametrize(
    ("replies", "score"),
    [
        (gold(DIRECT)[0], 5),
        ([*gold(DIRECT)[0][:2], "Pardon?", *gold(DIRECT)[0][3:]], 4),
        ([*gold(DIRECT)[0][:-1], GOODBYE], 3),
        ([*gold(DIRECT)[0][:3], *gold(DIRECT)[0][4:], GOODBYE], 3),
        ([*gold(DIRECT)[0][:-1], "Pardon?"], 2),
        (["Pardon?"] * 6, 1),
    ],
    ids=["conformant", "recovered", "wrong terminal", "too early", "no terminal", "nothing"],
)
def test_task_success(replies: list[str], score: int) -> None:
    found = judged(DIRECT, replies)
    assert found.scores["taskSuccess"] == score
    assert found.failed == (score <= 3)


@pytest.mark.parametrize(
    ("wrong", "score"),
    [
        ({}, 5),
        ({"destination": 1}, 4),
        ({"destination": 3}, 3),
        ({"destination": 4, "budget": 2}, 2),
        (dict.fromkeys(VALUES, 9), 1),
    ],
)
def test_information_accuracy_follows_the_share_of_exact_values(wrong: dict[str, int], score: int) -> None:
    replies = []
    for reply in gold(LOOP)[0]:
        for name, left in wrong.items():
            if left and VALUES[name] in reply:
                reply, wrong = reply.replace(VALUES[name], "Elsewhere"), {**wrong, name: left - 1}  # noqa: PLW2901
        replies.append(reply)
    found = replayed(LOOP, replies)
    exact = sum(mention.exact for mention in found.mentions) / len(found.mentions)
    floor = {5: 1, 4: 0.9, 3: 0.75, 2: 0.5, 1: 0}[score]
    assert judged(LOOP, replies).scores["informationAccuracy"] == score, exact
    assert exact >= floor


def test_a_contradiction_weighs_more_than_a_repeated_question() -> None:
    replies = gold(DIRECT)[0]
    contradiction = [*replies[:2], replies[2].replace("Ho Chi Minh City", "Rome"), *replies[3:]]
    repeated = [*replies[:2], replies[1], *replies[3:]]
    assert judged(DIRECT, contradiction).scores["consistency"] == 3
    assert judged(DIRECT, repeated).scores["consistency"] == 4
    assert judged(DIRECT, ["?"] * 6).scores["consistency"] == 1


def test_asking_again_is_no_repetition_where_the_procedure_wants_it() -> None:
    path = (*DIRECT[:3], "suggest", *DIRECT[1:])
    assert judged(path, gold(path)[0]).scores["consistency"] == 5


@pytest.mark.parametrize(
    ("path", "wrong", "score"),
    [
        (LOOP, [], 5),
        (LOOP, [5], 4),
        (THREE_LOOPS, [4], 3),
        (LOOP, [3], 2),
        (LEAVING, [3, 4], 1),
    ],
    ids=["all right", "lost after the loop", "most right", "lost in the loop, then back", "lost for good"],
)
def test_graceful_handling_looks_at_the_replies_inside_loops(path: NodePath, wrong: list[int], score: int) -> None:
    replies = ["Pardon?" if at in wrong else reply for at, reply in enumerate(gold(path)[0])]
    found = judged(path, replies)
    assert (found.scores["gracefulHandling"], found.challenged) == (score, True)


def test_naturalness_counts_garbled_stuck_and_cut_replies() -> None:
    replies = gold(DIRECT)[0]
    stuck = [reply.replace("Ho Chi Minh City", "Ho Chi Minh Chi Minh") for reply in replies]
    assert judged(DIRECT, stuck).scores["naturalness"] == 1
    assert judged(DIRECT, [*replies[:-1], "bla"]).scores["naturalness"] == 3
    cut = Conversation((), tuple(replace(Reply(text, 0.1, 1, 1, "stop"), finish_reason="length") for text in replies))
    assert judge_by_rules(DIRECT, gold(DIRECT)[1], cut, replayed(DIRECT, replies)).scores["naturalness"] == 1


def test_a_name_that_repeats_itself_is_no_fault() -> None:
    values = {**VALUES, "destination": "Bora Bora"}
    replies, lines = gold(DIRECT, values)
    dialogue = Conversation((), tuple(Reply(text, 0.1, 1, 1, "stop") for text in replies))
    assert judge_by_rules(DIRECT, lines, dialogue, replayed(DIRECT, replies, values)).scores["naturalness"] == 5


def test_a_conversation_that_broke_off_has_failed_on_everything() -> None:
    assert set(judged(DIRECT, gold(DIRECT)[0][:3], error="the server answered 400").scores.values()) == {1}
