"""Questions in between with a teacher that is a model: one call writes the customer's words, and the answer is the author's."""

from pathlib import Path

import pytest

from subterra_api.v1alpha1.procedure import ProcedureSpec, Style
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.otherwise import UNKNOWN_QUESTION, answer_texts
from subterra_jobs.generate.cost_estimate import cost_of_writing
from subterra_jobs.generate.dataset import label_row
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.write.writer import messages
from subterra_testkit.runs.generation_inputs import PAID, example, run_input
from subterra_testkit.runs.generation_runs import write_hosted
from subterra_testkit.servers.fake_llm_api import FakeLLMApi


def asking(folder: Path, spec: ProcedureSpec) -> list[ConversationSpec]:
    """Some conversations with questions, one of them without an answer."""
    run = run_input(folder, spec, teacher=PAID, conversations=150)
    planned = [each for each in plan_conversations(spec, run.generation) if each.asked and not each.customer.challenge]
    unknown = next(each for each in planned if UNKNOWN_QUESTION in {asked.name for asked in each.asked})
    return [unknown, *[each for each in planned if each is not unknown][:4]]


@pytest.mark.parametrize("style", [None, Style()], ids=["plain", "styled"])
async def test_the_words_cost_one_call_each_and_nothing_when_they_are_found_again(
    api: FakeLLMApi, tmp_path: Path, style: Style | None
) -> None:
    spec = example("library").model_copy(update={"style": style})
    graph, plan = Graph(spec), asking(tmp_path, spec)
    written = await write_hosted(tmp_path, spec, plan)
    for conversation in written:
        row, chat = label_row(conversation, graph), messages(graph, conversation)[1:]
        assert conversation.drop_reason is None
        assert [each["question"] for each in row["questions"]] == [asked.name for asked in conversation.spec.asked]
        for asked, exchange in zip(conversation.spec.asked, conversation.questions, strict=True):
            place = next(index for index, message in enumerate(chat) if message["content"] == exchange.customer)
            assert row["turns"][place : place + 2] == [[], []]
            assert chat[place + 1]["content"].startswith(answer_texts(spec, asked.name))
    calls, teacher = api.paid, run_input(tmp_path, spec, teacher=PAID).generation.teacher
    assert calls == cost_of_writing(graph, plan, teacher, {}).low.calls
    again = await write_hosted(tmp_path, spec, plan)
    assert api.paid == calls
    assert [each.questions for each in again] == [each.questions for each in written]
