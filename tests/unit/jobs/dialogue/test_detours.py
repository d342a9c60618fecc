"""Detours: what customers say beyond the flowchart stands where it was drawn, is refused, and changes nothing around it."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from subterra_api.job_contract.messages import Generation
from subterra_api.v1alpha1.compilerun import Provider
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.otherwise import otherwise_texts
from subterra_core.procedure.template import render, variables_of
from subterra_jobs.dialogue.detours import (
    OTHERWISE,
    Detour,
    DetourKind,
    detour_index,
    draw_detour,
    otherwise_kind,
    question_of,
    with_detour,
)
from subterra_jobs.dialogue.phrasing.locale_data import LOCALES
from subterra_jobs.dialogue.sampling import held_out as is_held_out
from subterra_jobs.dialogue.scripted import CHAT_ROLE, Utterance, chat_messages
from subterra_jobs.generate.check.branch_audit import audit_branches
from subterra_jobs.generate.dataset import write_dataset
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.write.scripted_teacher import DETOUR_SHARES, ScriptedTeacher, with_typed_openers
from subterra_jobs.generate.write.writer import Writer, messages
from subterra_jobs.generate.written_conversation import Conversation
from subterra_testkit.procedures import agent, branch, end, procedure, user
from subterra_testkit.runs.generation_inputs import example

EXAMPLES = ("travel", "zoom", "insurance")
CONVERSATIONS = 300
GENERATION = Generation(teacher=Provider(), conversations=CONVERSATIONS, seeds=(42,), held_out_percent=10)
WORDS: dict[str, Any] = yaml.safe_load((LOCALES / "en/detours.yaml").read_text("utf-8"))
FIELD: dict[DetourKind, str] = {"off topic": "off_topic", "after end": "after_end"}


@cache
def written(name: str) -> tuple[Conversation, ...]:
    """What the scripted teacher writes for an example."""
    graph = graph_of(name)
    plan = with_typed_openers(graph, plan_conversations(graph.spec, GENERATION))

    async def finished() -> tuple[Conversation, ...]:
        writer = Writer(graph, ScriptedTeacher(graph))
        return tuple([await writer.finish(Conversation(spec)) for spec in plan])

    return asyncio.run(finished())


@cache
def graph_of(name: str) -> Graph:
    return Graph(example(name))


def detoured(*kinds: DetourKind) -> Iterator[tuple[Graph, Conversation, Detour]]:
    """The conversations of all examples that have a detour of one of these kinds."""
    for name in EXAMPLES:
        for each in written(name):
            if each.detour is not None and each.detour.kind in kinds:
                yield graph_of(name), each, each.detour


TRIP = procedure(
    agent("ask", "where", examples=["Hello. Where to?"]),
    user("where", "confirm", examples=["{{city}}"]),
    agent("confirm", "answer", examples=["Oslo it is. Shall I book?"]),
    user("answer", branch("booked", "Yes"), branch("left", "No")),
    end("booked", examples=["It is booked."]),
    end("left", outcome="abandonment", examples=["Goodbye."]),
    start="ask",
    variables=[{"name": "city", "values": ["Oslo", "Rome"]}],
)
SAID = [
    Utterance("ask", "agent", "Hello. Where to?", "where"),
    Utterance("where", "user", "Oslo", "confirm"),
    Utterance("confirm", "agent", "Oslo it is. Shall I book?", "answer"),
    Utterance("answer", "user", "Yes", "booked"),
    Utterance("booked", "agent", "It is booked.", None),
]
STARTS: list[tuple[str | None, bool, list[str]]] = [
    (None, False, []),
    ("Hi", False, ["Hi"]),
    ("Hi", True, ["Hello. Where to?", "Hi"]),
]


@pytest.mark.parametrize(("opener", "greeted", "before"), STARTS, ids=["agent first", "opener", "opener after a greeting"])
@pytest.mark.parametrize(
    ("kind", "at", "place", "answer"),
    [
        ("off topic", 0, 1, "Not here. Where to?"),
        ("off topic", 1, 3, "Not here. Shall I book?"),
        ("unknown value", 1, 3, "Not here. Shall I book?"),
        ("after end", 2, 5, "Not here."),
    ],
)
def test_a_detour_stands_before_the_turn_that_it_was_drawn_for(
    opener: str | None, greeted: bool, before: list[str], kind: DetourKind, at: int, place: int, answer: str
) -> None:
    chat = chat_messages("You help.", opener, SAID, greeted=greeted)
    found = with_detour(chat, Detour(kind, at, "What time is it?", "Not here."), before_path=int(opener is not None))
    said = [each.text for each in SAID]
    expected = ["You help.", *before, *said[:place], "What time is it?", answer, *said[place:]]
    assert [message["content"] for message in found] == expected
    roles = [message["role"] for message in found[1:]]
    assert all(first != second for first, second in pairwise(roles)), "speakers alternate"
    assert chat == chat_messages("You help.", opener, SAID, greeted=greeted), "the chat itself is left alone"


def test_consecutive_turns_of_the_customer_are_one_place() -> None:
    graph = Graph(
        procedure(
            agent("hello", "first", examples=["Yes?"]),
            user("first", "second", examples=["One."]),
            user("second", "bye", examples=["Two."]),
            end(examples=["Bye."]),
        )
    )
    path = ("hello", "first", "second", "bye")
    drawn = [draw_detour(graph, path, {}, "off topic", random.Random(seed), held_out=False) for seed in range(20)]
    assert {detour and detour.at for detour in drawn} == {0}
    assert detour_index(["system", "assistant", "user", "assistant"], Detour("after end", 1, "", ""), 0) == 4


def test_a_customer_who_speaks_first_has_no_question_to_leave_unanswered() -> None:
    graph = Graph(procedure(user("hello", "bye", examples=["Hi, it is me."]), end(examples=["Bye."])))
    path = ("hello", "bye")
    kinds: tuple[DetourKind, ...] = ("off topic", "unknown value")
    assert [draw_detour(graph, path, {}, kind, random.Random(1), held_out=False) for kind in kinds] == [None, None]
    late = draw_detour(graph, path, {}, "after end", random.Random(1), held_out=False)
    assert late is not None
    assert late.at == 1


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_message_of_a_dataset_has_its_nodes_and_detours_and_openers_have_none(name: str, tmp_path: Path) -> None:
    graph, conversations = graph_of(name), written(name)
    write_dataset(graph, conversations, audit_branches(conversations), tmp_path)
    chats = {row["id"]: row["messages"] for file in ("train", "heldout") for row in rows(tmp_path / f"{file}.jsonl")}
    labels = {row["id"]: row for row in rows(tmp_path / "labels.jsonl")}
    assert len(labels) == len(chats) == CONVERSATIONS
    for each in conversations:
        label, chat = labels[each.spec.id], chats[each.spec.id][1:]
        detour = each.detour
        assert label.get("detour") == (detour and detour.kind)
        turns = list(zip(chat, label["turns"], strict=True))
        beyond = [message["content"] for message, nodes in turns if not nodes]
        opener = [each.spec.customer.opener] if each.spec.customer.opener is not None else []
        exchange = [detour.customer, answer_to(detour, chat)] if detour else []
        assert beyond == [*opener, *exchange]
        assert [(message["content"], nodes) for message, nodes in turns if nodes] == spoken(each)
        for message, nodes in turns:
            assert all(CHAT_ROLE[graph.nodes[node].role] == message["role"] for node in nodes)


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def answer_to(detour: Detour, chat: list[dict[str, str]]) -> str:
    """What follows the customer's words."""
    contents = [message["content"] for message in chat]
    return contents[contents.index(detour.customer) + 1]


def spoken(conversation: Conversation) -> list[tuple[str, list[str]]]:
    """The turns of the path with their nodes; a greeting that the opener returned is said twice."""
    by_speaker = [list(group) for _, group in groupby(conversation.utterances, key=lambda each: each.role)]
    turns = [(" ".join(each.text for each in group), [each.node for each in group]) for group in by_speaker]
    return turns[:1] + turns if conversation.spec.customer.greeted else turns


def test_training_says_only_words_of_training_and_evaluation_only_the_others() -> None:
    for field in FIELD.values():
        assert not set(WORDS[field]["train"]) & set(WORDS[field]["held_out"])
    for _, _, detour in detoured("off topic", "after end"):
        assert detour.customer in WORDS[FIELD[detour.kind]]["train"]
    for name in EXAMPLES:
        for index, each in enumerate(written(name)):
            for kind, field in FIELD.items():
                drawn = draw_detour(graph_of(name), each.spec.path, each.spec.values, kind, random.Random(index), held_out=True)
                assert drawn is None or drawn.customer in WORDS[field]["held_out"]


@pytest.mark.parametrize("held_out", [False, True], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_unlisted_value_is_on_no_list_and_on_its_side_of_the_split(name: str, held_out: bool) -> None:
    graph, found = graph_of(name), []
    listed = {value.casefold() for variable in graph.spec.variables for value in variable.values}
    for index, each in enumerate(written(name)):
        spec = each.spec
        detour = draw_detour(graph, spec.path, spec.values, "unknown value", random.Random(index), held_out=held_out)
        if detour is not None:
            found.append(detour)
            assert detour.value.casefold() not in listed
            assert any(is_held_out(variable, detour.value) == held_out for variable in named_variables(graph, spec.values, detour))
            assert detour.value in detour.agent
    assert len({detour.value for detour in found}) > 3


def test_what_the_author_lists_is_never_named_as_unlisted_in_whatever_case() -> None:
    author = [value.upper() for value in WORDS["unlisted_names"][::2]]
    spec = procedure(
        agent("ask", "where", examples=["What?"]),
        user("where", "bye", examples=["{{cause}}"]),
        end(examples=["Bye."]),
        start="ask",
        variables=[{"name": "cause", "values": author}],
    )
    graph, path = Graph(spec), ("ask", "where", "bye")
    values = {"cause": author[0]}
    drawn = [draw_detour(graph, path, values, "unknown value", random.Random(seed), held_out=seed % 2 > 0) for seed in range(200)]
    named = {detour.value for detour in drawn if detour}
    assert len(named) > 10
    assert named <= {*WORDS["unlisted_names"][1::2]}


def named_variables(graph: Graph, values: Mapping[str, str], detour: Detour) -> set[str]:
    """The variables that the customer may mean, by the author's examples for them."""
    lines = [
        line
        for node in graph.spec.nodes
        if node.role == "user"
        for line in (*node.examples, *(line for edge in node.next for line in edge.examples))
    ]
    return {
        name for line in lines for name in variables_of(line) if render(line, {**values, name: detour.value}) == detour.customer
    }


def test_the_agent_refuses_and_repeats_the_question_that_was_left_unanswered() -> None:
    checked = 0
    for graph, each, detour in detoured("off topic", "unknown value"):
        chat = messages(graph, each)
        place = [message["content"] for message in chat].index(detour.customer)
        question = question_of(chat[place - 1]["content"])
        assert chat[place - 1]["content"].endswith(question)
        assert chat[place + 1] == {"role": "assistant", "content": f"{detour.agent} {question}"}
        assert chat[place + 2]["role"] == "user", "the customer then takes the turn that the flowchart has"
        checked += 1
    assert checked > 60


def test_what_comes_after_the_end_is_answered_once_and_asks_nothing() -> None:
    for graph, each, detour in detoured("after end"):
        assert [message["content"] for message in messages(graph, each)[-2:]] == [detour.customer, detour.agent]
        assert detour.agent in otherwise_texts(graph.spec, "afterEnd")


def test_a_reply_is_recognized_exactly_when_it_is_what_a_detour_is_answered_with() -> None:
    for graph, each, detour in detoured(*OTHERWISE):
        chat = messages(graph, each)
        place = [message["content"] for message in chat].index(detour.customer)
        previous, reply = chat[place - 1]["content"], chat[place + 1]["content"]
        assert otherwise_kind(graph.spec, reply, previous) == OTHERWISE[detour.kind]
        for other in (f"{reply} Your order is placed.", f"Well, {reply}", f"{detour.agent} What is your name?", previous):
            assert otherwise_kind(graph.spec, other, previous) is None, other


AUTHORS = {"offTopic": ["Only trips, sorry!"], "unknownValue": ["No trips to {{value}}"], "afterEnd": ["So long."]}


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ("Only trips, sorry! Shall I book?", "offTopic"),
        ("Only trips, sorry!", "offTopic"),
        ("Only  trips,\nsorry! Shall I book?", "offTopic"),
        ("No trips to the moon Shall I book?", "unknownValue"),
        ("No trips to the moon", "unknownValue"),
        ("So long.", "afterEnd"),
        ("I'm sorry, I can't help with that here. Shall I book?", None),
        ("Only trips, sorry! Where to?", None),
        ("Shall I book?", None),
        ("", None),
    ],
)
def test_the_authors_own_texts_take_the_place_of_the_defaults(reply: str, kind: str | None) -> None:
    spec = ProcedureSpec.model_validate(TRIP.model_dump(by_alias=True, exclude_unset=True) | {"otherwise": AUTHORS})
    assert otherwise_kind(spec, reply, "Oslo it is.\nShall  I book?") == kind


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_pilot_has_no_detours_because_its_words_are_audited(name: str) -> None:
    audited = [each for each in written(name) if each.spec.audited]
    assert audited
    assert [each.spec.id for each in audited if each.detour] == []


def test_detours_have_about_their_shares_where_paths_have_a_place_for_them() -> None:
    teacher, graph = ScriptedTeacher(graph_of("zoom")), graph_of("zoom")
    generation = Generation(teacher=Provider(), conversations=2000, seeds=(42,), held_out_percent=10)
    specs = [spec for spec in plan_conversations(graph.spec, generation) if not spec.audited]
    counts = Counter(detour.kind for spec in specs if (detour := teacher.detour(spec)))
    assert counts.keys() == DETOUR_SHARES.keys()
    for kind, share in DETOUR_SHARES.items():
        assert counts[kind] / len(specs) == pytest.approx(share, abs=0.03), kind


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize(("name", "asking"), [("orders", 0.5), ("appointment", 0.5), ("zoom", 0.0)])
def test_after_the_end_half_of_the_customers_of_an_agent_with_tools_ask_for_a_call(
    name: str, asking: float, held_out: bool
) -> None:
    """For a refund, or with another order number: the agent is not to act on it."""
    graph = graph_of(name)
    path = next(spec.path for spec in plan_conversations(graph.spec, GENERATION) if graph.nodes[spec.path[-1]].role == "agent")
    draws = [draw_detour(graph, path, {}, "after end", random.Random(seed), held_out=held_out) for seed in range(400)]
    said = [drawn.customer for drawn in draws if drawn]
    asked = [text for text in said if text not in WORDS["after_end"]["held_out" if held_out else "train"]]
    assert len(asked) / len(draws) == pytest.approx(asking, abs=0.1)
    assert all("{" not in text for text in asked)
    others = WORDS["asks_after_end"]["train" if held_out else "held_out"]
    frames = tuple(frame.partition("{")[0] for frame in others if not frame.startswith("{"))
    assert [text for text in asked if text.startswith(frames)] == []
