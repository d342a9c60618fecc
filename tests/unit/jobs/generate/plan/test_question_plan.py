"""Questions in between: planned often enough, at all turns, and without a change to what is planned anyway."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from subterra_api.job_contract.messages import Generation
from subterra_api.v1alpha1.compilerun import Provider
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.otherwise import UNKNOWN_QUESTION, answer_texts
from subterra_jobs.generate.cost_estimate import estimate_cost
from subterra_jobs.generate.dataset import label_row
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec
from subterra_jobs.generate.plan.coverage import measure_coverage
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.plan.question_plan import LEAST, PER_CONVERSATION
from subterra_jobs.generate.write.prompts import Prompts
from subterra_jobs.generate.write.scripted_teacher import ScriptedTeacher
from subterra_jobs.generate.write.styled_prompts import prompts_for
from subterra_jobs.generate.write.writer import Writer, messages
from subterra_jobs.generate.written_conversation import Conversation
from subterra_testkit.procedures import agent, branch, end, procedure, user


def questions(count: int, **more: Any) -> list[dict[str, Any]]:
    return [
        {"id": f"q{each}", "question": f"What {each} is.", "examples": [f"What is {each}?"], "answer": f"It is {each}."} | more
        for each in range(count)
    ]


def shop(**more: Any) -> ProcedureSpec:
    return procedure(
        agent("hello", "order", examples=["Hello. What would you like?"]),
        user("order", branch("size", "A shirt.", "One shirt."), branch("bye", "Nothing.", "No, nothing.")),
        agent("size", "say_size", examples=["Good. Which size?"]),
        user("say_size", "again", examples=["{{size}}", "{{size}}, please."]),
        agent("again", "more", examples=["One in {{size}}. Anything else?"]),
        user("more", branch("size", "Another one."), branch("bye", "That's all.", "No.")),
        end(examples=["Goodbye."]),
        variables=[{"name": "size", "values": ["S", "M", "L"]}],
        **more,
    )


def plan(spec: ProcedureSpec, conversations: int = 200) -> list[ConversationSpec]:
    return plan_conversations(spec, generation(conversations))


def generation(conversations: int = 200, teacher: Provider | None = None) -> Generation:
    return Generation(teacher=teacher or Provider(), conversations=conversations, seeds=(42,), held_out_percent=10)


def test_paths_values_and_split_are_those_of_the_procedure_without_questions() -> None:
    assert [replace(each, asked=()) for each in plan(shop(questions=questions(5)))] == plan(shop())


def test_each_question_is_in_enough_training_conversations_and_at_every_turn_where_it_is_open() -> None:
    spec = shop(
        questions=[*questions(4), *questions(1, id="q4", question="What else.", examples=["Else?"], **{"except": ["order"]})]
    )
    planned = plan(spec)
    assert min(measure_coverage(Graph(spec), planned).questions.values()) >= LEAST
    places = {name: {each.path[a.position] for each in planned for a in each.asked if a.name == name} for name in ("q0", "q4")}
    assert places == {"q0": {"order", "say_size", "more"}, "q4": {"say_size", "more"}}
    assert any(a.name == UNKNOWN_QUESTION for each in planned for a in each.asked)
    assert max(len(each.asked) for each in planned) <= PER_CONVERSATION
    assert sum(bool(each.asked) for each in planned) <= len(planned) / 2


def test_the_plan_names_questions_that_are_too_rare() -> None:
    spec = shop(questions=questions(100))
    coverage = measure_coverage(Graph(spec), plan(spec, 60))
    assert coverage.gaps.startswith("questions asked in fewer than 6 conversations: ")
    assert "raise generation.conversations" in coverage.gaps
    assert coverage.to_dict()["questions"] == coverage.questions


def test_the_agent_answers_asks_again_and_the_labels_have_no_step_for_it() -> None:
    spec = shop(questions=questions(3))
    graph = Graph(spec)
    writer, seen = Writer(graph, ScriptedTeacher(graph)), 0
    for planned in plan(spec):
        written = asyncio.run(writer.finish(Conversation(planned)))
        said, label = messages(graph, written)[1:], label_row(written, graph)
        assert [node for nodes in label["turns"] for node in nodes][-len(planned.path) :] == [*planned.path]
        if not planned.asked or written.detour is not None:
            continue
        assert label["questions"] == [{"question": a.name, "before": planned.path[a.position]} for a in planned.asked]
        answered = [turn for turn, nodes in enumerate(label["turns"]) if not nodes and said[turn]["role"] == "assistant"]
        assert len(answered) == len(planned.asked)
        for turn in answered:
            assert any(said[turn]["content"].startswith(text) for a in planned.asked for text in answer_texts(spec, a.name))
            assert said[turn]["content"].rsplit(". ", 1)[-1].endswith(said[turn - 2]["content"].rsplit(". ", 1)[-1])
            seen += 1
    assert seen >= 3 * LEAST


def test_a_customer_who_speaks_first_may_begin_with_a_question() -> None:
    spec = procedure(
        user("ask", "tell", examples=["Where is my parcel?"]),
        end("tell", examples=["It is on its way."]),
        start="ask",
        questions=questions(1),
    )
    graph = Graph(spec)
    planned = next(each for each in plan(spec, 100) if [a.name for a in each.asked] == ["q0"])
    said = messages(graph, asyncio.run(Writer(graph, ScriptedTeacher(graph)).finish(Conversation(planned))))
    assert said[2]["content"] == "It is 0. What can I do for you?"
    assert said[3] == {"role": "user", "content": said[3]["content"]}


@pytest.mark.parametrize("style", [None, {}], ids=["plain", "styled"])
def test_a_model_is_asked_for_the_customers_words_of_each_question_and_its_other_prompts_stay(style: dict[str, Any] | None) -> None:
    graph = Graph(shop(questions=questions(2), style=style))
    plain = prompts_for(Graph(shop(style=style)))
    prompts: Prompts = prompts_for(graph)
    planned = next(each for each in plan(graph.spec) if each.asked and each.asked[0].name == "q0")
    text = prompts.question(planned, planned.asked[0], []).messages[0]["content"]
    assert "What 0 is." in text and "What is 0?" in text and "It is 0." not in text
    assert prompts.turn(planned, 0, []) == plain.turn(planned, 0, [])


def test_the_estimate_counts_a_call_for_each_question_with_an_answer() -> None:
    spec, teacher = shop(questions=questions(2)), Provider(name="anthropic", model="claude-sonnet-4-5")
    planned = plan(spec)
    asked = sum(a.name != UNKNOWN_QUESTION for each in planned for a in each.asked)
    calls = [
        estimate_cost(Graph(spec), generation(teacher=teacher), {}, specs).parts[0].low.calls for specs in (planned, plan(shop()))
    ]
    assert calls[0] - calls[1] == asked > 0
